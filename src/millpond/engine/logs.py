"""Keep a running task's log in bounded chunks, and read its progress."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from millpond.engine.values import TaskProgress

_FLUSH_SECONDS, _FLUSH_BYTES = 1.0, 256 << 10
_LINE_MOST, _MESSAGE_MOST, _NUMBERS_MOST, _NAME_MOST = 16 << 10, 500, 50, 100
_PROGRESS_SECONDS = 0.2
_TAIL_BYTES, _LAST_MOST = 2000, 300


class LogKeeper:
    """Collect a log and hand it on at most once a second; past the cap only a last line."""

    def __init__(self, append: Callable[[int, bytes], None], cap_bytes: int) -> None:
        """Hand chunks, numbered from 0, to ``append``."""
        self._append = append
        self._cap = cap_bytes
        self._waiting = bytearray()
        self._sequence = 0
        self._flushed_at = time.monotonic()
        self._tail = b""
        self.kept_bytes = 0
        self.is_full = False

    def take(self, data: bytes) -> None:
        """Take what the task has written; what is past the cap is dropped."""
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if self.is_full:
            return
        room = self._cap - self.kept_bytes
        self._waiting += data[:room]
        self.kept_bytes += min(len(data), room)
        if len(data) > room:
            self.is_full = True
            self.note(f"the log is longer than {self._cap} bytes; the rest was not kept")
        elif len(self._waiting) >= _FLUSH_BYTES:
            self.flush()

    def note(self, text: str) -> None:
        """Add a line of our own; it comes whole, also past the cap."""
        if self._waiting and not self._waiting.endswith(b"\n"):
            self._waiting += b"\n"
        self._waiting += f"[millpond] {text}\n".encode()

    def last_line(self, hidden: Iterable[str] = ()) -> str:
        """Give the last line that the task has written, short and printable, secrets hidden."""
        lines = [line.strip() for line in self._tail.splitlines() if line.strip()]
        text = _plain(lines[-1].decode("utf-8", "replace")) if lines else ""
        for secret in filter(None, hidden):
            text = text.replace(secret, "********")
        return text[:_LAST_MOST]

    @property
    def due_seconds(self) -> float | None:
        """How long until the next flush is due; None when nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, self._flushed_at + _FLUSH_SECONDS - time.monotonic())

    def flush(self) -> None:
        """Hand on what waits."""
        if self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._append(self._sequence, data)
            self._sequence += 1
        self._flushed_at = time.monotonic()


class ProgressReader:
    """Turn JSON lines of a task into progress, a few times a second at most.

    A line is an object with any of ``done``, ``total`` (numbers), ``message`` (text) and
    ``numbers`` (object of numbers); anything else is passed over.
    """

    def __init__(self, key: str, on_progress: Callable[[TaskProgress], None]) -> None:
        """Tell ``on_progress`` of the task's latest word."""
        self._key = key
        self._tell = on_progress
        self._rest = b""
        self._latest: TaskProgress | None = None
        self._told_at = 0.0

    def take(self, data: bytes) -> None:
        """Take what the task has written; only the last whole line counts."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_MOST:
            self._rest = b""
        for line in reversed(lines):
            progress = read_progress(self._key, line)
            if progress is not None:
                self._latest = progress
                break
        if time.monotonic() - self._told_at >= _PROGRESS_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Tell the latest word, if it is news."""
        if self._latest is not None:
            self._tell(self._latest)
            self._latest = None
            self._told_at = time.monotonic()


def read_progress(key: str, line: bytes) -> TaskProgress | None:
    """Read one line of progress; None when it is not one."""
    if len(line) > _LINE_MOST:
        return None
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    numbers = facts.get("numbers")
    return TaskProgress(
        key=key,
        done=_number(facts, "done"),
        total=_number(facts, "total"),
        message=_plain(facts.get("message")),
        numbers=_numbers(numbers) if isinstance(numbers, dict) else {},
    )


def _numbers(facts: Mapping[str, Any]) -> dict[str, float]:
    found = {_plain(name)[:_NAME_MOST]: _number(facts, name) for name in facts}
    kept = [(name, value) for name, value in found.items() if value is not None]
    return dict(kept[:_NUMBERS_MOST])


def _number(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _plain(value: object) -> str:
    """Cut a text down to one printable line that any database can keep."""
    if not isinstance(value, str):
        return ""
    text = value[:_MESSAGE_MOST].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in text)
