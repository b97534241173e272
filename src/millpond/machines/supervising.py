"""Start a service again and again, on machines without a service manager; bound its log."""

import logging
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOPPED, AGAIN, REFUSED = 0, 75, 78
"""Exit codes: it was told to stop; it wants to be started anew; the host does not take it."""

GOOD_SECONDS = 60.0
"""Whoever has worked for so long has not failed at the start."""

_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)
_AGAIN_WAIT = 0.2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogBounds:
    """How large a log may become.

    Attributes:
        most_bytes: from then on it is put aside, and begun anew.
        kept: how many that were put aside are kept, as ``NAME.1`` (the newest) and so on.
        seconds: how often it is looked at.
    """

    most_bytes: int = 10 << 20
    kept: int = 4
    seconds: float = 10.0


def pause_after(failures: int) -> float:
    """Give how long to wait after so many failures in a row."""
    return _WAITS[min(failures, len(_WAITS)) - 1] if failures else _AGAIN_WAIT


def own_log() -> Path | None:
    """Give the file that this process' output goes to; None for a terminal or a pipe."""
    with suppress(OSError, ValueError):
        if stat.S_ISREG(os.fstat(1).st_mode):
            path = Path("/proc/self/fd/1").readlink()
            return path if path.is_file() else None
    return None


def put_aside(log: Path, kept: int) -> None:
    """Copy a log to ``NAME.1``, what was there to ``NAME.2`` and so on, and empty it.

    Whoever writes to it goes on writing: it must have been opened for appending. What comes in the
    moment between the end of the copy and the emptying is lost.
    """
    for number in range(kept, 1, -1):
        older, newer = Path(f"{log}.{number}"), Path(f"{log}.{number - 1}")
        with suppress(FileNotFoundError):
            newer.replace(older)
    with log.open("rb") as source, Path(f"{log}.1").open("wb") as copy:
        os.fchmod(copy.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
        shutil.copyfileobj(source, copy)
    os.truncate(log, 0)


def _tend(log: Path, bounds: LogBounds, stopping: threading.Event) -> None:
    while not stopping.wait(bounds.seconds):
        try:
            if log.stat().st_size > bounds.most_bytes:
                put_aside(log, bounds.kept)
        except OSError as fault:  # Such as a full disk: emptying it is what helps there.
            _log.warning("the log %s could not be put aside: %s", log, fault)
            with suppress(OSError):
                os.truncate(log, 0)


def supervise(command: Sequence[str], bounds: LogBounds | None = None) -> int:
    """Run a command, and again whenever it ends, until told to stop; give the exit code.

    Where the output goes to a file, that is kept within bounds.
    """
    stopping = threading.Event()
    log = own_log()
    if log is not None:
        given = (log, bounds or LogBounds(), stopping)
        threading.Thread(target=_tend, args=given, name="log", daemon=True).start()
    child: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        stopping.set()
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    failures = 0
    while not stopping.is_set():
        began = time.monotonic()
        child = subprocess.Popen(command)
        if stopping.is_set():  # Told in the moment between.
            child.send_signal(signal.SIGTERM)
        code = child.wait()
        is_well = code == AGAIN or time.monotonic() - began > GOOD_SECONDS
        failures = 0 if is_well else failures + 1
        stopping.wait(pause_after(failures))
    return STOPPED
