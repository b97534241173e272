"""What the tasks on machines take now, and whose they are."""

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.machines.conftest import METERS, NodeSite, Room

from millpond.client.commands.node_texts import text_of_task
from millpond.machines import actions, census
from millpond.machines.live import LiveTasks, read_tasks
from millpond.machines.running import NodeTask, TaskNow, TaskOwner

TOLD = {
    "key": "r/s/0/1",
    "cpu": 1.5,
    "memory_bytes": 3 << 20,
    "memory_limit_bytes": 4 << 20,
    "slots": 2,
}
NOW = TaskNow("r/s/0/1", "owl", 1.5, 3 << 20, 4 << 20, 2)


def test_what_runs_on_a_node_is_told_with_what_it_takes(room: Room) -> None:
    peer = room.up()
    waiting = "r/s/1/1"
    room.beat(
        peer,
        meters={**METERS, "tasks": [TOLD, {"key": waiting}]},
        running=(TOLD["key"], waiting),
    )
    with room.database.reading() as tx:
        found = actions.get_node(tx, room.root, room.cluster, "owl").tasks
    assert found == [NodeTask("r/s/0/1", NOW, None), NodeTask(waiting, None, None)]
    assert room.cluster.tasks.of_run("r") == {("owl", "r/s/0/1"): NOW}
    assert room.cluster.tasks.of_run("rr") == {}
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl", is_forced=True))
    assert room.cluster.tasks.on("owl") == {}


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        "tasks",
        {"key": "a"},
        [1, None, "x"],
        [{"key": ""}],
        [{**TOLD, "key": "k" * 401}],
        [{**TOLD, "key": 5}],
        [{**TOLD, "memory_bytes": -1}],
        [{**TOLD, "memory_bytes": True}],
        [{**TOLD, "memory_bytes": math.nan}],
        [{**TOLD, "memory_bytes": math.inf}],
        [{**TOLD, "memory_bytes": "9"}],
    ],
)
def test_what_cannot_be_is_left_out(told: Any) -> None:
    assert read_tasks("owl", told) == []


def test_a_share_that_cannot_be_is_not_known() -> None:
    (found,) = read_tasks("owl", [{**TOLD, "cpu": -1, "memory_limit_bytes": None, "slots": "x"}])
    assert found == TaskNow("r/s/0/1", "owl", None, 3 << 20, 0, 0)


def test_a_machine_that_is_silent_tells_of_no_tasks() -> None:
    now = [100.0]
    live = LiveTasks(lambda: now[0])
    live.hear("owl", [TOLD])
    assert live.on("owl") == {"r/s/0/1": NOW}
    now[0] += 29
    assert live.of_run("r")
    now[0] += 2
    assert live.on("owl") == {}
    assert live.of_run("r") == {}
    live.hear("owl", [])
    assert live.on("owl") == {}


def test_a_node_that_refused_a_task_says_so_where_pauses_are_shown(room: Room) -> None:
    room.up()
    refusing = {"owl": "it said that it has no room"}
    cluster = replace(room.cluster, held_back=lambda name: refusing.get(name, ""))
    with room.database.reading() as tx:
        found = actions.get_node(tx, room.root, cluster, "owl").node
        assert found.paused == "it said that it has no room"
        report = actions.report_node(tx, room.root, cluster, "owl")
        assert "no room" in next(one.meaning for one in report.findings if one.state == "warning")
        assert census.paused_nodes(tx, cluster) == {"owl": ["no room"]}
        refusing.clear()
        assert actions.get_node(tx, room.root, cluster, "owl").node.paused == ""


def test_the_dispatcher_of_a_house_tells_whom_it_holds_back(node_site: NodeSite) -> None:
    house: Any = node_site.source.house
    assert house.cluster.held_back == house.dispatcher.held_back
    assert house.cluster.held_back("owl") == ""


def test_a_nodes_page_and_the_sdk_tell_what_runs_there(node_site: NodeSite) -> None:
    node_site.add()
    meters = {**METERS, "tasks": [TOLD, {"key": "build/x"}]}
    node_site.source.beat("owl", meters=meters, running=("r/s/0/1", "build/x"))
    with node_site.client() as client:
        assert client.nodes.get("owl").tasks == [
            NodeTask("r/s/0/1", NOW, None),
            NodeTask("build/x", None, None),
        ]
        (found,) = [one for one in client.nodes.list() if one.name == "owl"]
        assert found.running == ["r/s/0/1", "build/x"]
    with node_site.site.browser("root") as http:
        text = http.get("/admin/nodes/owl").text
        assert "Running there now" in text
        assert "1.50 of 2" in text
        assert '<progress value="3145728" max="4194304" aria-label="Memory of r/s/0/1">' in text
        assert "not measured yet" in text
        node_site.source.beat("owl")
        assert "Nothing runs there now." in http.get("/admin/nodes/owl").text


def test_a_line_tells_what_a_task_takes_and_whose_it_is() -> None:
    owner = TaskOwner("birds", "run_1", "score@3", "score", 4, "ana")
    assert (
        text_of_task(NodeTask("k", NOW, owner))
        == "birds/run_1, score@3, score 4, by ana: 1.50 cores, 3.1 MB of 4.2 MB"
    )
    cutting = replace(owner, partition=-1)
    assert "score splitting, by ana: -" in text_of_task(NodeTask("k", None, cutting))
    bare = replace(NOW, cpu_cores=None, memory_limit_bytes=0)
    assert text_of_task(NodeTask("k", bare, None)) == "k: 3.1 MB"
