"""Look into Parquet files, which strangers made, without reading them in this process.

The reader is a large library in C++: it works in a process of its own, with limits of memory and
time, which asks for the bytes it needs and gets 64 MiB at most. Where bubblewrap works it sees
nothing of the machine but the interpreter and its packages; elsewhere it is a plain process.
"""

import json
import os
import shutil
import site
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from millpond.ground.errors import BusyError
from millpond.lake.previews import parquet_child
from millpond.lake.previews.values import CELL_CHARACTERS, COLUMNS, ROWS

ReadRange = Callable[[int, int], bytes]

_SECONDS = 20.0
_MEMORY_BYTES = 2 << 30
_BUDGET_BYTES = 64 << 20
_ASK_BYTES = 100
_ANSWER_BYTES = 16 << 20
_AT_ONCE = 2
_WAIT_SECONDS = 15.0
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")

_turns = threading.BoundedSemaphore(_AT_ONCE)


def look(read_range: ReadRange, size: int, memory_bytes: int = _MEMORY_BYTES) -> dict[str, Any]:
    """Give ``columns``, ``rows``, ``row_count`` and ``column_count``, or a ``fault`` in words.

    Raises:
        BusyError: others are being looked at, and it took too long.
    """
    if not _turns.acquire(timeout=_WAIT_SECONDS):
        raise BusyError("Many tables are being looked at.", next_step="Try again in a moment.")
    try:
        return _run(read_range, size, memory_bytes)
    finally:
        _turns.release()


def _run(read_range: ReadRange, size: int, memory_bytes: int) -> dict[str, Any]:
    numbers = (memory_bytes, size, ROWS, COLUMNS, CELL_CHARACTERS)
    asked = [str(number) for number in numbers]
    environment = {"ARROW_DEFAULT_MEMORY_POOL": "system", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [*_sandbox(), sys.executable, "-I", str(Path(parquet_child.__file__)), *asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
    ) as child:
        alarm = threading.Timer(_SECONDS, child.kill)
        alarm.start()
        try:
            return _talk(child, read_range)
        except (OSError, ValueError):
            return {"fault": "the file breaks the reader, or needs more memory or time than a look"}
        finally:
            alarm.cancel()
            child.kill()


def _talk(child: "subprocess.Popen[bytes]", read_range: ReadRange) -> dict[str, Any]:
    assert child.stdin is not None  # noqa: S101 - both are pipes.
    assert child.stdout is not None  # noqa: S101 - both are pipes.
    left = _BUDGET_BYTES
    while True:
        line = child.stdout.readline(_ANSWER_BYTES)
        if not line.startswith(b"["):
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError(line[:_ASK_BYTES])
            return answer
        start, length = (int(number) for number in json.loads(line[:_ASK_BYTES]))
        left -= length
        if left < 0 or start < 0 or length < 0:
            return {"fault": "its first rows take more than 64 MiB"}
        data = read_range(start, length)
        child.stdin.write(len(data).to_bytes(8, "big") + data)
        child.stdin.flush()


def _sandbox() -> tuple[str, ...]:
    return _find_sandbox(os.geteuid())


@lru_cache(1)
def _find_sandbox(user: int) -> tuple[str, ...]:
    """Give the command that shuts a process in, or nothing where this machine has none."""
    del user
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        return ()
    interpreter = Path(sys.executable)
    own = {sys.prefix, sys.base_prefix, str(interpreter.resolve().parent.parent)}
    own |= {str(Path(parquet_child.__file__).parent), *site.getsitepackages()}
    command = [bubblewrap, "--unshare-all", "--die-with-parent", "--new-session"]
    for place in (*_SYSTEM, *sorted(own)):
        command += ["--ro-bind-try", place, place]
    command += ["--proc", "/proc", "--dev", "/dev", "--"]
    tried = subprocess.run(
        [*command, sys.executable, "-I", "-c", "import pyarrow"],
        check=False, capture_output=True, cwd="/", env={}, timeout=60,
    )  # fmt: skip
    return tuple(command) if tried.returncode == 0 else ()
