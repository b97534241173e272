"""The log of a build: numbered pieces in the object store, so that any server can show it."""

import threading
from types import TracebackType
from typing import Self

from millpond.environments.values import LogPart
from millpond.ground.errors import ConflictError
from millpond.storage.port import ObjectStore

LOG_BYTES_MOST = 1 << 20
_EVERY_SECONDS = 0.5
_PARTS_MOST = 200


def log_prefix(project_id: str, version_id: str) -> str:
    """Give what the keys of a version's log begin with."""
    return f"projects/{project_id}/environments/{version_id}/log/"


class BuildLog:
    """Takes lines and writes them as pieces, at most two a second; goes on where one ended."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        """Write below ``prefix``; start with ``with``."""
        self._objects = objects
        self._prefix = prefix
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._left = LOG_BYTES_MOST
        self._number = sum(1 for _ in objects.list(prefix))
        self._thread = threading.Thread(target=self._write_on, name="millpond-log", daemon=True)

    def add(self, line: str) -> None:
        """Add a line; when the log is full, say so once and drop the rest."""
        size = len(line.encode("utf-8", "replace")) + 1
        with self._lock:
            if self._left <= 0:
                return
            self._left -= size
            cut = f"The log is cut here: it has reached {LOG_BYTES_MOST} bytes."
            self._lines.append(line if self._left > 0 else cut)

    def flush(self) -> None:
        """Write what is waiting."""
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        while True:
            try:
                self._objects.put(f"{self._prefix}{self._number:08d}", data)
            except ConflictError:  # A stale worker of the same job wrote it; both are kept.
                self._number += 1
            else:
                self._number += 1
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.flush()

    def _write_on(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self.flush()


def read_log(objects: ObjectStore, prefix: str, after: int, *, has_ended: bool) -> LogPart:
    """Give what was written after so many pieces; a bounded number of pieces at once."""
    start = f"{prefix}{after - 1:08d}" if after > 0 else ""
    keys: list[str] = []
    is_cut = False
    for info in objects.list(prefix, start):
        if len(keys) == _PARTS_MOST:
            is_cut = True
            break
        keys.append(info.key)
    text = b"".join(objects.get(key) for key in keys).decode("utf-8", "replace")
    after_these = int(keys[-1].rpartition("/")[2]) + 1 if keys else after
    return LogPart(text, after_these, has_ended and not is_cut)
