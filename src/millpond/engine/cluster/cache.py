"""Objects that a node has fetched, by digest, up to so many bytes: the longest unused go first."""

import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from millpond.ground.errors import BusyError

Fill = Callable[[], Iterable[bytes]]
_READABLE = 0o444


class DigestError(BusyError):
    """Bytes came that are not those of the digest."""


class Cache:
    """A folder of objects. One process at a time; safe to share between threads."""

    def __init__(self, folder: Path, most_bytes: int, free_least: float = 0.1) -> None:
        """Keep at most so many bytes, and fewer while less than a share of the disk is free."""
        self._folder, self._most, self._free_least = folder, most_bytes, free_least
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._held: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        found = []
        for path in folder.iterdir():
            if path.name.startswith("."):
                path.unlink(missing_ok=True)  # Half of one, of an earlier process.
            else:
                found.append((path.stat().st_atime, path.name, path.stat().st_size))
        for _, name, size in sorted(found):
            self._held[name] = size
        self._trim()

    @property
    def held_bytes(self) -> int:
        """How many bytes it holds."""
        with self._lock:
            return sum(self._held.values())

    def open(self, digest: str) -> int | None:
        """Open an object for reading; None when it is not held. The caller closes it."""
        with self._lock:
            if digest not in self._held:
                return None
            self._held.move_to_end(digest)
        try:
            return os.open(self._folder / digest, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            with self._lock:
                self._held.pop(digest, None)
            return None

    def make(self, digest: str, size: int | None, fill: Fill) -> int:
        """Open an object, bringing it first when it is not held; of several callers one brings.

        Args:
            digest: sha256 of its bytes.
            size: in bytes; None when only the digest is known.
            fill: gives its bytes.

        Raises:
            DigestError: what was brought has another digest or another size.
        """
        with self._lock:
            making = self._making.setdefault(digest, threading.Lock())
        with making:
            handle = self.open(digest)
            if handle is not None:
                return handle
            with self._written(digest, size, fill) as path:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                path.rename(self._folder / digest)
        with self._lock:
            self._held[digest] = os.fstat(handle).st_size
            self._making.pop(digest, None)
        self._trim()
        return handle

    @contextmanager
    def _written(self, digest: str, size: int | None, fill: Fill) -> Iterator[Path]:
        path = self._folder / f".{uuid4().hex}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, _READABLE), "wb") as file:
                write_checked(file.write, fill(), digest, size)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Drop what is over the marks."""
        self._trim()

    def _trim(self) -> None:
        usage = shutil.disk_usage(self._folder)
        wanted = int(usage.total * self._free_least) - usage.free
        with self._lock:
            held = sum(self._held.values())
            drop = max(held - self._most, min(wanted, held), 0)
            while drop > 0 and self._held:
                digest, size = self._held.popitem(last=False)
                with suppress(FileNotFoundError):
                    (self._folder / digest).unlink()
                drop -= size


def write_checked(
    write: Callable[[bytes], object], pieces: Iterable[bytes], digest: str, size: int | None
) -> None:
    """Write pieces, and check that they were so many bytes of that digest (if one is known).

    Raises:
        DigestError: they were not.
    """
    hashed, written = hashlib.sha256(), 0
    for piece in pieces:
        hashed.update(piece)
        written += len(piece)
        if size is not None and written > size:
            break
        write(piece)
    if size not in (None, written) or (digest and hashed.hexdigest() != digest):
        raise DigestError(
            f"The bytes that came are not those of the object {digest[:12] or 'asked for'}:"
            f" {written} where {size or 'others'} were expected, or another digest.",
            next_step="Another copy is tried; if none is good, run what made it again.",
        )
