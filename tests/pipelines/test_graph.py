"""The state machine of a run's steps, without a database or an engine."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from millpond.pipelines.runs.graph import Graph, never_ran, task_key
from millpond.pipelines.runs.rules import window_of
from millpond.pipelines.runs.values import KeptStep, KeptTask, Loaded, Wave
from millpond.pipelines.values import PipelineSpec, Progress, Run, SplitSpec, StepSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run(
    id="run_1", project_id="p", what="x@1", pipeline_version_id="v", state="running", reason="",
    parameters={}, inputs=(), environment="", lock_digest="", code_digest="", spec_digest="",
    seed=1, progress=Progress(steps_total=1), created_at=NOW, created_by="ana",
)  # fmt: skip


def make_graph(*tasks, retries=2):
    """Make a run of one step with six partitions."""
    step = StepSpec("look", "map", "m:f", split=SplitSpec(over="files"), retries=retries)
    state = "running" if tasks else "waiting"
    cuts = list(range(7)) if tasks else None
    loaded = Loaded(
        run=RUN, spec=PipelineSpec("x", "", "", {}, (), (), (step,)), user_id="u", code_key="", fence=1,
        lock="", secrets={}, no_fork=False, tasks=tasks,
        steps=(KeptStep("look", state, "", cuts, None, None),),
    )  # fmt: skip
    return Graph(loaded, 10, 1.0)


def kept(partition, node="", state="running", attempt=1):
    return KeptTask("look", partition, attempt, state, "", fork=True, cpu_seconds=0.0,
                    memory_peak_bytes=0, outputs=None, outputs_key="", node=node)  # fmt: skip


def plan(graph):
    for step in graph.ready():
        graph.plan(step, list(range(7)), NOW, Wave())


def take(graph, room, moment=100.0):
    """Take tries and hand them over; give them, and the wave."""
    wave = Wave()
    taken = graph.take(room, moment, wave)
    for step, tried in taken:
        graph.hand_over(step, task_key("run_1", tried), tried)
    return [tried for _, tried in taken], wave


@pytest.mark.parametrize("outcome", ["lost", "failed"])
def test_a_further_try_goes_before_what_was_never_tried(outcome):
    graph = make_graph()
    plan(graph)
    first, _ = take(graph, 2)
    key = task_key("run_1", first[1])
    graph.end(never_ran(key, outcome, "gone"), None, "", NOW, 100.0, Wave())
    taken, _ = take(graph, 3, 200.0)
    assert [(each.partition, each.attempt, each.is_again) for each in taken] == [
        (1, 2, True), (2, 1, False), (3, 1, False),
    ]  # fmt: skip


def test_a_further_try_that_must_wait_keeps_no_other_waiting():
    graph = make_graph()
    plan(graph)
    first, _ = take(graph, 1)
    key = task_key("run_1", first[0])
    graph.end(never_ran(key, "failed", "bad"), None, "", NOW, 100.0, Wave())
    taken, _ = take(graph, 2, 100.5)
    assert [each.partition for each in taken] == [1, 2]
    assert graph.next_moment() == 0.0


def test_what_nobody_began_takes_its_own_place_again_and_counts_as_no_try():
    graph = make_graph(kept(0, node="n1"), kept(1), kept(2))
    assert graph.begun == {"run_1/look/0/1": "n1"}
    wave = Wave()
    for partition in (1, 2):
        graph.queue_again(f"run_1/look/{partition}/1", wave)
    assert not wave
    plan(graph)
    taken, wave = take(graph, 3)
    assert [(old.attempt, new.attempt, new.partition) for old, new in wave.moved] == [
        (1, 2, 1), (1, 2, 2),
    ]  # fmt: skip
    assert [each.partition for each in wave.started] == [3]
    assert not any(each.is_again for each in taken)
    assert graph.steps["look"].lost == {}


def refuse(graph, key, moment=100.0):
    """Let a node say that it had no room for a try."""
    wave = Wave()
    refused = replace(never_ran(key, "lost", "No room.", "n1"), is_refused=True)
    graph.end(refused, None, "", NOW, moment, wave)
    return wave


def test_a_try_that_its_node_refused_counts_as_none_also_for_the_server_after():
    graph = make_graph(kept(0, node="n1"), kept(1))
    plan(graph)
    wave = refuse(graph, "run_1/look/0/1")
    assert (wave.ended, graph.steps["look"].lost) == ([], {})
    assert [each.partition for each in take(graph, 1)[0]] == [2], "it waits a little"
    taken, wave = take(graph, 1, 102.0)
    assert [(old.attempt, new.attempt, new.partition) for old, new in wave.moved] == [(1, 2, 0)]
    assert taken[0].is_again
    assert graph.running_keys() == {"run_1/look/0/2", "run_1/look/1/1", "run_1/look/2/1"}


def test_a_refused_try_of_a_step_that_has_ended_is_over():
    graph = make_graph(kept(0, node="n1"), kept(1), retries=0)
    plan(graph)
    graph.end(never_ran("run_1/look/1/1", "failed", "bad"), None, "", NOW, 100.0, Wave())
    wave = refuse(graph, "run_1/look/0/1")
    assert [(each.tried.partition, each.state) for each in wave.ended] == [(0, "cancelled")]
    assert graph.running_count() == 0


def test_a_step_that_fails_ends_what_nobody_began_of_it():
    graph = make_graph(kept(0, node="n1"), kept(1), retries=0)
    graph.queue_again("run_1/look/1/1", Wave())
    plan(graph)
    wave = Wave()
    graph.end(never_ran("run_1/look/0/1", "failed", "bad"), None, "", NOW, 100.0, wave)
    assert [(each.tried.partition, each.state) for each in wave.ended] == [
        (0, "failed"), (1, "cancelled"),
    ]  # fmt: skip


def test_a_reason_counts_the_tries_that_were_made():
    graph = make_graph(kept(1), retries=0)
    graph.queue_again("run_1/look/1/1", Wave())
    plan(graph)
    taken, _ = take(graph, 9)
    key = task_key("run_1", next(each for each in taken if each.partition == 1))
    graph.end(never_ran(key, "failed", "bad"), None, "", NOW, 100.0, Wave())
    assert graph.steps["look"].reason == "Failed in partition 1: bad"


@pytest.mark.parametrize(("slots", "window"), [(0, 64), (16, 64), (24.5, 64), (320, 656)])
def test_many_slots_get_many_tasks(slots, window):
    assert window_of(64, slots) == window
