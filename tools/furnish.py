"""Fill a server with a little of everything, and tell the address of every page.

Used by ``./dev shots`` and by the tests that walk all pages.
"""

import tempfile
from pathlib import Path

from millpond.client.client import Client

ROOT = Path(__file__).parents[1]
PROJECT = "lakes"
_TEXTS = {
    "north/one.txt": "The pond lay still. A heron stood in the reeds and waited.\n" * 40,
    "north/two.txt": "Rain came over the hills and the lake rose by a hand.\n" * 30,
    "south/three.txt": "In spring the mill turned again; the miller sang.\n" * 25,
}
_TABLE = "name,area_km2,depth_m\nBaikal,31722,1642\nTanganyika,32600,1470\nBodensee,536,251\n"
_BROKEN = """from millpond import Files, Table, pipeline, step


@step(map=True, retries=0)
def look(files: Files) -> Table:
    for file in files:
        print("looking at", file.name)
        raise ValueError("this lake has no bottom")
        yield {}


@pipeline
def broken(files: Files) -> Table:
    "Fail at the first file\\n\\nTo see how a failure is told."
    return look(files)
"""


def furnish(client: Client) -> dict[str, str]:
    """Make a project with data, pipelines, runs and all; give the names in pages' addresses."""
    client.projects.make(PROJECT, "What is written about lakes.")
    given = {"project": PROJECT}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts"
        for name, text in _TEXTS.items():
            path = texts / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (texts / "depths.csv").write_text(_TABLE)
        dataset = client.datasets.push(texts, "texts", **given).version
        code = Path(folder) / "broken"
        code.mkdir()
        (code / "pipeline.py").write_text(_BROKEN)
        client.pipelines.push(code, "broken", **given)
    client.pipelines.push(ROOT / "examples" / "wordcount", "wordcount", **given)
    versions = {
        name: client.pipelines.wait(name, **given).address for name in ("wordcount", "broken")
    }
    environment = client.environments.make("plain", "", **given)
    client.environments.wait(environment.address, **given)
    good = client.runs.start(versions["wordcount"], {"data": dataset.address}, **given)
    bad = client.runs.start(versions["broken"], {"files": dataset.address}, **given)
    for run in (good, bad):
        client.runs.wait(run.id, **given)
    client.secrets.set("API_KEY", "not to be told", **given)
    return {
        "project": PROJECT,
        "dataset": "texts",
        "pipeline": "wordcount",
        "environment": "plain",
        "run": good.id,
        "failed_run": bad.id,
        "job": client.jobs.list(most=1)[0].id,
        "user": client.account.me().user.name,
    }
