"""What somebody with root on one node tries on the scheduler, the server and the other nodes.

Each message is one that Dask's own scheduler obeys: it believes whatever a worker says, and its
clients unpickle a part of it.
"""

import asyncio
import json
import os
import pickle
import sys
import threading
import time
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from millpond.engine.cluster.books import Flight, check_report
from millpond.engine.cluster.wire import pack_report, read_report
from millpond.engine.values import Entry, Limits, StoredOutput, TaskReport, TaskSpec

CONTRACTS = str(Path(__file__).parents[1] / "contracts")
sys.path.insert(0, CONTRACTS)
try:
    from cluster_rig import Cluster, wait_until
finally:
    sys.path.remove(CONTRACTS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("attacked"))
    try:
        made.start_scheduler()
        made.start_node("good")
        yield made
    finally:
        made.close()


@pytest.fixture
def engine(cluster):
    made = cluster.make_engine()
    yield made
    made.leave()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Rogue:
    """A process of somebody who has a node's key: joins as a worker, and says what it likes."""

    def __init__(self, cluster, name, address="tls://127.0.0.1:9"):
        self._cluster, self.name, self.address = cluster, name, address
        self.orders = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self):
        self.answer = self._do(self._join())
        return self

    def __exit__(self, *_):
        self._do(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def say(self, *messages):
        self._do(self._comm.write(list(messages)))

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _join(self):
        from distributed.comm import connect

        from millpond.engine.cluster.security import make_security

        identity = self._cluster.node_identity(self.name)
        args = make_security(identity).get_connection_args("worker")
        self._comm = await connect(self._cluster.url, timeout=5, **args)
        bandwidth = {"total": 1, "workers": {}, "types": {}}
        told = {
            "name": self.name, "boot": "b", "told": 1, "slots": 2, "memory_bytes": 1 << 30,
            "gpus": 0, "isolated": True, "reason": "", "running": {},
        }  # fmt: skip
        metrics = {
            "bandwidth": bandwidth,
            "digests_total_since_heartbeat": {},
            "memory": 1,
            "managed_bytes": 0,
            "spilled_bytes": {"memory": 0, "disk": 0},
            "millpond": told,
        }
        await self._comm.write({
            "op": "register-worker", "reply": False, "address": self.address, "status": "running",
            "server_id": "x", "nthreads": 2, "name": self.name, "now": time.time(),
            "resources": {}, "memory_limit": None, "metrics": metrics, "services": {},
            "local_directory": "/", "versions": {}, "nanny": None, "extra": {},
            "stimulus_id": "s",
        })  # fmt: skip
        answer = await self._comm.read()
        self._reader = asyncio.ensure_future(self._read())
        return answer

    async def _read(self):
        try:
            while True:
                self.orders += await self._comm.read()
        except OSError:
            pass

    async def _leave(self):
        self._comm.abort()
        await asyncio.gather(self._reader, return_exceptions=True)


def make_task(script):
    key = f"run/step/0/{uuid4().hex}"
    limits = Limits(seconds=120, memory_bytes=128 << 20)
    entry = Entry(command=("sh", "-c", script))
    return TaskSpec(key, "u", "p", entry, f"projects/p/{key}", limits=limits)


def ask(cluster, name, message):
    from distributed.comm import connect

    from millpond.engine.cluster.security import make_security

    async def talk():
        args = make_security(cluster.node_identity(name)).get_connection_args("worker")
        comm = await connect(cluster.url, timeout=5, **args)
        try:
            await comm.write({**message, "reply": True})
            return await asyncio.wait_for(comm.read(), 5)
        finally:
            comm.abort()

    return asyncio.run(talk())


def submit(engine, task, node):
    reports = []
    engine.submit(task, on_progress=lambda _: None, on_done=reports.append, node=node)
    return reports


@pytest.mark.slow
def test_what_a_node_logs_is_not_unpickled_by_the_server(cluster, engine, tmp_path):
    """Dask's clients listen to the topic "warn", and unpickle what stands there."""
    mark = tmp_path / "was_run"
    with Rogue(cluster, "rogue") as rogue:
        assert rogue.answer["status"] == "OK"
        assert wait_until(lambda: len(engine.nodes()) == 2, 10)
        said = {"message": pickle.dumps(Bomb(mark)), "category": pickle.dumps(Bomb(mark))}
        rogue.say({"op": "log-event", "topic": "warn", "msg": said})
        rogue.say({"op": "log-event", "topic": ["all", "warn"], "msg": said})
        assert not wait_until(mark.exists, 1)


@pytest.mark.slow
def test_the_kind_of_a_result_is_not_unpickled_by_the_server(cluster, engine, tmp_path):
    """Dask's clients unpickle the type that a worker says its result has."""
    mark = tmp_path / "was_run"
    with Rogue(cluster, "rogue") as rogue:
        assert wait_until(lambda: len(engine.nodes()) == 2, 10)
        submit(engine, make_task("true"), "rogue")
        assert wait_until(lambda: any(each["op"] == "compute-task" for each in rogue.orders), 10)
        order = next(each for each in rogue.orders if each["op"] == "compute-task")
        rogue.say({
            "op": "task-finished", "key": order["key"], "run_id": order["run_id"],
            "stimulus_id": "s", "metadata": {}, "nbytes": 1, "typename": "x", "thread": 1,
            "type": pickle.dumps(Bomb(mark)), "startstops": [],
        })  # fmt: skip
        assert not wait_until(mark.exists, 1)


@pytest.mark.slow
@pytest.mark.parametrize("op", ["worker-status-change", "task-erred", "reschedule"])
@pytest.mark.parametrize("is_named", [True, False])
def test_a_node_says_nothing_in_the_name_of_another(cluster, engine, op, is_named):
    """Dask takes the worker that a message names for the one that has sent it."""
    good = engine._books.find("good")
    task = make_task("sleep 60")
    reports = submit(engine, task, "good")
    key = engine._desk.link._futures[task.key].key
    about = {"stimulus_id": "s"} | ({"worker": good.address} if is_named else {})
    facts = {"key": key}
    if op == "task-erred":
        facts |= {"exception": None, "traceback": None, "exception_text": "", "thread": 1}
        facts |= {"traceback_text": "", "startstops": []}
    if op == "worker-status-change":
        facts = {"status": "paused"}
    for run_id in range(12):
        with Rogue(cluster, "rogue") as rogue:
            facts |= {"run_id": run_id} if op == "task-erred" else {}
            rogue.say({"op": op, **facts, **about})
            assert not wait_until(lambda: reports, 0.1)
        if op != "task-erred":
            break
    again = submit(engine, make_task("true"), "good")
    assert wait_until(lambda: again, 20), "the other node is paused"
    assert (again[0].outcome, reports) == ("done", [])
    engine.cancel(task.key)
    assert wait_until(lambda: reports, 20)


@pytest.mark.slow
def test_a_node_is_asked_by_its_own_name_only(cluster, engine):
    """A worker that tells another's address is not taken for the one that answers there."""
    good = engine._books.find("good").address
    with Rogue(cluster, "rogue", good) as rogue:
        assert rogue.answer["status"] != "OK"
    assert [node.name for node in engine.nodes()] == ["good"]


@pytest.mark.slow
@pytest.mark.parametrize("op", ["heartbeat_worker", "unregister"])
def test_a_node_means_no_other_by_whatever_spelling(cluster, engine, op):
    """Dask looks up names and host names after we have looked who is meant."""
    good = engine._books.find("good")
    port = good.address.rpartition(":")[2]
    told = {"name": "good", "boot": "other", "told": good.told + 99, "slots": 0, "running": {}}
    told |= {"memory_bytes": 0, "gpus": 0, "isolated": True, "reason": ""}
    empty = {"total": 1, "workers": {}, "types": {}}
    metrics = {"bandwidth": empty, "digests_total_since_heartbeat": {}, "millpond": told}
    facts = {"metrics": metrics, "now": 1.0} if op == "heartbeat_worker" else {"stimulus_id": "s"}
    for name in ("good", f"tls://localhost:{port}", f"127.0.0.1:{port}", f"tls://127.1:{port}"):
        answer = ask(cluster, "rogue", {"op": op, "address": name, **facts})
        status = answer["status"] if isinstance(answer, dict) else answer
        assert status in ("missing", "uncaught-error", "already-removed"), answer
    assert [node.name for node in engine.nodes()] == ["good"]
    assert engine._books.find("good").boot == good.boot


def packed(**facts):
    report = TaskReport("k", "done", 0, "", datetime.now(UTC), "n1", isolated=True)
    given = json.loads(zlib.decompress(pack_report(report)))
    return zlib.compress(json.dumps({**given, **facts}).encode())


OUTPUT = {"path": "a", "key": "p/a", "size": 1, "digest": "0" * 64}


@pytest.mark.parametrize(
    "facts",
    [
        {"outcome": "splendid"},
        {"outcome": ["done"]},
        {"key": 7},
        {"reason": "a\0b"},
        {"reason": "x" * 100_000},
        {"exit_code": "0"},
        {"exit_code": 1 << 40},
        {"cpu_seconds": float("nan")},
        {"cpu_seconds": -1},
        {"wall_seconds": "long"},
        {"memory_peak_bytes": 1 << 70},
        {"log_bytes": 1.5},
        {"outputs": [OUTPUT | {"size": "1"}]},
        {"outputs": [OUTPUT | {"size": -1}]},
        {"outputs": [OUTPUT | {"key": None}]},
        {"outputs": [7]},
        {"outputs": None},
        {"left_out": [1]},
        {"started_at": "2026-01-01T00:00:00"},
        {"started_at": 5},
        {"isolated": "yes"},
        {"is_refused": "yes"},
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"started_at": "9999-12-31T23:59:59-14:00"},
        {"outputs": [OUTPUT | {"size": 1 << 61}] * 2},
        {"result": ["x" * 1000] * 1000},
        {"unheard": "of"},
    ],
    ids=lambda facts: str(facts)[:60],
)
def test_a_report_of_nonsense_is_none(facts):
    """One that is taken goes into the database; one that breaks its reader keeps others waiting."""
    assert read_report(packed()).outcome == "done"
    assert read_report(packed(outputs=[OUTPUT])).outputs[0].key == "p/a"
    with pytest.raises(ValueError, match="report"):
        read_report(packed(**facts))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("b", "p/a"), ("../a", "p/../a"), ("./a", "p/./a"), ("/a", "p//a"), ("", "p/"), ("a", "q/a"),
        ("a b", "p/a b"), ("\ud800", "p/a"), ("a\0", "p/a"),
    ],
)  # fmt: skip
def test_an_output_lies_where_its_path_says_and_climbs_nowhere(path, key):
    """Its path becomes a name on the disks of those who take it."""
    task = TaskSpec("k", "u", "p", Entry("m:f"), "p")
    flight = Flight("k", "n1", "", "", task.limits, print, print, 0.0, task)
    report = TaskReport("k", "done", 0, "", datetime.now(UTC), "n1", isolated=True)
    for good, at in (("a", "p/a"), ("a/b c.txt", "p/a/b=20c.txt"), ("\udcff", "p/=ff")):
        output = StoredOutput(good, at, 1, "")
        assert check_report(flight, replace(report, outputs=(output,))) == ""
    bad = replace(report, outputs=(StoredOutput(path, key, 1, ""),))
    assert "not the task's" in check_report(flight, bad)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", zlib.compress(b"[" * 200_000), zlib.compress(b"[]"), zlib.compress(b"7")],
    ids=["empty", "no zlib", "deep", "list", "number"],
)
def test_what_is_no_report_is_refused(data):
    with pytest.raises(ValueError):
        read_report(data)


def test_a_report_that_grows_without_end_is_broken_off():
    with pytest.raises(ValueError, match="too large"):
        read_report(zlib.compress(b'"' + b"x" * (300 << 20) + b'"', 9))
