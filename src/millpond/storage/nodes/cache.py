"""The host's own bounded cache of what was fetched from the nodes, by digest."""

import hashlib
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from millpond.storage.flushing import write_all
from millpond.storage.nodes.disk import PIECE_BYTES

_HELD_SECONDS = 60.0
_SHARE = 4


class HostCache:
    """Files by their digests; what was used longest ago gives way. Begins empty."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Keep at most so many bytes in ``folder``, which is this cache's alone."""
        self._folder, self._most = folder, most_bytes
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        self._files: OrderedDict[str, int] = OrderedDict()
        self._held: dict[str, float] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def takes(self, size: int) -> bool:
        """Tell whether an object of this size is worth keeping."""
        return 0 < size <= self._most // _SHARE

    def open(self, digest: str) -> BinaryIO | None:
        """Open an object's file; it can be read to its end even when it gives way meanwhile."""
        with self._lock:
            if digest not in self._files:
                return None
            self._files.move_to_end(digest)
            with suppress(FileNotFoundError):
                return self._path(digest).open("rb", buffering=0)
        return None

    def hold(self, digest: str) -> Path | None:
        """Give an object's file; it stays for a minute at least."""
        with self._lock:
            if digest not in self._files:
                return None
            self._files.move_to_end(digest)
            self._held[digest] = time.monotonic() + _HELD_SECONDS
            return self._path(digest)

    @contextmanager
    def adding(self, digest: str) -> Iterator["Filling"]:
        """Write an object; it is kept when it is whole and its digest is right."""
        filling = Filling(self._folder / f"{uuid4().hex}.new")
        try:
            yield filling
            filling.file.close()
            if filling.is_whole and filling.hash.hexdigest() == digest:
                self._take(filling.path, digest, filling.size)
        finally:
            filling.file.close()
            filling.path.unlink(missing_ok=True)

    def put(self, digest: str, data: bytes) -> None:
        """Keep an object whose digest was checked."""
        if self.takes(len(data)):
            path = self._folder / f"{uuid4().hex}.new"
            try:
                path.write_bytes(data)
                self._take(path, digest, len(data))
            except OSError:  # A full disk of the host: then nothing is cached.
                path.unlink(missing_ok=True)

    def _take(self, path: Path, digest: str, size: int) -> None:
        with self._lock:
            path.replace(self._path(digest))
            self._bytes += size - self._files.get(digest, 0)
            self._files[digest] = size
            self._files.move_to_end(digest)
            now = time.monotonic()
            self._held = {each: until for each, until in self._held.items() if until > now}
            for old in list(self._files):
                if self._bytes <= self._most:
                    break
                if old not in self._held:
                    self._bytes -= self._files.pop(old)
                    self._path(old).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest


class Filling:
    """A file of the cache on its way in."""

    def __init__(self, path: Path) -> None:
        """Open a new file."""
        self.path = path
        self.file = path.open("xb", buffering=0)
        self.hash = hashlib.sha256()
        self.size = 0
        self.is_whole = False
        self._is_broken = False

    def write(self, piece: bytes) -> None:
        """Take the next piece; a full disk only means that nothing is kept."""
        self.hash.update(piece)
        self.size += len(piece)
        if not self._is_broken:
            try:
                write_all(self.file, piece)
            except OSError:
                self._is_broken = True

    def end(self) -> None:
        """Say that all has come."""
        self.is_whole = not self._is_broken


def read_pieces(file: BinaryIO, start: int, length: int | None) -> Iterator[bytes]:
    """Read a range of a file piece by piece, and close it."""
    with file:
        file.seek(start)
        left = length
        while left is None or left > 0:
            piece = file.read(PIECE_BYTES if left is None else min(PIECE_BYTES, left))
            if not piece:
                return
            if left is not None:
                left -= len(piece)
            yield piece
