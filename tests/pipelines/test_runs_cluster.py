"""Runs on nodes: a server that stops leaves its tasks to the next one, a lost node costs no run."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from millpond.ground.errors import BusyError
from millpond.pipelines.runs import driver, tables

CONTRACTS = str(Path(__file__).parents[1] / "contracts")
sys.path.insert(0, CONTRACTS)
try:
    from cluster_rig import Cluster
finally:
    sys.path.remove(CONTRACTS)

WAITING = '''
import time
from typing import Annotated
from millpond import Files, Param, Table, pipeline, step

@step(map=True, files_per_task=1, memory="128 MiB")
def look(files: Files, seconds: Annotated[float, Param(ge=0)] = 0.0) -> Table:
    for file in files:
        time.sleep(seconds)
        yield {"path": file.name, "size": file.size}

@step(memory="128 MiB")
def count(rows: Table) -> Table:
    return [{"count": len(list(rows))}]

@pipeline
def sizes(files: Files, seconds: float = 0.0):
    """Look at files, slowly."""
    rows = look(files, seconds=seconds)
    return {"rows": rows, "count": count(rows)}
'''
FILES = 10


@pytest.fixture
def cluster(tmp_path, folder_store):
    made = Cluster(tmp_path)
    made.store = tmp_path / "objects"
    try:
        made.start_scheduler()
        made.start_node("n1")
        made.start_node("n2")
        yield made
    finally:
        made.close()


def open_world(cluster, make_world, nodes=2):
    return make_world(open_engine=lambda: cluster.make_engine(nodes))


def fill(world):
    version = world.push(WAITING)
    assert version.state == "ready", version.reason
    world.push_data("docs", {f"{number}.txt": "x" * number for number in range(FILES)})


def start_and_wait_for_tasks(world, seconds):
    run = world.start("sample", {"files": "docs"}, seconds=seconds)
    world.until(
        lambda: world.tasks(run.id),
        lambda tasks: sum(task.state == "running" for task in tasks) >= 4,
    )
    world.until(world.engine.nodes, lambda nodes: all(node.free_slots == 0 for node in nodes))
    return run


def check_once(world, run):
    assert run.state == "succeeded", run.reason
    assert run.progress.items_done == FILES
    tasks = world.tasks(run.id)
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {**{("look", number): 1 for number in range(FILES)}, ("count", 0): 1}
    return tasks


@pytest.mark.slow
def test_a_server_that_stops_leaves_its_tasks_to_the_next(cluster, make_world):
    first = open_world(cluster, make_world)
    try:
        fill(first)
        run = start_and_wait_for_tasks(first, seconds=1.5)
    finally:
        first.leave()
    second = open_world(cluster, make_world)
    try:
        tasks = check_once(second, second.wait(run.id))
        started_twice = [task for task in tasks if task.node and task.state != "done"]
        assert started_twice == [], "what ran on a node was run again"
        assert {task.node for task in tasks if task.state == "done"} == {"n1", "n2"}
    finally:
        second.close()


@pytest.mark.slow
def test_what_ended_while_no_server_ran_counts(cluster, make_world):
    first = open_world(cluster, make_world)
    try:
        fill(first)
        run = start_and_wait_for_tasks(first, seconds=1.0)
        under_way = {
            (task.step, task.partition) for task in first.tasks(run.id) if task.state == "running"
        }
    finally:
        first.leave()
    other = cluster.make_engine(2)
    first.until(other.nodes, lambda nodes: all(node.free_slots == 2 for node in nodes))
    other.leave()
    second = open_world(cluster, make_world)
    try:
        tasks = check_once(second, second.wait(run.id))
        done_at_first = {(t.step, t.partition) for t in tasks if t.attempt == 1 and t.node}
        assert len(done_at_first & under_way) >= 4
    finally:
        second.close()


@pytest.mark.slow
def test_a_run_that_is_cancelled_while_no_server_runs_is_stopped_on_the_nodes(cluster, make_world):
    first = open_world(cluster, make_world)
    try:
        fill(first)
        run = start_and_wait_for_tasks(first, seconds=100)
    finally:
        first.leave()
    first.cancel(run.id)
    second = open_world(cluster, make_world)
    try:
        assert second.wait(run.id).state == "cancelled"
        second.until(
            second.engine.nodes,
            lambda nodes: all(node.free_slots == node.slots for node in nodes),
            seconds=10,
        )
    finally:
        second.close()


@pytest.mark.slow
def test_a_node_that_is_killed_costs_a_run_nothing_but_time(cluster, make_world):
    world = open_world(cluster, make_world)
    try:
        fill(world)
        run = start_and_wait_for_tasks(world, seconds=1.0)
        cluster.kill("n1")
        tasks = check_once(world, world.wait(run.id))
    finally:
        world.close()
    lost = [task for task in tasks if task.state == "lost"]
    assert lost
    assert all("n1 was lost" in task.reason and task.node == "n1" for task in lost)
    by_node = Counter(task.node for task in tasks if task.state == "done")
    assert by_node["n2"] >= len(lost)
    assert all(task.log_bytes >= 0 for task in tasks if task.state == "done")


@pytest.mark.slow
def test_a_scheduler_that_is_started_anew_costs_a_run_what_was_under_way(cluster, make_world):
    world = open_world(cluster, make_world)
    try:
        fill(world)
        run = start_and_wait_for_tasks(world, seconds=1.0)
        cluster.kill("scheduler")
        for name in ("n1", "n2"):
            assert cluster.processes[name].wait(30) is not None
        cluster.start_scheduler()
        for name in ("n1", "n2"):
            cluster.start_node(name)
        check_once(world, world.wait(run.id))
    finally:
        world.close()


def test_a_run_says_why_its_tasks_wait(make_world):
    reason = ["its load is 9"]
    world = make_world()
    try:
        fill(world)
        world.dispatcher._guard = lambda node: replace(node, paused=reason[0])
        run = world.start("sample", {"files": "docs"})
        held = world.until(lambda: world.get(run.id), lambda run: run.progress.waits_for)
        assert held.progress.waits_for == "Every node is held back. local: its load is 9"
        reason[0] = ""
        world.dispatcher.wake()
        assert world.wait(run.id).progress.waits_for == ""
    finally:
        world.close()


def test_what_only_waited_when_its_server_ended_is_no_lost_try(make_world):
    """Two tasks run in the two slots; the other eight were handed over and never began."""
    first = make_world()
    try:
        fill(first)
        run = first.start("sample", {"files": "docs"}, seconds=600.0)
        begun = first.until(
            lambda: first.tasks(run.id), lambda tasks: sum(bool(each.node) for each in tasks) == 2
        )
        assert [(each.state, each.attempt) for each in begun] == [("running", 1)] * FILES
        parameters = {"files": "docs", "seconds": 0.0}
        first.database.change(
            lambda tx: tx.execute(tables.run.update().values(parameters=parameters))
        )
    finally:
        first.leave()
    second = make_world()
    try:
        tasks = check_once(second, second.wait(run.id))
    finally:
        second.close()
    lost = [task for task in tasks if task.state == "lost"]
    assert {(task.partition, task.node) for task in lost} == {
        (task.partition, task.node) for task in begun if task.node
    }
    assert all("server stopped" in task.reason for task in lost)
    assert len(tasks) == FILES + 1 + len(lost), "what only waited has no try of its own"


@pytest.mark.slow
def test_a_store_that_is_busy_for_a_moment_costs_a_run_no_task(
    cluster, make_world, folder_store, monkeypatch
):
    monkeypatch.setattr(driver, "_OUTPUTS_INLINE", 0)  # So that each task's list is an object.
    put, refused = folder_store.put, []

    def refuse_once(key, data, **how):
        if key.endswith(".outputs") and not refused:
            refused.append(key)
            raise BusyError("One copy only.", next_step="Wait for a second node.")
        return put(key, data, **how)

    monkeypatch.setattr(folder_store, "put", refuse_once)
    world = open_world(cluster, make_world)
    try:
        fill(world)
        run = start_and_wait_for_tasks(world, seconds=1.0)
        tasks = check_once(world, world.wait(run.id))
    finally:
        world.close()
    assert len(refused) == 1
    assert {task.state for task in tasks} == {"done"}
