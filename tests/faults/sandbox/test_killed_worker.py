"""A worker that is killed leaves no process of a task behind, and the next one sweeps the rest."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from millpond.engine.local import LocalEngine
from millpond.engine.scratch import scratch_prefix
from millpond.engine.transfer import ObjectTransfer
from millpond.storage.folder import FolderStore

WORKER = """
import sys
from pathlib import Path
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Limits, TaskSpec
from millpond.storage.folder import FolderStore

root, mark, isolate = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "isolate"
store = FolderStore(root / "data", "http://localhost", b"k" * 32)
engine = LocalEngine(
    ObjectTransfer(store), root / "scratch", isolate=isolate, unisolated=lambda: Unisolated(is_allowed=True)
)
script = (
    "for n in 1 2 3; do setsid -f sh -c 'trap \\"\\" TERM HUP; sleep 600; : " + mark + "'; done;"
    "echo '{\\"message\\": \\"began\\"}' >&$MILLPOND_PROGRESS_FD; sleep 600"
)
engine.submit(
    TaskSpec(
        "k", "u", "p", Entry(command=("sh", "-c", script)), "o",
        limits=Limits(memory_bytes=256 << 20),
    ),
    on_progress=lambda _: print("began", flush=True),
    on_done=print,
)
sys.stdin.read()
"""


def living_with(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with suppress(OSError):
            if path.name.isdigit() and mark.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


@pytest.mark.parametrize("way", ["isolate", "plain"])
def test_a_killed_worker_leaves_nothing(tmp_path: Path, way: str) -> None:
    mark = f"mark{uuid4().hex}"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), mark, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"began\n"
        assert len(living_with(mark)) >= 3
    finally:
        worker.kill()
        worker.communicate()
    end = time.monotonic() + 2

    while living_with(mark) and time.monotonic() < end:
        time.sleep(0.01)
    left = living_with(mark)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left

    store = FolderStore(tmp_path / "data", "http://localhost", b"k" * 32)
    engine = LocalEngine(ObjectTransfer(store), tmp_path / "scratch")
    try:
        assert list((tmp_path / "scratch" / "sandboxes").iterdir()) == []
        prefix = scratch_prefix(tmp_path / "scratch")
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{prefix}*"))
    finally:
        engine.close()
