"""A node with a data disk that is away for a while: its run waits for it, says so, and goes on."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.test_cluster import FILES, Site, check_run, half_done, prepare, start_run, until

SETTINGS = {"objects_kind": "nodes", "cluster_suspect_seconds": "3", "cluster_lost_seconds": "8"}
WORDS = "one copy only: waiting for a second node with a data disk"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, SETTINGS)
    try:
        made.start_server()
        made.start_scheduler()
        made.open()
        for name in ("mill", "weir"):
            made.join(name, has_disk=True)
            made.start_node(name)
        until(lambda: len(made.nodes_up()) == 2)
        prepare(made.client, tmp_path)
        yield made
    finally:
        made.end()


@pytest.mark.slow
def test_a_run_waits_for_the_second_data_disk_and_goes_on(site: Site, tmp_path: Path) -> None:
    client = site.client
    assert client is not None
    run = start_run(client, 1.0)
    half_done(client, run)
    weir = site.processes["weir"]
    weir.send_signal(signal.SIGSTOP)
    until(lambda: WORDS in client.runs.get(run).progress.waits_for, 30)
    assert "weir is" in client.runs.get(run).progress.waits_for
    found = client.system.findings()["findings"]
    assert any(each["name"] == "outputs" and WORDS in each["meaning"] for each in found)
    until(lambda: any(task.state == "lost" for task in client.runs.tasks(run)), 40)
    assert client.runs.get(run).state == "running"
    weir.send_signal(signal.SIGCONT)
    check_run(client, run, tmp_path / "run")
    lost = [task for task in client.runs.tasks(run) if task.state != "done"]
    assert {task.node for task in lost} == {"weir"}
    assert len(lost) <= 4, "only what the node had in hand when it went, and their successors"
    assert client.runs.get(run).progress.waits_for == ""
    until(lambda: len(site.nodes_up()) == 2)
    again = check_run(client, start_run(client, 0.3), tmp_path / "again")
    assert set(again) == {"mill", "weir"}
    assert sum(again.values()) == FILES + 1
    assert "No node has room" not in site.log("weir")
