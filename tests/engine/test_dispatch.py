"""The queue before an engine: fair, never more than is free, every task told once."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from millpond.engine.dispatch import Dispatcher
from millpond.engine.port import OnDone, OnProgress
from millpond.engine.rules import fits
from millpond.engine.values import Entry, Limits, NodeInfo, StagedInput, TaskReport, TaskSpec
from millpond.ground.clock import SystemClock
from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotAllowedError


class StillEngine:
    """An engine whose tasks end when the test says so; it keeps books like a real one."""

    places_itself = False
    outlives = False

    takes_ahead = False
    free_memory = 100

    def __init__(self, slots: float) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.slots = slots
        self.running: dict[str, tuple[TaskSpec, OnDone]] = {}
        self.started: list[str] = []
        self.refusal: Exception | None = None
        self.is_draining = False

    def submit(
        self,
        task: TaskSpec,
        *,
        on_progress: OnProgress,
        on_done: OnDone,
        node: str = "",
        waits: bool = False,
    ) -> None:
        if self.refusal is not None:
            raise self.refusal
        assert waits != fits(task, self.nodes()[0]), "the dispatcher gave more than is free"
        self.running[task.key] = (task, on_done)
        self.started.append(task.key)

    def watch(self, on_change: Callable[[], None]) -> None:
        self.changed = on_change

    def cancel(self, key: str) -> None:
        if key in self.running:
            self.end(key, "cancelled")

    def nodes(self) -> list[NodeInfo]:
        used = sum(task.limits.cpu_slots for task, _ in self.running.values())
        return [
            NodeInfo(
                "still",
                self.slots,
                self.slots - used,
                100,
                isolated=True,
                reason="",
                free_memory_bytes=self.free_memory,
                is_draining=self.is_draining,
                takes_ahead=self.takes_ahead,
            )
        ]

    def reattach(
        self,
        keys: Iterable[str],
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> set[str]:
        found = set(keys) & set(self.running)
        for key in found if on_done else ():
            self.running[key] = (self.running[key][0], on_done)
        return found

    def drain(self, node: str) -> None:
        self.is_draining = True

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        for key in list(self.running):
            self.end(key, "cancelled")

    def end(self, key: str, outcome: str = "done", seconds: float = 0.0) -> None:
        task, on_done = self.running.pop(key)
        report = TaskReport(
            task.key,
            outcome,
            0,
            "",
            SystemClock().now(),
            "still",
            isolated=True,
            wall_seconds=seconds,
        )
        on_done(report)


class Heard:
    def __init__(self) -> None:
        self.reports: list[TaskReport] = []

    def outcomes(self) -> dict[str, str]:
        return {report.key: report.outcome for report in self.reports}


def make_task(key: str, slots: float = 1) -> TaskSpec:
    limits = Limits(cpu_slots=slots, memory_bytes=1)
    return TaskSpec(key, "u", "p", Entry("m:f"), "o", limits=limits)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def put(dispatcher: Dispatcher, heard: Heard, key: str, share: str, slots: float = 1) -> None:
    dispatcher.submit(make_task(key, slots), share, lambda _: None, heard.reports.append)


def test_no_more_is_started_than_is_free(heard: Heard) -> None:
    engine = StillEngine(2)
    dispatcher = Dispatcher(engine)
    for number in range(5):
        put(dispatcher, heard, f"t{number}", "p/u")
    assert engine.started == ["t0", "t1"]
    assert dispatcher.waiting_count() == 3
    engine.end("t0")
    assert engine.started == ["t0", "t1", "t2"]
    assert heard.outcomes() == {"t0": "done"}


def test_shares_take_turns(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    for number in range(4):
        put(dispatcher, heard, f"a{number}", "a/x")
    put(dispatcher, heard, "b0", "b/x")
    put(dispatcher, heard, "a-other", "a/y")
    while engine.running:
        engine.end(next(iter(engine.running)))
    assert engine.started == ["a0", "b0", "a-other", "a1", "a2", "a3"]


def test_a_further_try_goes_before_its_own_runs_tasks_and_before_no_others(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "first", "p/u")
    for key in ("r1/s/0/1", "r2/s/0/1", "r1/s/1/1", "r2/s/1/1"):
        put(dispatcher, heard, key, "p/u")
    put(dispatcher, heard, "r3/s/0/1", "q/v")
    for key in ("r1/s/7/2", "r1/s/8/2"):
        dispatcher.submit(make_task(key), "p/u", lambda _: None, heard.reports.append, before="r1/")
    while engine.running:
        engine.end(next(iter(engine.running)))
    assert engine.started == [
        "first", "r3/s/0/1",
        "r1/s/7/2", "r2/s/0/1", "r1/s/8/2", "r2/s/1/1", "r1/s/0/1", "r1/s/1/1",
    ]  # fmt: skip


def test_whoever_gave_a_task_hears_where_it_went_once_it_went(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    places: list[str] = []
    for key in ("a", "b"):
        dispatcher.submit(
            make_task(key), "p/u", lambda _: None, heard.reports.append, on_place=places.append
        )
    assert places == [node.name for node in engine.nodes()]
    engine.end("a")
    assert len(places) == 2
    assert dispatcher.slots == 1


def test_a_large_one_is_not_starved(heard: Heard) -> None:
    engine = StillEngine(2)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "s0", "a/x")
    put(dispatcher, heard, "large", "b/x", slots=2)
    for number in range(1, 40):
        put(dispatcher, heard, f"s{number}", "a/x")
    steps = 0
    while "large" not in engine.started:
        engine.end(next(iter(engine.running)))
        steps += 1
        assert steps < 20
    while engine.running:
        engine.end(next(iter(engine.running)))
    assert len(heard.reports) == 41


def test_cancel_of_a_waiting_and_of_a_running_one(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    for key in ("a", "b", "c"):
        put(dispatcher, heard, key, "p/u")
    dispatcher.cancel("b")
    assert heard.outcomes() == {"b": "cancelled"}
    dispatcher.cancel("a")
    assert engine.started == ["a", "c"]
    dispatcher.cancel("nobody")
    assert heard.outcomes() == {"b": "cancelled", "a": "cancelled"}


def test_a_key_is_taken_only_once(heard: Heard) -> None:
    dispatcher = Dispatcher(StillEngine(1))
    put(dispatcher, heard, "a", "p/u")
    with pytest.raises(ConflictError):
        put(dispatcher, heard, "a", "p/u")


def test_what_can_never_fit_is_refused_at_once(heard: Heard) -> None:
    with pytest.raises(InvalidError, match="asks for more than any node"):
        put(Dispatcher(StillEngine(1)), heard, "a", "p/u", slots=2)


def test_a_refusal_of_the_engine_is_the_tasks_end(heard: Heard) -> None:
    engine = StillEngine(1)
    engine.refusal = NotAllowedError("Not here.", next_step="Elsewhere.")
    put(Dispatcher(engine), heard, "a", "p/u")
    assert (heard.reports[0].outcome, heard.reports[0].reason) == ("failed", "Not here. Elsewhere.")


def test_a_busy_engine_keeps_the_task_waiting(heard: Heard) -> None:
    engine = StillEngine(1)
    engine.refusal = BusyError("Not now.", next_step="Later.")
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    assert dispatcher.waiting_count() == 1
    engine.refusal = None
    put(dispatcher, heard, "b", "p/u")
    assert engine.started == ["a"]


def test_an_engine_that_places_itself_gets_all_at_once(heard: Heard) -> None:
    engine = StillEngine(100)
    engine.places_itself = True
    dispatcher = Dispatcher(engine)
    for number in range(50):
        put(dispatcher, heard, f"t{number}", "p/u")
    assert len(engine.running) == 50


def test_close_cancels_what_waits(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    put(dispatcher, heard, "b", "p/u")
    dispatcher.close()
    assert heard.outcomes() == {"b": "cancelled"}
    engine.close()
    assert heard.outcomes() == {"b": "cancelled", "a": "cancelled"}


def test_many_threads_submit_and_end(heard: Heard) -> None:
    engine = StillEngine(4)
    dispatcher = Dispatcher(engine)

    def submit(who: int) -> None:
        for number in range(50):
            put(dispatcher, heard, f"{who}/{number}", f"p{who % 2}/u{who}")

    threads = [threading.Thread(target=submit, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    _until(lambda: len(heard.reports) == 200, lambda: [engine.end(k) for k in list(engine.running)])
    for thread in threads:
        thread.join()
    assert set(heard.outcomes().values()) == {"done"}


def _until(holds: Callable[[], bool], action: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        action()


def test_a_node_held_back_gets_nothing_and_says_why(heard: Heard) -> None:
    engine, paused = StillEngine(1), ["its load is 9"]
    dispatcher = Dispatcher(engine, guard=lambda node: replace(node, paused=paused[0]))
    put(dispatcher, heard, "a", "p/u")
    assert engine.started == []
    assert dispatcher.why_waiting() == "Every node is held back. still: its load is 9"
    assert dispatcher.nodes()[0].paused == "its load is 9"
    paused[0] = ""
    engine.changed()
    assert engine.started == ["a"]
    assert dispatcher.why_waiting() == ""


class TwoNodes(StillEngine):
    def __init__(self, slots: float) -> None:
        super().__init__(slots)
        self.placed: dict[str, str] = {}

    def nodes(self) -> list[NodeInfo]:
        return [replace(super(TwoNodes, self).nodes()[0], name=name) for name in ("a", "b")]

    def submit(self, task: TaskSpec, *, node: str = "", **more: Any) -> None:
        self.placed[task.key] = node
        super().submit(task, node=node, **more)


def test_tasks_go_to_their_data(heard: Heard) -> None:
    engine, asked = TwoNodes(9), []

    def holds(keys: list[str]) -> dict[str, dict[str, int]]:
        asked.append(keys)
        return {key: {"b": 20 << 20} for key in keys}

    dispatcher = Dispatcher(engine, holds=holds)
    for key, size in (("large", 20 << 20), ("small", 1)):
        inputs = (StagedInput("x", "object:in/x", size),)
        task = replace(make_task(key), inputs=inputs)
        dispatcher.submit(task, "p/u", lambda _: None, heard.reports.append)
    assert engine.placed == {"large": "b", "small": "a"}
    assert asked == [["in/x"]]


def test_where_data_lies_may_be_unknown(heard: Heard) -> None:
    def holds(_keys: list[str]) -> dict[str, dict[str, int]]:
        raise BusyError("The database is away.", next_step="Wait.")

    engine = TwoNodes(9)
    task = replace(make_task("a"), inputs=(StagedInput("x", "object:in/x", 20 << 20),))
    Dispatcher(engine, holds=holds).submit(task, "p/u", lambda _: None, heard.reports.append)
    assert engine.placed == {"a": "a"}


def test_tasks_of_a_process_before_are_taken_over(heard: Heard) -> None:
    engine = StillEngine(2)
    put(Dispatcher(engine), heard, "a", "p/u")
    second = Dispatcher(engine)
    after = Heard()
    assert second.reattach(["a", "gone"], lambda _: None, after.reports.append) == {"a"}
    with pytest.raises(ConflictError):
        put(second, after, "a", "p/u")
    put(second, after, "gone", "p/u")
    put(second, after, "waits", "p/u")
    engine.end("a")
    assert after.outcomes() == {"a": "done"}
    assert heard.reports == []
    assert engine.started == ["a", "gone", "waits"]
    put(second, after, "a", "p/u")


def test_what_only_a_node_can_take_that_is_away_waits_for_it(heard: Heard) -> None:
    engine = StillEngine(4)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    small = StillEngine(1)
    engine.nodes = lambda: [replace(small.nodes()[0], name="small")]
    put(dispatcher, heard, "b", "p/u", slots=2)
    assert heard.reports == [], "it fitted a moment ago"
    assert "large enough for b are away" in dispatcher.why_waiting()
    with pytest.raises(InvalidError, match="largest node has 4"):
        put(dispatcher, heard, "c", "p/u", slots=5)
    del engine.nodes
    engine.changed()
    assert engine.started == ["a", "b"]
    assert dispatcher.why_waiting() == ""


def test_a_task_that_its_node_refuses_goes_back_to_the_queue(heard: Heard) -> None:
    engine = TwoNodes(2)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    assert engine.placed == {"a": "a"}
    task, on_done = engine.running.pop("a")
    now = SystemClock().now()
    refused = TaskReport(task.key, "lost", None, "No room.", now, "a", isolated=False)
    on_done(replace(refused, is_refused=True))
    assert heard.reports == []
    assert engine.placed == {"a": "b"}, "the other is asked, since this one had no room"
    assert [bool(node.paused) for node in dispatcher.nodes()] == [True, False]
    assert "has no room" in dispatcher.held_back("a")
    assert dispatcher.held_back("b") == ""
    engine.end("a")
    assert heard.outcomes() == {"a": "done"}


def test_a_task_that_is_refused_while_it_is_cancelled_does_not_run_on(heard: Heard) -> None:
    engine = StillEngine(1)
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    _, on_done = engine.running.pop("a")  # The engine has heard of its end already.
    dispatcher.cancel("a")
    refused = TaskReport("a", "lost", None, "No room.", SystemClock().now(), "still", isolated=True)
    on_done(replace(refused, is_refused=True))
    assert heard.outcomes() == {"a": "cancelled"}
    assert (engine.started, dispatcher.waiting_count()) == (["a"], 0)
    put(dispatcher, heard, "a", "p/u")  # Of that key there may be another one.
    assert dispatcher.waiting_count() == 1


def test_a_fault_of_the_engine_is_told_to_the_task_that_met_it_and_to_no_other(
    heard: Heard,
) -> None:
    engine, other = StillEngine(1), Heard()
    dispatcher = Dispatcher(engine)
    put(dispatcher, heard, "a", "p/u")
    put(dispatcher, heard, "b", "p/u")
    engine.refusal = RuntimeError("can't start new thread")
    engine.end("a")
    assert heard.outcomes() == {"a": "done", "b": "lost"}
    assert "can't start new thread" in heard.reports[0].reason
    engine.refusal = None
    put(dispatcher, other, "b", "p/u")
    engine.end("b")
    assert other.outcomes() == {"b": "done"}


def test_what_keeps_tasks_from_ending_is_told(heard: Heard) -> None:
    dispatcher = Dispatcher(StillEngine(1), hindrance=lambda: "one copy only")
    put(dispatcher, heard, "a", "p/u")
    assert dispatcher.why_waiting() == "one copy only"


# Successors that wait in the slot of a short task.


class WaitingEngine(StillEngine):
    takes_ahead = True


def start_many(heard: Heard, seconds: float, count: int = 12) -> tuple[WaitingEngine, Dispatcher]:
    """Give two slots in which two tasks of a step run, of which one has ended; many wait."""
    engine = WaitingEngine(2)
    dispatcher = Dispatcher(engine)
    for number in range(count):
        put(dispatcher, heard, f"run/step/{number}/1", "p/u")
    assert len(engine.running) == 2
    engine.end("run/step/0/1", seconds=seconds)
    return engine, dispatcher


def test_a_short_task_has_one_successor_in_its_slot(heard: Heard) -> None:
    engine, dispatcher = start_many(heard, 2.0)
    assert sorted(engine.running) == [f"run/step/{number}/1" for number in (1, 2, 3, 4)]
    engine.end("run/step/2/1", seconds=2.0)
    assert sorted(engine.running) == [f"run/step/{number}/1" for number in (1, 3, 4, 5)]
    assert dispatcher.waiting_count() == 6
    while engine.running:
        engine.end(next(iter(engine.running)), seconds=2.0)
    assert len(heard.reports) == 12


def test_a_long_task_has_none(heard: Heard) -> None:
    engine, _ = start_many(heard, 60.0)
    assert sorted(engine.running) == ["run/step/1/1", "run/step/2/1"]


def test_a_task_of_which_nothing_is_known_waits_in_the_queue(heard: Heard) -> None:
    engine = WaitingEngine(2)
    dispatcher = Dispatcher(engine)
    for number in range(3):
        put(dispatcher, heard, f"run/step/{number}/1", "p/u")
    engine.end("run/step/0/1", "failed", seconds=1.0)
    put(dispatcher, heard, "run/step/3/1", "p/u")
    assert sorted(engine.running) == ["run/step/1/1", "run/step/2/1"]


def test_one_that_does_not_fit_is_not_starved_by_successors(heard: Heard) -> None:
    engine, dispatcher = start_many(heard, 2.0, count=40)
    put(dispatcher, heard, "large/step/0/1", "q/v", slots=2)
    while "large/step/0/1" not in engine.running:
        engine.end(next(iter(engine.running)), seconds=2.0)
    assert dispatcher.waiting_count() > 20


def test_nothing_waits_where_it_finds_no_memory(heard: Heard) -> None:
    engine, _ = start_many(heard, 2.0)
    engine.free_memory = 0
    for left in (3, 2):
        engine.end(next(iter(engine.running)), seconds=2.0)
        assert len(engine.running) == left


def test_nothing_waits_on_a_node_that_is_held_back(heard: Heard) -> None:
    engine, _ = start_many(heard, 2.0)
    engine.is_draining = True
    before = len(engine.running)
    engine.end("run/step/1/1", seconds=2.0)
    assert len(engine.running) == before - 1
