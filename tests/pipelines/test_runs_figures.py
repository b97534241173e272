"""What the tasks of a run take while they run: on its page, over REST, on the command line."""

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.conftest import PortalSite

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.machines.running import TaskNow
from millpond.pipelines.runs.owners import owners_of
from millpond.pipelines.values import Task

AT = "/projects/birds/runs"
HELD = 40 << 20
CODE = f"""
import os, time
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, memory="256 MiB", slots=0.5)
def look(files: Files, pause: float) -> Table:
    held = bytearray(os.urandom(1 << 20)) * {HELD >> 20}
    end = time.monotonic() + pause
    while time.monotonic() < end:
        pass
    for file in files:
        yield {{"size": file.size}}

@pipeline
def lakes(files: Files, pause: float = 0.0):
    return {{"sizes": look(files, pause)}}
"""


def words(text: str) -> str:
    shown = re.sub(r"<(script|style|noscript).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(shown).split())


def until(look: Callable[[], Any]) -> Any:
    """Look again and again; the test's own limit of time ends it."""
    while not (found := look()):
        pass
    return found


@pytest.fixture
def client(portal_site: PortalSite, tmp_path: Path) -> Iterator[Client]:
    code, data = tmp_path / "code", tmp_path / "sets"
    for path, text in ((code / "pipeline.py", CODE), (data / "one.txt", "1"), (data / "2.txt", "")):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    with Client(portal_site.url, portal_site.token("editor"), project="birds") as made:
        made.pipelines.push(code, "lakes")
        made.datasets.push(data, "data")
        made.pipelines.wait("lakes")
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_runs_is_shown_with_what_it_takes(
    portal_site: PortalSite, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = client.runs.start("lakes", {"files": "data"}, {"pause": 600.0})

    def measured() -> list[Task]:
        found = client.runs.tasks(run.id, state="running")
        return [each for each in found if each.now and each.now.cpu_cores]

    task = until(measured)[0]
    assert task.node == task.now.node == "local"
    assert task.now.key == f"{run.id}/look/{task.partition}/1"
    assert HELD < task.now.memory_bytes < 256 << 20
    assert task.now.memory_limit_bytes == 256 << 20
    assert task.now.slots == 0.5
    assert 0 < task.now.cpu_cores < 2

    # Another machine that speaks of the same task adds nothing.
    portal_site.house.cluster.tasks.hear(
        "owl", [{"key": task.now.key, "memory_bytes": 1 << 40, "cpu": 99}]
    )
    with portal_site.browser("viewer") as http:
        seen = words(http.get(f"{AT}/{run.id}").text)
        assert re.search(r"Running now 2 tasks on local: \d\.\d cores, [\d.]+ MB of memory", seen)
        assert "given out" in seen

        def unmeasured() -> bool:
            portal_site.house.cluster.tasks.forget("local")
            seen = words(http.get(f"{AT}/{run.id}").text)
            return "waits or begins" in seen and "given out" not in seen

        until(unmeasured)
        until(measured)
        part = http.get(f"{AT}/{run.id}/now")
        assert part.text.strip().startswith("<section")
        assert 'data-every="5"' in part.text
        assert f'data-from="{AT}/{run.id}/now"' in part.text
        assert re.search(r"look \d local \d\.\d\d of 0\.5 [\d.]+ MB of 268 MB", words(part.text))
        assert http.get("/admin/monitor/local/tasks").status_code == 403
    with portal_site.browser("stranger") as http:
        assert http.get(f"{AT}/{run.id}/now").status_code == 404
    with portal_site.browser("root") as http:
        whole = words(http.get("/admin/monitor/local").text)
        assert "Running there now" in whole
        told = words(http.get("/admin/monitor/local/tasks").text)
        assert re.search(r"lakes@1 look, partition \d birds editor \d\.\d\d of 0\.5", told)

    monkeypatch.setenv("MILLPOND_URL", portal_site.url)
    monkeypatch.setenv("MILLPOND_TOKEN", portal_site.token("editor"))
    monkeypatch.setenv("MILLPOND_CONFIG", str(tmp_path / "none.toml"))
    listed = CliRunner().invoke(cli, ["run", "tasks", run.id, "-p", "birds"])
    assert re.search(r"[\d.]+ cores, [\d.]+ MB of 268 MB", listed.output), listed.output
    monkeypatch.setenv("MILLPOND_TOKEN", portal_site.token("root"))
    shown = CliRunner().invoke(cli, ["monitor", "local"])
    line = rf"Runs there now: birds/{run.id}, lakes@1, look \d, by editor: [\d.]+ cores, "
    assert re.search(line, shown.output + shown.stderr), shown.output

    client.runs.cancel(run.id)
    client.runs.wait(run.id)
    assert [each.now for each in client.runs.tasks(run.id)] == [None, None]
    with portal_site.browser("viewer") as http:
        assert http.get(f"{AT}/{run.id}/now").text.strip() == ""
        assert "run-now" not in http.get(f"{AT}/{run.id}").text


def test_a_machine_that_speaks_of_anothers_task_changes_nothing_of_it(
    portal_site: PortalSite, client: Client
) -> None:
    ended = client.runs.wait(client.runs.start("lakes", {"files": "data"}).id)
    key = f"{ended.id}/look/0/1"
    portal_site.house.cluster.tasks.hear("owl", [{"key": key, "memory_bytes": 9, "cpu": 9}])
    assert portal_site.house.cluster.tasks.on("owl") == {key: TaskNow(key, "owl", 9, 9)}
    assert {each.node for each in client.runs.tasks(ended.id)} == {"local"}
    assert {each.now for each in client.runs.tasks(ended.id)} == {None}


def test_whose_a_task_is_is_told_by_its_key(portal_site: PortalSite, client: Client) -> None:
    run = client.runs.start("lakes", {"files": "data"})
    keys = [
        f"{run.id}/look/1/2",
        f"{run.id}/look/-1/1",
        f"{run.id}/look/x/1",
        "build/a",
        "run_x/a/0/1",
    ]
    found = portal_site.house.database.read(lambda tx: owners_of(tx, keys))
    assert set(found) == set(keys[:2])
    one = found[keys[0]]
    assert (one.project, one.run, one.what, one.step) == ("birds", run.id, "lakes@1", "look")
    assert (one.partition, one.user) == (1, "editor")
    assert found[keys[1]].partition == -1
    assert portal_site.house.database.read(lambda tx: owners_of(tx, [])) == {}
    client.runs.wait(run.id)
