"""Start a node's worker again and again, on machines without a service manager."""

import signal
import subprocess
import threading
import time
from collections.abc import Sequence

STOPPED, AGAIN, REFUSED = 0, 75, 78
"""Exit codes: it was told to stop; it wants to be started anew; the host does not take it."""

GOOD_SECONDS = 60.0
"""Whoever has worked for so long has not failed at the start."""

_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)
_REFUSED_WAIT, _AGAIN_WAIT = 30.0, 0.2


def pause_after(failures: int) -> float:
    """Give how long to wait after so many failures in a row."""
    return _WAITS[min(failures, len(_WAITS)) - 1] if failures else _AGAIN_WAIT


def supervise(command: Sequence[str]) -> int:
    """Run a command, and again whenever it ends, until told to stop; give the exit code."""
    stopping = threading.Event()
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
        stopping.wait(_REFUSED_WAIT if code == REFUSED else pause_after(failures))
    return STOPPED
