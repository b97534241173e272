"""A server that stands still past its lease while it drives a run, and wakes up in the middle."""

import csv
import json
import shutil
import signal
from collections import Counter

import httpx
import pytest

FILES = 12


@pytest.fixture
def pair(postgresql, install, tmp_path_factory):
    """Two installations on one database and one folder of objects; the first one runs."""
    shared = tmp_path_factory.mktemp("shared") / "objects"
    with postgresql.database(empty=True) as url:
        settings = {
            "database_url": url,
            "objects_folder": shared,
            "jobs_lease_seconds": 3,
            "engine_slots": 1,
        }
        with install(**settings) as first, install(**settings) as second:
            first.start()
            shutil.copytree(first.data / "keys", second.data / "keys")
            yield first, second
            for one in (first, second):
                one.stop()
            assert first.processes() + second.processes() == []


@pytest.mark.slow
def test_a_server_that_wakes_up_past_its_lease_writes_nothing_more(pair, tools, tmp_path):
    first, second = pair
    with first.client() as client:
        fill(client, tmp_path, tools)
        run_id = client.runs.start("sizes", {"files": "files"}, {"seconds": 0.5}).id
        tools.until(lambda: client.runs.get(run_id).progress.items_done >= 2)
    second.start()
    process = first.server.process
    process.send_signal(signal.SIGSTOP)
    try:
        with second.client() as client:
            tools.until(lambda: "Took over 1 job" in second.log.read_text())
            done = client.runs.get(run_id).progress.items_done
            assert done < FILES
            tools.until(lambda: client.runs.get(run_id).progress.items_done > done)
            assert client.runs.get(run_id).state == "running"
            process.send_signal(signal.SIGCONT)
            run = client.runs.wait(run_id)
            assert run.state == "succeeded", run.reason
            check_once(client, run_id, tmp_path / "out")
    finally:
        process.send_signal(signal.SIGCONT)
    tools.until(lambda: "has passed to another holder" in first.log.read_text())
    assert "Traceback" not in first.log.read_text() + second.log.read_text()
    assert httpx.get(f"http://127.0.0.1:{first.port}/healthz").status_code == 200
    with first.client() as client:  # It works on, and sees what the other one has settled.
        assert client.runs.get(run_id).state == "succeeded"
        again = client.runs.wait(client.runs.start("sizes", {"files": "files"}).id)
        assert again.state == "succeeded", again.reason
        check_once(client, again.id, tmp_path / "again")
        assert client.log.verify().is_ok


def fill(client, folder, tools):
    client.projects.make("one")
    client.pipelines.push(tools.write_code(folder / "code", tools.CODE["sizes"]), "sizes")
    data = folder / "files"
    data.mkdir()
    for number in range(FILES):
        (data / f"f{number}").write_text("x" * number)
    client.datasets.push(data, "files")
    version = client.pipelines.wait("sizes")
    assert version.state == "ready", version.reason


def check_once(client, run_id, target):
    """Each partition is done once, each record there once, each change on record once."""
    tasks = client.runs.tasks(run_id)
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {("measure", number): 1 for number in range(FILES)} | {("add", 0): 1}
    client.runs.download(run_id, target)
    with (target / "tables" / "sizes.csv").open(newline="") as file:
        found = Counter((row["path"], row["size"]) for row in csv.DictReader(file))
    assert found == {(f"f{number}", str(number)): 1 for number in range(FILES)}
    total = (target / "tables" / "total.csv").read_text().split()
    assert total == ["total", str(sum(range(FILES)))]
    assert json.loads((target / "statistics.json").read_text())
    verbs = Counter(entry.verb for entry in client.log.list(target=f"run/{run_id}", most=None))
    assert verbs["run.started"] == verbs["run.succeeded"] == 1
