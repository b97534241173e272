"""Chunks of logs on a node's disk, on their way to the host: in order, as often as it takes."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from millpond.engine.cluster.door import HostAwayError
from millpond.ground.errors import BusyError, MillpondError

Send = Callable[[str, int, bytes], None]
"""Give the host one chunk: prefix, number, bytes. Twice is as good as once."""

_PAUSE_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Chunk:
    prefix: str
    sequence: int
    path: Path


class Spool:
    """Takes chunks at once and sends them from a thread of its own. Safe to share."""

    def __init__(self, folder: Path, send: Send, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        """Keep chunks in a folder of this process alone; what an earlier one left is removed.

        What is left belongs to tasks that ended with that process, so that nobody reads their
        logs on: the tasks run again elsewhere, under another number.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink(missing_ok=True)
        self._folder, self._send, self._pause = folder, send, pause_seconds
        self._waiting: deque[_Chunk] = deque()
        self._left: Counter[str] = Counter()
        self._faults: dict[str, MillpondError] = {}
        self._news = threading.Condition()
        self._number = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="log-spool", daemon=True)
        self._thread.start()

    def put(self, prefix: str, sequence: int, data: bytes) -> None:
        """Keep a chunk on disk; it is sent soon.

        Raises:
            MillpondError: the host has refused an earlier one of this prefix.
        """
        with self._news:
            if prefix in self._faults:
                raise self._faults[prefix]
            self._number += 1
            path = self._folder / f"{self._number:012d}"
        try:
            path.write_bytes(data)
        except OSError:  # The disk is full: half a chunk must not stay on it.
            with suppress(OSError):
                path.unlink()
            raise
        with self._news:
            self._waiting.append(_Chunk(prefix, sequence, path))
            self._left[prefix] += 1
            self._news.notify_all()

    def settle(self, prefix: str, seconds: float) -> None:
        """Wait until the host has every chunk of a prefix.

        Raises:
            BusyError: it did not take them in that time.
            MillpondError: it refused one.
        """
        with self._news:
            is_done = self._news.wait_for(
                lambda: not self._left[prefix] or self._is_closed, timeout=seconds
            )
            fault = self._faults.pop(prefix, None)
            if not self._left[prefix]:
                del self._left[prefix]
        if fault is not None:
            raise fault
        if not is_done or self._is_closed:
            raise BusyError(
                "The host did not take the end of the log.",
                next_step="Check that the server runs and that this node reaches it.",
            )

    def close(self) -> None:
        """Stop; what was not sent is dropped."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self._thread.join(5)
        for chunk in self._waiting:
            chunk.path.unlink(missing_ok=True)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                chunk = self._waiting[0]
            fault = self._try(chunk)
            if isinstance(fault, HostAwayError):
                with self._news:
                    self._news.wait_for(lambda: self._is_closed, timeout=self._pause)
                continue
            with suppress(OSError):
                chunk.path.unlink()
            with self._news:
                self._waiting.popleft()
                self._left[chunk.prefix] -= 1
                if fault is not None:
                    self._faults[chunk.prefix] = fault
                self._news.notify_all()

    def _try(self, chunk: _Chunk) -> MillpondError | None:
        try:
            self._send(chunk.prefix, chunk.sequence, chunk.path.read_bytes())
        except MillpondError as fault:
            if not isinstance(fault, HostAwayError):
                _log.warning("a log of %s was refused: %s", chunk.prefix, fault.message)
            return fault
        except Exception as fault:  # noqa: BLE001 - one chunk must not stop the others.
            _log.exception("a log of %s could not be sent", chunk.prefix)
            return BusyError(f"It could not be sent: {fault!r}.", next_step="See the node's log.")
        return None
