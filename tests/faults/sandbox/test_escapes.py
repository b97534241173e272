"""A hostile step tries to get out, to reach others, and to leave something behind; each must fail."""

import ast
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import (
    Entry,
    Grants,
    Limits,
    StagedInput,
    TaskProgress,
    TaskReport,
    TaskSpec,
    log_key,
)
from millpond.storage.folder import FolderStore

SOURCE = Path(__file__).with_name("escapes.py")
LIMITS = Limits(seconds=20, memory_bytes=192 << 20, disk_bytes=32 << 20, processes=64, files=2000)


def names_of_escapes() -> list[str]:
    """Every public function of the hostile code before ``try_all``."""
    names: list[str] = []
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            if node.name == "try_all":
                return [each for each in names if each not in ("call", "check", "read", "write")]
            if not node.name.startswith("_"):
                names.append(node.name)
    raise AssertionError("try_all is gone")


ESCAPES = names_of_escapes()


class Den:
    """An engine, a store, and things outside that a hostile step would like to reach."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FolderStore(root / "data", "http://localhost", b"k" * 32)
        data = SOURCE.read_bytes()
        self.store.put("code/escapes.py", data)
        self.store.put("in/a", b"an input")
        self.code = (StagedInput("escapes.py", "object:code/escapes.py", len(data)),)
        self.host_file = root / "host-file"
        self.host_file.write_text("of the host")
        self.host_file.chmod(0o644)
        self.engine = LocalEngine(ObjectTransfer(self.store), root / "scratch", slots=2)
        other = root / "scratch" / "sandboxes" / "other-task"
        other.mkdir()
        (other / "secret").write_text("of another task")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(root / "unix"))
        self.unix.listen()
        self.abstract_name = f"millpond-test-{uuid4().hex}"
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.abstract_name}")
        self.abstract.listen()
        self.facts = {
            "host_file": str(self.host_file),
            "object": str(self.store.local_path("in/a")),
            "data": str(root / "data"),
            "other_task": str(other / "secret"),
            "scratch": str(root / "scratch"),
            "port": self.server.getsockname()[1],
            "unix": str(root / "unix"),
            "abstract": self.abstract_name,
        }

    def close(self) -> None:
        for each in (self.server, self.unix, self.abstract):
            each.close()
        self.engine.close()

    def run(self, function: str, arguments: dict[str, Any] | None = None, **facts: Any) -> "Told":
        key = f"run/step/0/{uuid4().hex}"
        spec = TaskSpec(
            **{
                "key": key,
                "user_id": "user_1",
                "project_id": "project_1",
                "entry": Entry(f"escapes:{function}", arguments or {}),
                "output_prefix": f"projects/p/{key}",
                "code": self.code,
                "code_digest": "e5c",
                "preload": ("escapes",),
                "inputs": (StagedInput("a", "object:in/a", 8),),
                "limits": LIMITS,
                **facts,
            }
        )
        told = Told(self, spec)
        self.engine.submit(spec, on_progress=told.news.append, on_done=told.end)
        assert told.ended.wait(30), "the task did not end"
        return told


class Told:
    """What was heard of one task."""

    def __init__(self, den: Den, spec: TaskSpec) -> None:
        self.den, self.spec = den, spec
        self.news: list[TaskProgress] = []
        self.ended = threading.Event()
        self.reports: list[TaskReport] = []

    def end(self, report: TaskReport) -> None:
        self.reports.append(report)
        self.ended.set()

    @property
    def report(self) -> TaskReport:
        return self.reports[0]

    @property
    def outputs(self) -> dict[bytes, bytes]:
        store = self.den.store
        return {os.fsencode(each.path): store.get(each.key) for each in self.report.outputs}

    @property
    def log(self) -> bytes:
        store = self.den.store
        keys = [info.key for info in store.list(log_key(self.spec.output_prefix, 0)[:-8])]
        return b"".join(store.get(key) for key in keys)


@pytest.fixture(scope="module")
def den(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Den]:
    den = Den(tmp_path_factory.mktemp("den"))
    try:
        if not den.engine.machine.sandbox.works:
            pytest.skip(f"no sandbox: {den.engine.machine.reason}")
        yield den
    finally:
        den.close()


@pytest.fixture(scope="module")
def tried(den: Den) -> dict[str, str | None]:
    told = den.run("try_all", {"names": ESCAPES, "facts": den.facts})
    assert told.report.outcome == "done", told.report.reason + told.log.decode()
    assert told.report.isolated
    return dict(told.report.result)


def test_enough_is_tried() -> None:
    assert len(ESCAPES) >= 90


@pytest.mark.parametrize("name", ESCAPES)
def test_it_is_refused(tried: dict[str, str | None], name: str) -> None:
    assert tried[name] is None


def test_the_world_outside_is_as_it_was(tried: dict[str, str | None], den: Den) -> None:
    assert den.host_file.read_text() == "of the host"
    assert den.store.get("in/a") == b"an input"
    assert den.store.get("code/escapes.py") == SOURCE.read_bytes()
    for server in (den.server, den.unix, den.abstract):
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_granted_network_opens_the_network_and_nothing_else(den: Den) -> None:
    told = den.run("try_all", {"names": ESCAPES, "facts": den.facts}, grants=Grants(network=True))
    got = {name for name, found in told.report.result.items() if found is not None}
    assert "connect_loopback" in got
    # An abstract socket belongs to the network; the security model says so.
    assert got <= {
        *("connect_loopback", "connect_abstract", "see_network_devices"),
        *("resolve_name", "connect_outside"),
    }


def test_odd_names_come_out_as_they_are(den: Den) -> None:
    names = (b"line\nbreak", b"bytes\xff", b"..data", b" ", b"$(id)", b"-rf", b"\x1b[31m")
    told = den.run("leave_odd_names")
    assert told.report.outcome == "done"
    assert {name: data for name, data in told.outputs.items() if name in names} == dict.fromkeys(
        names, b"ok"
    )


def test_links_pipes_and_sockets_are_named_and_left(den: Den) -> None:
    told = den.run("leave_links")
    assert told.report.outcome == "done"
    assert told.outputs == {b"first": b"1", b"second": b"1"}
    assert len(told.report.left_out) == 6


def test_a_sparse_giant_is_refused(den: Den) -> None:
    size = str(LIMITS.disk_bytes - 1).encode()
    key = f"in/{uuid4().hex}"
    den.store.put(key, size)
    inputs = (StagedInput("a", f"object:{key}", len(size)),)
    assert den.run("leave_sparse", inputs=inputs).report.outcome == "done"
    huge = f"in/{uuid4().hex}"
    den.store.put(huge, b"1099511627776")
    inputs = (StagedInput("a", f"object:{huge}", 13),)
    told = den.run("leave_sparse", inputs=inputs)
    assert told.report.outcome == "failed"
    assert b"File too large" in told.log


def test_a_deep_tree_is_cleared(den: Den) -> None:
    told = den.run("leave_deep_tree")
    assert told.outputs == {}
    assert den.run("tell_state").report.outcome == "done"


def test_too_many_files_are_refused(den: Den) -> None:
    told = den.run("leave_many")
    assert told.report.outcome == "failed"
    assert "2000 files" in told.report.reason


@pytest.mark.parametrize("kind", ["link", "pipe", "deep", "nan", "large"])
def test_a_hostile_result_is_refused(den: Den, kind: str) -> None:
    told = den.run("leave_result", {"kind": kind})
    assert told.report.outcome == "failed"
    assert told.report.result is None


def test_open_files_are_limited(den: Den) -> None:
    assert den.run("open_all_files").report.result["opened"] < 9000


def test_a_full_tmp_is_the_tasks_own_trouble(den: Den) -> None:
    assert den.run("fill_tmp").report.outcome in ("done", "failed")
    assert den.run("tell_state").report.result["tmp"] == []


def test_a_memory_bomb_dies_alone(den: Den) -> None:
    told = den.run("map_memory")
    assert told.report.outcome == "failed"
    assert "memory" in told.report.reason or b"MemoryError" in told.log or b"Cannot" in told.log
    assert told.report.memory_peak_bytes <= LIMITS.memory_bytes + (8 << 20)


def test_a_child_that_dies_of_memory_is_not_the_task(den: Den) -> None:
    told = den.run("overload")
    assert told.report.outcome == "done"
    assert told.report.result["child"] != 0


def test_a_fork_bomb_ends_with_its_limit_of_time(den: Den) -> None:
    limits = Limits(**{**vars(LIMITS), "seconds": 1})
    began = time.monotonic()
    told = den.run("bomb", limits=limits)
    assert told.report.outcome == "timed_out"
    assert time.monotonic() - began < 6
    assert den.run("tell_state", limits=limits).report.outcome == "done"


def test_an_endless_log_is_drained_and_capped(den: Den) -> None:
    limits = Limits(**{**vars(LIMITS), "seconds": 1, "log_bytes": 50_000})
    told = den.run("print_without_end", limits=limits)
    assert told.report.outcome == "timed_out"
    assert len(told.log) < 50_500


def test_endless_progress_is_thinned_and_bounded(den: Den) -> None:
    told = den.run("progress_without_end")
    assert told.report.outcome == "done"
    assert 1 <= len(told.news) <= 12
    assert all(len(each.message) <= 500 for each in told.news)


def test_a_forged_report_does_not_count(den: Den) -> None:
    report = den.run("forge_report").report
    assert (report.outcome, report.exit_code) == ("failed", 9)


def test_shared_memory_does_not_outlive_the_task(den: Den) -> None:
    assert den.run("shared_memory").report.outcome == "done"
    assert den.run("count_shared_memory").report.result == {"shm": 0, "msg": 0, "sem": 0}


def test_changed_state_does_not_reach_the_next_task(den: Den) -> None:
    before = den.run("tell_state", seed=3).report.result
    assert den.run("change_state").report.outcome == "done"
    assert den.run("tell_state", seed=3).report.result == before


def test_daemons_end_with_the_task(den: Den) -> None:
    told = den.run("spawn_daemons", {"count": 5})
    assert told.report.outcome == "done"
    group = [sandbox.group for _, sandbox in den.engine._shelf._idle.values() if sandbox.group]
    for each in group:
        assert len((each.folders[0] / "cgroup.procs").read_text().split()) == 2
