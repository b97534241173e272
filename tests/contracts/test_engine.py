"""What every engine promises; each adapter inherits the class and gives its own ``make_engine``."""

import os
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from millpond.engine.local import LocalEngine
from millpond.engine.port import Engine
from millpond.engine.rules import Unisolated
from millpond.engine.scratch import scratch_prefix
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
from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotAllowedError
from millpond.storage.folder import FolderStore

sys.path.insert(0, str(Path(__file__).parent))
try:
    from cluster_rig import Cluster
finally:
    sys.path.remove(str(Path(__file__).parent))

SYSTEM_PYTHON = "/usr/bin/python3"

CODE = b'''
import json, os, random, signal, subprocess, sys, threading, time
import builtins
from pathlib import Path

IN, OUT = os.environ["MILLPOND_INPUT"], os.environ["MILLPOND_OUTPUT"]
builtins.loaded = getattr(builtins, "loaded", 0) + 1

def double(number):
    """Read the input, print, write two outputs, return a result."""
    print("doubling", number)
    print(open(IN + "/data/a.txt").read(), file=sys.stderr)
    open("answer.txt", "w").write(str(2 * number))
    os.makedirs("more/deep")
    open("more/deep/b.bin", "wb").write(bytes(range(256)))
    return {"number": 2 * number}

def nothing():
    pass

def who():
    """Tell which process forked us and what we are."""
    return {"parent": os.getppid(), "started": Path("/proc/%d/stat" % os.getppid()).read_text().split()[21],
            "uid": os.getuid(), "loaded": builtins.loaded, "names": sorted(os.environ),
            "tmp": os.listdir(os.environ["TMPDIR"]), "shm": os.listdir("/dev/shm"), "out": os.listdir(OUT),
            "in": os.listdir(IN), "boot": open("/proc/sys/kernel/random/boot_id").read(),
            "pidns": os.readlink("/proc/self/ns/pid"), "random": random.random()}

def go_out(port):
    import socket
    gate = socket.socket(socket.AF_UNIX)
    gate.connect("/task/gateway/socket")
    try:
        open("/task/gateway/mine", "w")
        writable = True
    except OSError:
        writable = False
    try:
        socket.create_connection(("127.0.0.1", port), 2)
        other = True
    except OSError:
        other = False
    return {"said": gate.recv(99).decode(), "writable": writable, "other": other}

def fail():
    raise ValueError("on purpose")

def leave(code):
    sys.exit(code)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def lines(count):
    for number in range(count):
        print("line", number)

def slow_lines():
    print("first")
    time.sleep(1.4)
    print("second")

def progress():
    fd = int(os.environ["MILLPOND_PROGRESS_FD"])
    os.write(fd, b"this is no json\\n[1]\\n")
    for done in range(1, 4):
        os.write(fd, json.dumps({"done": done, "total": 3, "message": "at\\x07 %d" % done,
                                 "numbers": {"loss": 0.5, "bad": "x", "nan": float("nan")}}).encode() + b"\\n")
        time.sleep(0.25)

def sleep(seconds, path=None):
    open("began", "w").close()
    os.write(int(os.environ["MILLPOND_PROGRESS_FD"]), b'{"message": "began"}\\n')
    time.sleep(seconds)

def daemons():
    """Leave daemons behind that ignore every polite word."""
    for _ in range(3):
        subprocess.Popen([sys.executable, "-c", "import os, signal, time\\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\\nos.setsid()\\nif os.fork(): os._exit(0)\\nos.setsid()\\ntime.sleep(600)  # %s" % os.environ["MARK"]], start_new_session=False)
    time.sleep(0.4)

def daemons_and_wait():
    daemons()
    os.write(int(os.environ["MILLPOND_PROGRESS_FD"]), b'{"message": "began"}\\n')
    time.sleep(600)

def leave_things():
    Path(os.environ["TMPDIR"], "left").write_text("x")
    deep = Path(os.environ["TMPDIR"], "a", "b"); deep.mkdir(parents=True); deep.chmod(0)
    try:
        Path("/dev/shm/left").write_text("x")
    except OSError:
        pass
    os.environ["LEFT"] = "x"
    builtins.left = True
    Path("kept").write_text("x")

def hoard():
    block = []
    while True:
        block.append(bytearray(16 << 20))

def fork_without_end():
    count = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(60); os._exit(0)
            count += 1
    except OSError:
        return {"forked": count}

def fill_disk():
    block = b"x" * (1 << 20)
    number = 0
    while True:
        with open("part%d" % number, "wb") as file:
            file.write(block)
        number += 1
        time.sleep(0.005)

def one_large_file():
    with open("large", "wb") as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))

def many_files():
    for number in range(100000):
        open(str(number), "w").close()

def bad_result():
    os.mkdir(".millpond")
    open(".millpond/result.json", "w").write("{nonsense")

def deep_result():
    os.mkdir(".millpond")
    open(".millpond/result.json", "w").write('{"rows": ' + "[" * 600 + "]" * 600 + "}")

def endless_number():
    os.mkdir(".millpond")
    open(".millpond/result.json", "w").write('{"rows": {"a": [[1e999, 1]]}}')

def large_result():
    return "x" * 70000

def links():
    os.symlink("/etc/passwd", "link")
    os.mkfifo("pipe")
    open("good", "w").write("g")

def hang_when_forked():
    if builtins.loaded and LOCK.locked():
        LOCK.acquire()
    return {"fresh": True}
'''

THREADED = b"""
import threading
asked, answered = threading.Event(), threading.Event()
def serve():
    asked.wait()
    answered.set()
threading.Thread(target=serve, daemon=True).start()
def work():
    asked.set()
    return {"answered": answered.wait(10)}
"""

HANGS = b"""
import _thread, threading, sys, os
LOCK = threading.Lock()
def hold():
    LOCK.acquire()
    threading.Event().wait()
if "IN_PRELOAD" not in os.environ:
    os.environ["IN_PRELOAD"] = str(os.getpid())
    _thread.start_new_thread(hold, ())
    while not LOCK.locked():
        pass
def work():
    if os.environ["IN_PRELOAD"] != str(os.getpid()):
        LOCK.acquire()
    return {"ran": True}
"""


class Bench:
    """An engine on a folder store, and what it takes to run a task on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FolderStore(root / "data", "http://localhost", b"k" * 32)
        for name, data in (
            ("code/tasks.py", CODE),
            ("code/hangs.py", HANGS),
            ("code/threaded.py", THREADED),
            ("in/a", b"an input"),
        ):
            with suppress(ConflictError):  # Another bench on this folder has put it there.
                self.store.put(name, data)
        self.code = tuple(
            StagedInput(name, f"object:code/{name}", self.store.stat(f"code/{name}").size)
            for name in ("tasks.py", "hangs.py", "threaded.py")
        )

    def spec(self, function: str = "", command: tuple[str, ...] = (), **facts: Any) -> TaskSpec:
        key = f"run/step/0/{uuid4().hex}"
        arguments = facts.pop("arguments", {})
        defaults: dict[str, Any] = {
            "key": key,
            "user_id": "user_1",
            "project_id": "project_1",
            "entry": Entry(f"tasks:{function}" if function else "", arguments, command),
            "output_prefix": f"projects/p/{key}",
            "code": self.code,
            "code_digest": "c0de",
            "preload": ("tasks",) if function else (),
            "inputs": (StagedInput("data/a.txt", "object:in/a", 8),),
            "limits": Limits(seconds=30, memory_bytes=256 << 20),
        }
        return TaskSpec(**{**defaults, **facts})

    def outputs(self, report: TaskReport) -> dict[str, bytes]:
        return {each.path: self.store.get(each.key) for each in report.outputs}

    def log(self, spec: TaskSpec) -> str:
        keys = [info.key for info in self.store.list(log_key(spec.output_prefix, 0)[:-8])]
        return b"".join(self.store.get(key) for key in keys).decode(errors="replace")


class Running:
    """A task that was submitted: wait for its word and for its end."""

    def __init__(self, engine: Engine, spec: TaskSpec, *, waits: bool = False) -> None:
        self.spec, self.news = spec, list[TaskProgress]()
        self._began, self._ended = threading.Event(), threading.Event()
        self.reports: list[TaskReport] = []
        engine.submit(spec, on_progress=self._on_progress, on_done=self._on_done, waits=waits)

    def _on_progress(self, news: TaskProgress) -> None:
        assert not self.reports
        self.news.append(news)
        self._began.set()

    def _on_done(self, report: TaskReport) -> None:
        self.reports.append(report)
        self._ended.set()

    def wait_began(self) -> None:
        assert self._began.wait(20)

    def report(self, seconds: float = 30) -> TaskReport:
        assert self._ended.wait(seconds), "the task did not end"
        assert len(self.reports) == 1
        return self.reports[0]


def run(engine: Engine, spec: TaskSpec) -> TaskReport:
    return Running(engine, spec).report()


def living_with(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are wanted.
        with suppress(OSError):
            if name.isdigit() and mark.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
    return found


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class EngineContract(ABC):
    """The promises. ``isolated`` says whether the adapter's tasks run in a sandbox.

    ``has_gateways`` says whether they run on the machine where a gateway's socket is.
    """

    isolated = True
    has_gateways = True

    @abstractmethod
    def make_engine(self, bench: Bench) -> Engine:
        """Make an engine with at least two slots over the bench's store."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return Bench(tmp_path)

    @pytest.fixture
    def engine(self, bench: Bench) -> Iterator[Engine]:
        engine = self.make_engine(bench)
        try:
            yield engine
        finally:
            engine.close()

    def test_a_function_gives_outputs_result_and_log(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec("double", arguments={"number": 21})
        report = run(engine, spec)
        assert (report.outcome, report.exit_code, report.reason) == ("done", 0, "")
        assert report.result == {"number": 42}
        assert bench.outputs(report) == {"answer.txt": b"42", "more/deep/b.bin": bytes(range(256))}
        assert all(each.key.startswith(f"{spec.output_prefix}/") for each in report.outputs)
        assert bench.log(spec) == "doubling 21\nan input\n"
        assert report.log_bytes == len("doubling 21\nan input\n")
        assert report.isolated is self.isolated
        assert report.wall_seconds > 0
        assert report.cpu_seconds > 0
        assert report.memory_peak_bytes > 1 << 20
        assert report.started_at.utcoffset() is not None

    def test_a_command_of_any_language_runs_in_the_output_folder(
        self, engine: Engine, bench: Bench
    ) -> None:
        script = 'pwd; echo "$GREETING $SECRET"; cat /task/in/data/a.txt > copy; cat "$PLACE/a.txt"'
        spec = bench.spec(
            command=("sh", "-c", script),
            variables={"GREETING": "hello", "PLACE": "/task/in/data"},
            secrets={"SECRET": "hush"},
        )
        report = run(engine, spec)
        assert report.outcome == "done", bench.log(spec)
        assert bench.outputs(report) == {"copy": b"an input"}
        assert bench.log(spec).endswith("out\nhello hush\nan input")
        assert "hush" not in repr(spec)

    def test_python_commands_see_kit_and_code(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec(command=("python", "-c", "import millpond, tasks; print(millpond.step)"))
        assert run(engine, spec).outcome == "done", bench.log(spec)

    @pytest.mark.parametrize(
        ("function", "arguments", "code", "words"),
        [
            ("fail", {}, 1, "exit code 1"),
            ("leave", {"code": 7}, 7, "exit code 7"),
            ("leave", {"code": 0}, 0, ""),
            ("leave", {"code": "bad luck"}, 1, "exit code 1"),
        ],
    )
    def test_exit_codes_are_told(
        self, engine: Engine, bench: Bench, function: str, arguments: Any, code: int, words: str
    ) -> None:
        spec = bench.spec(function, arguments=arguments)
        report = run(engine, spec)
        assert report.exit_code == code
        assert report.outcome == ("done" if code == 0 else "failed")
        assert words in report.reason
        if function == "fail":
            assert "ValueError: on purpose" in bench.log(spec)
            assert report.outputs == ()

    def test_a_missing_program_says_so(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec(command=("no-such-program",))
        assert run(engine, spec).exit_code == 127
        assert "no-such-program: there is no such program" in bench.log(spec)

    def test_a_crash_is_tried_once_more_fresh_and_told(self, engine: Engine, bench: Bench) -> None:
        report = run(engine, bench.spec("crash"))
        assert (report.outcome, report.exit_code) == ("failed", -11)
        assert "SIGSEGV" in report.reason
        assert report.needed_fresh

    def test_a_hang_that_comes_from_forking_is_cured_by_a_fresh_one(
        self, engine: Engine, bench: Bench
    ) -> None:
        spec = bench.spec(
            "nothing", preload=("hangs",), limits=Limits(seconds=1.5, memory_bytes=256 << 20)
        )
        report = run(engine, TaskSpec(**{**vars(spec), "entry": Entry("hangs:work")}))
        assert (report.outcome, report.needed_fresh) == ("done", True), report.reason

    def test_a_module_that_starts_a_thread_is_imported_by_each_task_itself(
        self, engine: Engine, bench: Bench
    ) -> None:
        spec = bench.spec("nothing", preload=("threaded",))
        for key in ("first", "second"):
            facts = {**vars(spec), "key": key, "entry": Entry("threaded:work")}
            report = run(engine, TaskSpec(**facts))
            assert (report.outcome, report.needed_fresh) == ("done", False), report.reason
            assert report.result == {"answered": True}

    def test_a_time_out_is_kept(self, engine: Engine, bench: Bench) -> None:
        limits = Limits(seconds=0.6, memory_bytes=256 << 20)
        began = time.monotonic()
        report = run(
            engine, bench.spec("sleep", arguments={"seconds": 60}, preload=(), limits=limits)
        )
        assert report.outcome == "timed_out"
        assert "0.6 seconds" in report.reason
        assert time.monotonic() - began < 4
        assert report.outputs == ()

    def test_cancel_ends_the_whole_tree_within_two_seconds(
        self, engine: Engine, bench: Bench
    ) -> None:
        mark = f"mark-{uuid4().hex}"
        running = Running(engine, bench.spec("daemons_and_wait", variables={"MARK": mark}))
        running.wait_began()
        assert len(living_with(mark)) == 3
        began = time.monotonic()
        engine.cancel(running.spec.key)
        assert running.report().outcome == "cancelled"
        assert wait_until(lambda: not living_with(mark), 2 - (time.monotonic() - began))

    def test_cancel_of_an_unknown_key_is_passed_over(self, engine: Engine, bench: Bench) -> None:
        engine.cancel("nobody")
        assert run(engine, bench.spec("nothing")).outcome == "done"

    def test_a_late_cancel_does_not_hit_the_next_task(self, engine: Engine, bench: Bench) -> None:
        first = Running(engine, bench.spec("nothing"))
        engine.cancel(first.spec.key)
        first.report()
        for _ in range(3):
            assert run(engine, bench.spec("nothing")).outcome == "done"

    def test_a_daemon_left_behind_is_gone_when_the_task_is_done(
        self, engine: Engine, bench: Bench
    ) -> None:
        mark = f"mark-{uuid4().hex}"
        assert run(engine, bench.spec("daemons", variables={"MARK": mark})).outcome == "done"
        assert wait_until(lambda: not living_with(mark), 1)

    def test_logs_keep_their_order_and_come_while_it_runs(
        self, engine: Engine, bench: Bench
    ) -> None:
        running = Running(engine, bench.spec("slow_lines"))
        assert wait_until(lambda: bench.log(running.spec) == "first\n", 10)
        running.report()
        assert bench.log(running.spec) == "first\nsecond\n"

    def test_a_long_log_is_complete(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec("lines", arguments={"count": 20_000})
        assert run(engine, spec).outcome == "done"
        assert bench.log(spec) == "".join(f"line {number}\n" for number in range(20_000))

    def test_an_endless_log_is_capped_and_says_so(self, engine: Engine, bench: Bench) -> None:
        limits = Limits(seconds=30, memory_bytes=256 << 20, log_bytes=10_000)
        spec = bench.spec("lines", arguments={"count": 50_000}, limits=limits)
        report = run(engine, spec)
        assert report.outcome == "done"
        assert report.log_bytes == 10_000
        assert "the log is longer than 10000 bytes" in bench.log(spec).splitlines()[-1]
        assert len(bench.log(spec)) < 10_200

    def test_progress_is_told_in_bounds(self, engine: Engine, bench: Bench) -> None:
        running = Running(engine, bench.spec("progress"))
        running.report()
        last = running.news[-1]
        assert (last.done, last.total, last.message, dict(last.numbers)) == (
            3.0,
            3.0,
            "at  3",
            {"loss": 0.5},
        )
        assert len(running.news) >= 2

    def test_slots_are_kept(self, engine: Engine, bench: Bench) -> None:
        half = bench.spec("sleep", arguments={"seconds": 60})
        node = engine.nodes()[0]
        limits = Limits(cpu_slots=node.slots, seconds=60, memory_bytes=256 << 20)
        running = Running(engine, bench.spec("sleep", arguments={"seconds": 60}, limits=limits))
        running.wait_began()
        assert engine.nodes()[0].free_slots == 0
        with pytest.raises(BusyError):
            Running(engine, half)
        with pytest.raises(ConflictError):
            Running(engine, running.spec)
        engine.cancel(running.spec.key)
        running.report()
        assert engine.nodes()[0].free_slots == node.slots
        with pytest.raises(InvalidError):
            Running(engine, bench.spec("nothing", limits=Limits(cpu_slots=node.slots + 1)))

    def test_a_successor_waits_in_the_slot_where_it_may(self, engine: Engine, bench: Bench) -> None:
        node = engine.nodes()[0]
        limits = Limits(cpu_slots=node.slots, seconds=60, memory_bytes=256 << 20)
        first = Running(engine, bench.spec("sleep", arguments={"seconds": 60}, limits=limits))
        first.wait_began()
        if not node.takes_ahead:
            with pytest.raises(BusyError):
                Running(engine, bench.spec("nothing"), waits=True)
            return
        second, third = (
            Running(engine, bench.spec("sleep", arguments={"seconds": 0.1}), waits=True)
            for _ in range(2)
        )
        assert engine.nodes()[0].free_slots == 0
        with pytest.raises(BusyError):
            Running(engine, bench.spec("nothing"))
        engine.cancel(second.spec.key)
        assert second.report().outcome == "cancelled"
        assert not second.news
        assert not third.news
        engine.cancel(first.spec.key)
        assert first.report().outcome == "cancelled"
        assert third.report().outcome == "done"
        assert engine.nodes()[0].free_slots == node.slots

    def test_one_that_was_overtaken_by_its_successors_waits_for_them(
        self, engine: Engine, bench: Bench
    ) -> None:
        node = engine.nodes()[0]
        if not node.takes_ahead:
            return
        spec = partial(bench.spec, "sleep", arguments={"seconds": 0.3})
        ahead = [Running(engine, spec(), waits=True) for _ in range(int(node.slots))]
        if isinstance(engine, LocalEngine):  # On a node it may come so; the books know better.
            ahead.append(Running(engine, spec()))
        assert [each.report().outcome for each in ahead] == ["done"] * len(ahead)

    def test_reattach_tells_what_runs_and_drain_takes_no_more(
        self, engine: Engine, bench: Bench
    ) -> None:
        running = Running(engine, bench.spec("sleep", arguments={"seconds": 60}))
        running.wait_began()
        heard: list[TaskReport] = []
        assert engine.reattach([running.spec.key, "gone"], on_done=heard.append) == {
            running.spec.key
        }
        engine.drain(engine.nodes()[0].name)
        assert engine.nodes()[0].is_draining
        with pytest.raises(BusyError):
            Running(engine, bench.spec("nothing"))
        engine.cancel(running.spec.key)
        assert wait_until(lambda: len(heard) == 1, 5)
        assert heard[0].outcome == "cancelled"

    def test_tasks_of_one_key_share_a_warm_process(self, engine: Engine, bench: Bench) -> None:
        first, second = (run(engine, bench.spec("who")).result for _ in range(2))
        assert _place(first) == _place(second)
        assert first["loaded"] == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"user_id": "user_2"},
            {"project_id": "project_2"},
            {"code_digest": "0the4"},
            {"grants": Grants(network=True)},
            {"grants": Grants(gateway="/usr/share")},
            {"grants": Grants(secrets=("KEY",)), "secrets": {"KEY": "a"}},
            {"limits": Limits(seconds=31, memory_bytes=256 << 20)},
            {"preload": ()},
            {"fork": False},
        ],
        ids="-".join,
    )
    def test_a_warm_process_is_never_shared_across_the_key(
        self, engine: Engine, bench: Bench, change: dict[str, Any]
    ) -> None:
        grants = change.get("grants", Grants())
        if grants.gateway and not self.has_gateways:
            with pytest.raises(InvalidError, match="own machine only"):
                run(engine, bench.spec("who", **change))
            return
        places = {_place(run(engine, bench.spec("who")).result)}
        places.add(_place(run(engine, bench.spec("who", **change)).result))
        assert len(places) == 2

    def test_a_gateway_is_the_only_way_out_of_a_sandbox(
        self, engine: Engine, bench: Bench, tmp_path: Path
    ) -> None:
        if not self.isolated or not self.has_gateways:
            assert run(engine, bench.spec("who")).isolated is self.isolated
            return
        folder = tmp_path / "gateway"
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as gate, socket.create_server(("127.0.0.1", 0)) as other:
            gate.bind(str(folder / "socket"))
            (folder / "socket").chmod(0o666)
            gate.listen()
            arguments = {"port": other.getsockname()[1]}
            spec = bench.spec(
                "go_out", arguments=arguments, grants=Grants(gateway=str(folder)), preload=()
            )
            running = Running(engine, spec)
            gate.settimeout(20)
            with gate.accept()[0] as asked:
                asked.sendall(b"come in")
            result = running.report().result
        assert result == {"said": "come in", "writable": False, "other": False}, bench.log(spec)
        without = bench.spec("go_out", arguments=arguments, preload=())
        assert run(engine, without).outcome == "failed"
        assert "FileNotFoundError" in bench.log(without)

    def test_another_environment_is_another_process(
        self, engine: Engine, bench: Bench, tmp_path: Path
    ) -> None:
        environment = make_venv(SYSTEM_PYTHON, tmp_path / "env")
        plain = run(engine, bench.spec("who")).result
        other = run(engine, bench.spec("who", environment=str(environment))).result
        assert _place(plain) != _place(other)

    def test_secrets_stay_with_their_values(self, engine: Engine, bench: Bench) -> None:
        facts = {"grants": Grants(secrets=("KEY",))}
        first = run(engine, bench.spec("who", secrets={"KEY": "a"}, **facts)).result
        second = run(engine, bench.spec("who", secrets={"KEY": "b"}, **facts)).result
        assert _place(first) != _place(second)

    def test_nothing_is_left_for_the_next_task(self, engine: Engine, bench: Bench) -> None:
        first = run(engine, bench.spec("leave_things", variables={"MINE": "x"}))
        second = run(engine, bench.spec("who", inputs=())).result
        assert bench.outputs(first) == {"kept": b"x"}
        assert (second["tmp"], second["out"], second["in"]) == ([], [], [])
        assert not {"LEFT", "MINE"} & set(second["names"])
        if self.isolated:
            assert second["shm"] == []

    def test_the_seed_makes_the_numbers(self, engine: Engine, bench: Bench) -> None:
        numbers = [run(engine, bench.spec("who", seed=seed)).result["random"] for seed in (1, 1, 2)]
        assert numbers[0] == numbers[1] != numbers[2]

    def test_never_root(self, engine: Engine, bench: Bench) -> None:
        assert run(engine, bench.spec("who")).result["uid"] != 0

    def test_only_files_are_taken_out_and_the_rest_is_named(
        self, engine: Engine, bench: Bench
    ) -> None:
        report = run(engine, bench.spec("links"))
        assert report.outcome == "done"
        assert bench.outputs(report) == {"good": b"g"}
        assert len(report.left_out) == 2
        assert "'link': is a link" in report.reason
        assert "'pipe': is a pipe" in report.reason

    @pytest.mark.parametrize(
        "function", ["bad_result", "large_result", "deep_result", "endless_number"]
    )
    def test_a_bad_result_fails_the_task(self, engine: Engine, bench: Bench, function: str) -> None:
        report = run(engine, bench.spec(function))
        assert report.outcome == "failed"
        assert "result" in report.reason
        assert report.outputs == ()

    @pytest.mark.parametrize(
        ("function", "limits", "words"),
        [
            ("fill_disk", Limits(disk_bytes=20 << 20), "more than 20 MiB"),
            ("one_large_file", Limits(disk_bytes=20 << 20), "exit code 1"),
            ("many_files", Limits(files=1000), "more than 1000 files"),
        ],
    )
    def test_disk_and_files_are_limited(
        self, engine: Engine, bench: Bench, function: str, limits: Limits, words: str
    ) -> None:
        held = Limits(**{**vars(limits), "seconds": 20, "memory_bytes": 256 << 20})
        report = run(engine, bench.spec(function, limits=held))
        assert report.outcome == "failed"
        assert words in report.reason
        assert report.outputs == ()
        assert run(engine, bench.spec("nothing", limits=held)).outcome == "done"

    def test_memory_is_limited(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec("hoard")
        report = run(engine, spec)
        assert report.outcome == "failed"
        assert "memory" in report.reason or "MemoryError" in bench.log(spec)
        assert run(engine, bench.spec("nothing")).outcome == "done"

    def test_processes_are_limited_where_they_can_be(self, engine: Engine, bench: Bench) -> None:
        limits = Limits(seconds=20, memory_bytes=256 << 20, processes=20)
        report = run(engine, bench.spec("fork_without_end", limits=limits))
        assert report.outcome == "done", report.reason
        assert report.result["forked"] < 24

    def test_an_input_that_is_gone_loses_the_task_in_words(
        self, engine: Engine, bench: Bench
    ) -> None:
        gone = (StagedInput("x", "object:not/there", 1),)
        report = run(engine, bench.spec("nothing", inputs=gone))
        assert report.outcome == "lost"
        assert "not/there" in report.reason

    def test_inputs_of_any_name_arrive(self, engine: Engine, bench: Bench) -> None:
        names = ("line\nbreak", os.fsdecode(b"bytes\xff\xfe"), "spa ce/deep/ü", "-rf")
        inputs = tuple(StagedInput(name, "object:in/a", 8) for name in names)
        spec = bench.spec(command=("cp", "-r", "/task/in/.", "."), inputs=inputs)
        report = run(engine, spec)
        assert {os.fsencode(path): data for path, data in bench.outputs(report).items()} == {
            os.fsencode(name): b"an input" for name in names
        }
        assert bench.store.get("in/a") == b"an input"

    def test_two_tasks_run_at_once(self, engine: Engine, bench: Bench) -> None:
        both = [Running(engine, bench.spec("sleep", arguments={"seconds": 60})) for _ in range(2)]
        for each in both:
            each.wait_began()
        for each in both:
            engine.cancel(each.spec.key)
        assert {each.report().outcome for each in both} == {"cancelled"}

    def test_close_cancels_and_leaves_nothing(self, bench: Bench) -> None:
        engine = self.make_engine(bench)
        mark = f"mark-{uuid4().hex}"
        try:
            running = Running(engine, bench.spec("daemons_and_wait", variables={"MARK": mark}))
            running.wait_began()
        finally:
            engine.close()
        assert running.report(1).outcome == "cancelled"
        assert not living_with(mark)
        assert not living_with(str(bench.root))
        self.check_nothing_left(bench)

    def check_nothing_left(self, bench: Bench) -> None:  # noqa: B027 - an adapter may have nothing.
        """Assert what an adapter leaves on disk and in control groups after ``close``."""


def _place(facts: Any) -> tuple[str, ...]:
    """Tell one warm process from another: its parent's start time, number and namespace."""
    return facts["pidns"], str(facts["parent"]), facts["started"]


def make_venv(python: str, folder: Path) -> Path:
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


class TestLocalEngine(EngineContract):
    """The engine on this machine, in bubblewrap."""

    def make_engine(self, bench: Bench) -> Engine:
        engine = LocalEngine(
            ObjectTransfer(bench.store), bench.root / "scratch", slots=2, takes_ahead=True
        )
        sandbox = engine.machine.sandbox
        if not sandbox.works:
            engine.close()
            pytest.skip(f"{sandbox.reason}; {sandbox.next_step}")
        return engine

    def check_nothing_left(self, bench: Bench) -> None:
        scratch = bench.root / "scratch"
        assert list((scratch / "sandboxes").iterdir()) == []
        assert list((scratch / "code").iterdir()) == []
        prefix = scratch_prefix(scratch)
        groups = [
            Path(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names
        ]
        assert not [path for path in groups if path.name.startswith(prefix)]

    def test_left_overs_of_a_killed_engine_are_swept(self, bench: Bench) -> None:
        left = bench.root / "scratch" / "sandboxes" / "millpond-left" / "out"
        left.mkdir(parents=True)
        (left / "file").write_text("x")
        prefix = scratch_prefix(bench.root / "scratch")
        pids = Path("/sys/fs/cgroup/pids")
        if os.geteuid() == 0 and pids.is_dir():
            (pids / f"{prefix}77").mkdir()
        engine = self.make_engine(bench)
        engine.close()
        self.check_nothing_left(bench)

    def test_a_second_engine_on_one_folder_is_refused(self, engine: Engine, bench: Bench) -> None:
        with pytest.raises(ConflictError, match="Another engine"):
            self.make_engine(bench)

    def test_it_says_that_it_isolates(self, engine: Engine) -> None:
        assert engine.nodes()[0].isolated

    def test_it_runs_in_a_venv_of_either_python(
        self, engine: Engine, bench: Bench, tmp_path: Path
    ) -> None:
        base = getattr(sys, "_base_executable", sys.executable)
        for number, python in enumerate((SYSTEM_PYTHON, base)):
            environment = make_venv(python, tmp_path / f"env{number}")
            spec = bench.spec("who", environment=str(environment))
            report = run(engine, spec)
            assert report.outcome == "done", report.reason + bench.log(spec)


class TestPlainEngine(EngineContract):
    """The engine on this machine, without bubblewrap: marked, and allowed only by the rule."""

    isolated = False

    def make_engine(self, bench: Bench) -> Engine:
        return LocalEngine(
            ObjectTransfer(bench.store),
            bench.root / "scratch",
            slots=2,
            isolate=False,
            unisolated=lambda: Unisolated(is_loopback=True, accounts=1),
        )

    def test_it_says_that_it_does_not_isolate(self, engine: Engine) -> None:
        node = engine.nodes()[0]
        assert not node.isolated
        assert node.reason

    def test_it_refuses_where_others_could_be_hurt(self, bench: Bench) -> None:
        engine = LocalEngine(ObjectTransfer(bench.store), bench.root / "scratch", isolate=False)
        try:
            with pytest.raises(NotAllowedError, match="can't isolate"):
                Running(engine, bench.spec("nothing"))
        finally:
            engine.close()


class TestDaskEngine(EngineContract):
    """The engine on other machines: here a scheduler and one node, over loopback."""

    has_gateways = False
    cluster: Cluster

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _cluster(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cluster = cls.cluster = Cluster(tmp_path_factory.mktemp("cluster"))
        try:
            cluster.start_scheduler()
            cluster.start_node("n1")
            yield
        finally:
            cluster.close()

    @pytest.fixture
    def bench(self) -> Bench:
        return Bench(self.cluster.root / "bench")

    def make_engine(self, bench: Bench) -> Engine:
        engine = self.cluster.make_engine()
        node = engine.nodes()[0]
        if not node.isolated:
            engine.leave()
            pytest.skip(node.reason)
        return engine

    def test_its_tasks_go_on_when_it_leaves(self, engine: Engine, bench: Bench) -> None:
        running = Running(engine, bench.spec("sleep", arguments={"seconds": 60}))
        running.wait_began()
        engine.leave()
        assert running.reports == []
        heard: list[TaskReport] = []
        other = self.make_engine(bench)
        try:
            assert other.nodes()[0].free_slots == 1
            assert other.reattach([running.spec.key, "gone"], on_done=heard.append) == {
                running.spec.key
            }
            assert other.nodes()[0].free_slots == 1
            other.cancel(running.spec.key)
            assert wait_until(lambda: len(heard) == 1, 5)
            assert (heard[0].outcome, heard[0].node) == ("cancelled", "n1")
        finally:
            other.close()

    def test_what_ended_while_nobody_listened_is_told(self, engine: Engine, bench: Bench) -> None:
        spec = bench.spec(command=("sh", "-c", "echo said; sleep 0.5; echo 1 > number"))
        running = Running(engine, spec)
        engine.leave()
        assert wait_until(lambda: bench.store.exists(f"{spec.output_prefix}/number"), 20)
        heard: list[TaskReport] = []
        other = self.make_engine(bench)
        try:
            assert other.reattach([spec.key], on_done=heard.append) == {spec.key}
            assert wait_until(lambda: len(heard) == 1, 5)
            assert heard[0].outcome == "done"
            assert bench.outputs(heard[0]) == {"number": b"1\n"}
            assert other.nodes()[0].free_slots == other.nodes()[0].slots
        finally:
            other.close()
        assert running.reports == []
