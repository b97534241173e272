"""The disk of running tasks is full: while inputs are brought in, and inside a step."""

import os
import queue
import subprocess
from pathlib import Path

import pytest

from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Limits, StagedInput, TaskSpec

WORDS = ("scratch_folder", "free space", "millpond doctor", "start the run again")


@pytest.fixture
def small_disk(missing_here):
    folder = Path("/tmp") / f"millpond-scratch-{os.getpid()}"
    folder.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "millpond-test", str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            missing_here("a file system of its own", "run the tests as root")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
        folder.rmdir()


@pytest.fixture
def run(folder_store, small_disk):
    engine = LocalEngine(
        ObjectTransfer(folder_store),
        small_disk / "scratch",
        slots=1,
        unisolated=lambda: Unisolated(is_allowed=True),
    )

    def run_task(key, *command, inputs=()):
        ended = queue.Queue()
        task = TaskSpec(
            key=key,
            user_id="user_1",
            project_id="project_1",
            entry=Entry("", {}, command),
            output_prefix=f"projects/p/{key}",
            inputs=inputs,
            limits=Limits(seconds=30, memory_bytes=256 << 20),
        )
        engine.submit(task, on_progress=lambda _: None, on_done=ended.put)
        return ended.get(timeout=40)

    yield run_task
    engine.close()


@pytest.mark.slow
def test_a_full_disk_is_told_with_the_next_step_and_the_next_task_runs(folder_store, run):
    folder_store.put("large", bytes(40 << 20))
    large = StagedInput("large", "object:large", 40 << 20)
    staged = run("r/s/0/a", "true", inputs=(large,))
    assert staged.outcome == "lost"
    assert "folder of running tasks is full" in staged.reason
    inside = run("r/s/0/b", "dd", "if=/dev/zero", "of=large", "bs=1M", "count=60")
    assert inside.outcome == "failed"
    named = run("r/s/0/d", "sh", "-c", "cat /dev/zero > large")
    assert "ends: cat: write error: No space left on device" in named.reason
    for told in (staged, inside, named):
        assert all(word in told.reason for word in WORDS), told.reason
        assert "Errno" not in told.reason
    assert run("r/s/0/c", "true").outcome == "done"
