"""How far a task is, as JSON lines to the worker, a few times a second."""

import os
import time

from .wire import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional

_SECONDS = 0.2


class Progress:
    """Counts items and bytes that are done and tells the worker now and then."""

    def __init__(self, items: int, size: int) -> None:
        """Count up to so many items and bytes; 0 when that is not known."""
        self._items, self._size = items, size
        self._done = self._bytes = 0
        self._told = 0.0
        number = os.environ.get("MILLPOND_PROGRESS_FD", "")
        self._fd = int(number) if number.isdigit() else -1

    def __enter__(self) -> "Progress":  # noqa: PYI034 - Self is not in Python 3.9.
        return self

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        fault: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None:
        if self._done:
            self._tell()

    def count(self, items: int, size: int) -> None:
        """Add what is done."""
        self._done += items
        self._bytes += size
        now = time.monotonic()
        if now - self._told >= _SECONDS:
            self._told = now
            self._tell()

    def _tell(self) -> None:
        if self._fd < 0:
            return
        word: "dict[str, Any]" = {"done": self._done, "numbers": {"bytes": self._bytes}}
        if self._items:
            word["total"] = self._items
        try:
            os.write(self._fd, dumps(word).encode() + b"\n")
        except OSError:
            self._fd = -1  # Nobody listens any more.
