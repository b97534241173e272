"""What running tasks take is measured from outside, by their group or by their processes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.engine.cgroups import Group
from millpond.engine.footprint import Held, TaskMeter, number_of
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Limits, StagedInput, TaskProgress, TaskReport, TaskSpec
from millpond.storage.folder import FolderStore

MB = 1 << 20
HELD_MB = 60
BUSY = f"""
import os, sys, time
held = bytearray(os.urandom({MB})) * {HELD_MB}
def burn():
    end = time.process_time() + 0.15
    while time.process_time() < end:
        pass
"""
PARENT = f"""
import subprocess, sys
child = '''{BUSY}
sys.stdout.write("ready\\\\n"); sys.stdout.flush()
sys.stdin.readline()
burn()
sys.stdout.write("burnt\\\\n"); sys.stdout.flush()
sys.stdin.readline()
'''
subprocess.run([sys.executable, "-c", child])
"""
STEP = (
    BUSY
    + """
def work():
    for number in range(1, 1000):
        os.write(int(os.environ["MILLPOND_PROGRESS_FD"]), b'{"message": "%d"}\\n' % number)
        burn()
"""
)


class Ticks:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def files_of(version: int, folder: Path, cpu: float, memory: int, cached: int) -> None:
    if version == 1:
        (folder / "cpuacct.usage").write_text(f"{int(cpu * 1e9)}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{memory}\n")
        (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {cached}\n")
    else:
        (folder / "cpu.stat").write_text(f"usage_usec {int(cpu * 1e6)}\nuser_usec 0\n")
        (folder / "memory.current").write_text(f"{memory}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_task_is_measured_by_its_group(tmp_path: Path, version: int) -> None:
    limits = Limits(cpu_slots=2, memory_bytes=64 * MB)
    held = {"r/s/0/1": Held(limits, Group(version, (tmp_path,)), 0)}
    ticks = Ticks()
    meter = TaskMeter(lambda: held, monotonic=ticks)
    files_of(version, tmp_path, 10.0, 40 * MB, 8 * MB)
    (first,) = meter.sample()
    assert first == {
        "key": "r/s/0/1",
        "cpu": None,
        "memory_bytes": 32 * MB,
        "memory_limit_bytes": 64 * MB,
        "slots": 2,
    }
    ticks.now += 5
    files_of(version, tmp_path, 17.5, 20 * MB, 0)
    (second,) = meter.sample()
    assert (second["cpu"], second["memory_bytes"]) == (1.5, 20 * MB)
    ticks.now += 0.01  # A heartbeat that was asked for right after another.
    files_of(version, tmp_path, 17.6, 20 * MB, 0)
    assert meter.sample()[0]["cpu"] == 1.5
    ticks.now += 5
    files_of(version, tmp_path, 0.2, 20 * MB, 0)
    assert meter.sample()[0]["cpu"] is None, "it has begun anew in another sandbox"


def test_what_has_gone_is_left_out(tmp_path: Path) -> None:
    held = {
        "a": Held(Limits(), Group(2, (tmp_path / "gone",)), 0),
        "b": Held(Limits(), None, 0),
        "c": Held(Limits(), None, 1 << 30),
    }
    assert TaskMeter(lambda: held).sample() == []
    assert TaskMeter(dict).sample() == []


def test_a_name_of_a_program_misleads_nobody(tmp_path: Path) -> None:
    zeros = " ".join("0" for _ in range(7))
    for pid, parent, name in ((7, 1, "a) S 99 (b"), (8, 7, "x y")):
        (tmp_path / str(pid)).mkdir()
        line = f"{pid} ({name}) S {parent} {zeros} 0 0 100 50 25 25 0 0 0 0 0 0 3 0"
        (tmp_path / str(pid) / "stat").write_text(line)
    (tmp_path / "9").mkdir()  # It ends while it is looked at.
    held = {"k": Held(Limits(), None, 7)}
    ticks = Ticks()
    meter = TaskMeter(lambda: held, monotonic=ticks, processes=tmp_path)
    assert meter.sample()[0]["memory_bytes"] == 6 * os.sysconf("SC_PAGE_SIZE")


def test_a_task_without_a_group_is_measured_with_all_that_came_from_it() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == b"ready\n"
            held = {"k": Held(Limits(), None, process.pid)}
            ticks = Ticks()
            meter = TaskMeter(lambda: held, monotonic=ticks)
            (first,) = meter.sample()
            assert HELD_MB * MB < first["memory_bytes"] < 3 * HELD_MB * MB
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"burnt\n"
            ticks.now += 2
            assert 0.05 <= meter.sample()[0]["cpu"] < 1
        finally:
            process.stdin.close()


def test_a_pidfd_tells_its_process() -> None:
    handle = os.pidfd_open(os.getpid())
    assert number_of(handle) == os.getpid()
    os.close(handle)
    assert number_of(handle) == 0


@pytest.fixture(params=[True, False], ids=["group", "processes"])
def made(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LocalEngine, FolderStore]]:
    if not request.param:  # As on a machine whose control groups cannot be written.
        monkeypatch.setattr("millpond.engine.probe.find_groups", lambda: (None, "there are none"))
    store = FolderStore(tmp_path / "objects", "http://127.0.0.1", b"k" * 32)
    engine = LocalEngine(
        ObjectTransfer(store),
        tmp_path / "scratch",
        slots=2,
        unisolated=lambda: Unisolated(is_allowed=True),
    )
    yield engine, store
    engine.close()


class Heard:
    """Hears how far a task is, and how it has ended."""

    def __init__(self) -> None:
        self.number = 0
        self.reports: list[TaskReport] = []
        self.news = threading.Condition()

    def progress(self, told: TaskProgress) -> None:
        with self.news:
            self.number = int(told.message or 0)
            self.news.notify_all()

    def done(self, report: TaskReport) -> None:
        with self.news:
            self.reports.append(report)
            self.news.notify_all()

    def wait(self, number: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.number >= number or self.reports, 60)
            assert not self.reports

    def wait_end(self) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.reports, 60)


def test_a_task_that_runs_is_measured(made: tuple[LocalEngine, FolderStore]) -> None:
    engine, store = made
    store.put("code/step.py", STEP.encode())
    heard, ticks = Heard(), Ticks()
    task = TaskSpec(
        key="run/step/0/1",
        user_id="u",
        project_id="p",
        entry=Entry("step:work", {}),
        code=(StagedInput("step.py", "object:code/step.py", len(STEP)),),
        code_digest="d1",
        output_prefix="out",
        limits=Limits(memory_bytes=512 * MB),
    )
    meter = TaskMeter(engine.held, monotonic=ticks)
    assert meter.sample() == []
    engine.submit(task, on_progress=heard.progress, on_done=heard.done)
    heard.wait(1)
    (first,) = meter.sample()
    assert first["key"] == task.key
    assert first["memory_limit_bytes"] == 512 * MB
    assert HELD_MB * MB < first["memory_bytes"] < 512 * MB
    heard.wait(heard.number + 2)
    ticks.now += 1
    assert meter.sample()[0]["cpu"] >= 0.15
    engine.cancel(task.key)
    heard.wait_end()
    assert meter.sample() == []
