"""A node that comes back stops what is counted on no more; one without room costs no try."""

import errno
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from tests.engine.test_cluster import Heard, make_task, submit

from millpond.engine.cluster.books import Books, Flight, Member, NodeLimits
from millpond.engine.cluster.running import NodeRunner, NodeTools
from millpond.engine.cluster.spool import Spool
from millpond.engine.cluster.wire import Order, pack_order, read_report
from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Limits, NodeInfo, TaskReport
from millpond.ground.errors import BusyError
from millpond.storage.folder import FolderStore

CONTRACTS = str(Path(__file__).parents[1] / "contracts")
sys.path.insert(0, CONTRACTS)
try:
    from cluster_rig import Cluster, wait_until
finally:
    sys.path.remove(CONTRACTS)

AWAY_SECONDS = 30


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    try:
        made.start_scheduler()
        yield made
    finally:
        made.close()


class Tries:
    """Gives tasks to a dispatcher, and each lost one again under its next try, as a run does."""

    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        self.reports: dict[str, list[TaskReport]] = {}
        self.began = threading.Event()

    def give(self, number, scripts, attempt=1):
        """Give a task: the first of its scripts, then the next, the last one again and again."""

        def on_done(report):
            self.reports.setdefault(number, []).append(report)
            if report.outcome == "lost":
                self.give(number, scripts, attempt + 1)

        script = scripts[min(attempt, len(scripts)) - 1]
        task = make_task(script, f"run/step/{number}/{attempt}")
        self.dispatcher.submit(task, "p/u", lambda _: self.began.set(), on_done)

    def are_done(self, count):
        last = [each[-1].outcome for each in self.reports.values()]
        return last.count("done") == count

    def outcomes(self, number):
        return [each.outcome for each in self.reports[number]]


def stop(cluster, name):
    process = psutil.Process(cluster.processes[name].pid)
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.mark.slow
def test_a_node_that_was_away_stops_what_it_had_and_takes_new_tasks(cluster):
    cluster.start_node("n1", rejoins=True)
    engine = cluster.make_engine()
    dispatcher = Dispatcher(engine)
    tries = Tries(dispatcher)
    try:
        for number in range(2):  # Both are at their outputs when the node goes.
            tries.give(number, ["say; echo old > held", "echo new > made"])
        out = cluster.root / "n1" / "scratch"
        assert wait_until(lambda: len(list(out.rglob("out/held"))) == 2, 20)
        assert tries.began.wait(5)
        stopped = stop(cluster, "n1")
        assert wait_until(lambda: len(tries.reports) == 2, AWAY_SECONDS)
        for number in range(2, 8):
            tries.give(number, ["echo new > made"])
        assert engine.is_over("run/step/0/1", "n1")
        stopped.send_signal(signal.SIGCONT)
        assert wait_until(lambda: tries.are_done(8), 20), tries.reports
        assert wait_until(lambda: engine.nodes()[0].free_slots == 2, 5)
    finally:
        dispatcher.close()
        engine.close()
    for number in range(8):
        expected = ["lost", "done"] if number < 2 else ["done"]
        assert tries.outcomes(number) == expected, "nothing was lost but what it had"
    store = FolderStore(cluster.store, "http://localhost", b"k" * 32)
    for number in range(8):
        assert store.get(f"projects/p/run/step/{number}/{2 if number < 2 else 1}/made") == b"new\n"
    assert [each.key for each in store.list("projects/p/") if each.key.endswith("/held")] == []
    assert "No node has room" not in cluster.log("n1")


def test_a_node_without_room_costs_no_try(cluster):
    """Its word and what it has differ, for whatever reason: tasks wait for it, and it is asked."""
    cluster.start_node("n1", slots=1, lies={"slots": 3})
    engine = cluster.make_engine()
    dispatcher = Dispatcher(engine)
    tries = Tries(dispatcher)
    try:
        for number in range(3):
            tries.give(number, ["sleep 0.5; echo new > made"])
        assert wait_until(lambda: any(node.paused for node in dispatcher.nodes()), 10)
        assert "no room" in dispatcher.why_waiting()
        assert wait_until(lambda: tries.are_done(3), 30), tries.reports
        assert wait_until(lambda: dispatcher.waiting_count() == 0, 5)
    finally:
        dispatcher.close()
        engine.close()
    assert Counter(each for n in range(3) for each in tries.outcomes(n)) == {"done": 3}
    refusals = cluster.log("n1").count("no room for the task")
    assert 0 < refusals <= 8, "it is not asked without a pause"


def test_what_is_refused_can_be_cancelled_while_it_waits(cluster):
    cluster.start_node("n1", slots=1, lies={"slots": 2})
    engine = cluster.make_engine()
    dispatcher = Dispatcher(engine)
    first, second = Heard(), Heard()
    try:
        for number, heard in enumerate((first, second)):
            task = make_task("say; sleep 60", f"run/step/{number}/1")
            dispatcher.submit(task, "p/u", heard.on_progress, heard.reports.append)
        assert wait_until(lambda: dispatcher.waiting_count() == 1, 10)
        for number in range(2):
            dispatcher.cancel(f"run/step/{number}/1")
        assert first.wait(seconds=10).outcome == "cancelled"
        assert second.wait(seconds=10).outcome == "cancelled"
    finally:
        dispatcher.close()
        engine.close()
    assert first.outcomes() + second.outcomes() == ["cancelled"] * 2


class StuckTransfer(ObjectTransfer):
    """Waits with every output until it is let go, whoever asks."""

    def __init__(self, store):
        super().__init__(store)
        self.reached, self.free = threading.Event(), threading.Event()

    def publish(self, *args):
        self.reached.set()
        self.free.wait()
        return super().publish(*args)


def test_a_node_tells_what_a_runner_before_left_in_its_engine(tmp_path):
    """Its slots are taken until it is dead, so that the host sends nothing in its place."""
    transfer = StuckTransfer(FolderStore(tmp_path / "store", "http://localhost", b"k" * 32))
    engine = LocalEngine(transfer, tmp_path / "scratch", slots=1, name="n1")
    told: list[str] = []
    try:
        before = NodeRunner(engine, "n1")
        task = make_task("echo old > made", "run/step/0/1")
        before.run(pack_order(Order(task)), lambda _: None)
        assert transfer.reached.wait(20)
        before.close(waits=False)
        runner = NodeRunner(engine, "n1", NodeTools(stop=told.append))
        assert runner.describe()["running"] == {task.key: [1.0, 128 << 20, 0]}
        reports = []
        other = make_task("echo new > made", "run/step/1/1")
        runner.run(pack_order(Order(other)), reports.append)
        assert wait_until(lambda: reports, 20)
        report = read_report(reports[0])
        assert (report.outcome, report.is_refused) == ("lost", True)
        runner.cancel(task.key)
        assert told == [task.key]
        transfer.free.set()
        assert wait_until(lambda: runner.describe()["running"] == {}, 10)
        runner.run(pack_order(Order(other)), reports.append)
        assert wait_until(lambda: len(reports) == 2, 20)
        assert read_report(reports[1]).outcome == "done"
        runner.close()
    finally:
        transfer.free.set()
        engine.close()


class HastyEngine:
    """An engine whose tasks end at once, with what the test says."""

    def __init__(self, **facts):
        self.facts = facts

    def submit(self, task, *, on_done, **_more):
        def tell():
            with suppress(RecursionError):  # An engine goes on, whatever its listeners do.
                on_done(replace(ended(task.key), **self.facts))

        threading.Thread(target=tell).start()

    def nodes(self):
        return [NodeInfo("n1", 2, 2, 1 << 30, isolated=True, reason="")]

    def running(self):
        return {}

    def cancel(self, key):
        """Know of none."""


def ended(key):
    return TaskReport(key, "done", 0, "", datetime.now(UTC), "n1", isolated=True)


def test_a_report_that_cannot_be_written_is_told_all_the_same():
    """Else the task would have its slot on the node for ever, and its run would never end."""
    deep = []
    for _ in range(100_000):
        deep = [deep]
    runner = NodeRunner(HastyEngine(result=deep), "n1")
    reports = []
    try:
        runner.run(pack_order(Order(make_task("", "run/step/0/1"))), reports.append)
        assert wait_until(lambda: reports, 10)
        assert runner.describe()["running"] == {}
    finally:
        runner.close()
        while deep:  # Python itself would go down into it when it is freed.
            deep = deep.pop()
    report = read_report(reports[0])
    assert (report.outcome, report.result) == ("lost", None)
    assert "RecursionError" in report.reason


def test_a_task_does_not_wait_for_ever_behind_one_that_turns_out_long(tmp_path):
    """Another node may have slots: it goes back to the queue, and costs no try."""
    transfer = ObjectTransfer(FolderStore(tmp_path / "store", "http://localhost", b"k" * 32))
    engine = LocalEngine(
        transfer, tmp_path / "scratch", slots=1, name="n1", takes_ahead=True, ahead_seconds=0.3
    )
    try:
        long = submit(engine, make_task("say; sleep 60"))
        assert long.began.wait(20)
        behind = Heard()
        engine.submit(
            make_task("echo new > made"),
            on_progress=behind.on_progress,
            on_done=behind.reports.append,
            waits=True,
        )
        report = behind.wait()
        assert (report.outcome, report.is_refused, report.log_bytes) == ("lost", True, 0)
        assert len(engine.running()) == 1
        assert long.reports == []
    finally:
        engine.close()


class FullTransfer(ObjectTransfer):
    """The disk is full, for outputs and for logs."""

    def publish(self, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def append_log(self, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_takes_neither_output_nor_log_costs_no_slot(tmp_path):
    transfer = FullTransfer(FolderStore(tmp_path / "store", "http://localhost", b"k" * 32))
    engine = LocalEngine(transfer, tmp_path / "scratch", slots=1, name="n1")
    try:
        heard = submit(engine, make_task("echo said; echo old > made"))
        report = heard.wait()
        assert engine.running() == {}
    finally:
        engine.close()
    assert report.outcome == "lost"
    assert "disk" in report.reason


def test_a_chunk_that_finds_no_space_leaves_nothing(tmp_path):
    spool = Spool(tmp_path / "spool", lambda *_: None)
    path = tmp_path / "spool" / "000000000001"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        spool.put("p", 0, b"x" * 100)
    spool.settle("p", 1)
    assert not path.is_symlink()
    spool.close()


@pytest.mark.slow
def test_what_a_server_before_this_one_called_over_is_stopped_at_once(cluster):
    """Without that it has its slots for five minutes: somebody might still ask for it."""
    cluster.start_node("n1", rejoins=True)
    first = cluster.make_engine()
    heard = [Heard(), Heard()]
    for number, each in enumerate(heard):
        task = make_task("say; sleep 600", f"run/step/{number}/1")
        first.submit(task, on_progress=each.on_progress, on_done=each.reports.append)
        assert each.began.wait(20)
    first.leave()
    asked = []

    def find_over(keys):
        asked.append(set(keys))
        if len(asked) == 1:
            raise BusyError("The database is away.", next_step="Wait.")
        return {"run/step/0/1"} & set(keys)

    second = cluster.make_engine(find_over=find_over)
    try:
        assert wait_until(lambda: second.nodes() and second.nodes()[0].free_slots == 1, 20)
        assert asked[0] == {"run/step/0/1", "run/step/1/1"}
        assert second.reattach(["run/step/1/1"]) == {"run/step/1/1"}
        assert wait_until(lambda: second.nodes()[0].free_slots == 1, 5)
    finally:
        second.close()


def make_books():
    limits = Limits(cpu_slots=1, memory_bytes=1)
    books = Books(lambda _name: NodeLimits())
    flight = Flight("k", "n1", "a", "b1", limits, print, print, 0.0)
    books.begin(flight)
    back = Member("a", "n1", "b2", 1, 2, 10, 0, True, "", {"k": limits, "stranger": limits})  # noqa: FBT003 - as the node tells it.
    return books, back


def test_the_books_know_what_was_called_lost():
    books, back = make_books()
    books.end("k", is_over=True)
    books.learn([back])
    assert books.orphans() == [("a", "k")]
    assert books.is_over("k", "n1")
    assert books.node(back).free_slots == 0, "what it has counts until it is dead"
    assert [key for _, key in books.old_strangers(0.0)] == []
    assert [key for _, key in books.old_strangers(1000.0)] == ["stranger"]


def test_what_a_server_before_started_is_no_orphan():
    books, back = make_books()
    books.end("k")
    books.learn([back])
    assert books.orphans() == [], "it has told its end, or somebody may still ask for it"
    assert not books.is_over("k", "n1")
    assert not books.is_over("stranger", "n1")
    assert books.node(back).free_slots == 1
