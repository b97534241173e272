"""Keep chunks of tasks' logs that nodes send, and never more of one than its task was given."""

import threading
from collections import OrderedDict

from millpond.ground.errors import ConflictError, TooLargeError
from millpond.storage.port import ObjectStore

_SLACK_BYTES = 1 << 20
"""Lines of Millpond's own come whole, also past the cap."""
_KNOWN_MOST = 5000


class LogMeter:
    """Keeps chunks and counts how long each log is. Safe to share between threads."""

    def __init__(self, objects: ObjectStore) -> None:
        """Keep them in this store."""
        self._objects = objects
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, key: str, data: bytes, most: int) -> None:
        """Keep a chunk; the same one again is fine.

        Args:
            key: of the chunk.
            data: its bytes.
            most: how long the log may be in all.

        Raises:
            TooLargeError: the log would be longer.
            ConflictError: another chunk has that number.
        """
        folder, length = key.rpartition("/")[0] + "/", max(1, len(data))
        if self._add(folder, length) > most + _SLACK_BYTES:
            self._add(folder, -length)
            raise TooLargeError(
                f"The log of a task holds at most {most:,} bytes.",
                next_step="Write less, or give the step a larger limit.",
                limit_bytes=most,
            )
        try:
            self._objects.put(key, data)
        except BaseException as fault:
            self._add(folder, -length)
            if not isinstance(fault, ConflictError) or self._objects.get(key) != data:
                raise

    def _add(self, folder: str, size: int) -> int:
        """Count bytes of a log; those from before this server began, too. Give the sum."""
        with self._lock:
            known = self._sizes.get(folder)
        if known is None:
            known = sum(each.size for each in self._objects.list(folder))
        with self._lock:
            self._sizes[folder] = self._sizes.get(folder, known) + size
            self._sizes.move_to_end(folder)
            while len(self._sizes) > _KNOWN_MOST:
                self._sizes.popitem(last=False)
            return self._sizes[folder]
