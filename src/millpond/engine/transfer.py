"""Move a task's bytes between this machine's disk and our own object store."""

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from millpond.engine.values import StoredOutput, log_key, output_key
from millpond.ground.errors import InvalidError, NotFoundError
from millpond.storage.port import ObjectStore

_SCHEME = "object:"
_PIECE = 1 << 20
_READABLE = 0o444


class ObjectTransfer:
    """A transfer for a worker in the server's own process: it holds the object store itself."""

    def __init__(self, objects: ObjectStore) -> None:
        """Fetch from and publish to these objects."""
        self._objects = objects

    def fetch(self, url: str, target: bytes, size: int) -> None:
        """Hard-link an object that lies on this machine, else copy it; never writable.

        Raises:
            InvalidError: the URL is not one of ours.
            NotFoundError: nothing lies there, or not that many bytes.
        """
        if not url.startswith(_SCHEME):
            raise InvalidError(
                f"{url[:200]!r} is not the address of an object.",
                next_step="This is a defect of Millpond; please report it with your run's id.",
            )
        key = url.removeprefix(_SCHEME)
        path = self._objects.local_path(key)
        if path is not None:
            self._link(path, key, target, size)
            return
        handle = create(target)
        with os.fdopen(handle, "wb") as file:
            for piece in self._objects.stream(key):
                file.write(piece)
            written = file.tell()
        _check_size(key, written, size)

    def _link(self, path: os.PathLike[str], key: str, target: bytes, size: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(path, flags)
        try:
            facts = os.fstat(source)
            _check_size(key, facts.st_size if stat.S_ISREG(facts.st_mode) else -1, size)
            lay_down(source, target)
        finally:
            os.close(source)

    def publish(self, prefix: str, path: str, fd: int, size: int) -> StoredOutput:
        """Put an output under its prefix and give its digest."""
        key = output_key(prefix, path)
        reader = _HashingReader(fd, size)
        written = self._objects.put(key, cast("BinaryIO", reader))
        return StoredOutput(path, key, written, reader.digest.hexdigest())

    def publish_small(self, prefix: str, files: Sequence[tuple[str, bytes]]) -> list[StoredOutput]:
        """Put outputs that are in memory."""
        stored = []
        for path, data in files:
            key = output_key(prefix, path)
            size = self._objects.put(key, data)
            stored.append(StoredOutput(path, key, size, hashlib.sha256(data).hexdigest()))
        return stored

    def append_log(self, prefix: str, sequence: int, data: bytes) -> None:
        """Put a chunk of a log."""
        self._objects.put(log_key(prefix, sequence), data)


class _HashingReader:
    """Read at most so many bytes of a file, and hash what went by."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._left = fd, size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = os.read(self._fd, min(wanted, _PIECE)) if wanted else b""
        self._left -= len(data)
        self.digest.update(data)
        return data

    def readable(self) -> bool:
        return True


def lay_down(source: int, target: bytes) -> None:
    """Make an open file a new file elsewhere, readable by the sandbox: a hard link, or a copy.

    Raises:
        FileExistsError: there is a file of that name.
    """
    if os.fstat(source).st_mode & _READABLE != _READABLE:
        with suppress(PermissionError):  # The folder above keeps other users out.
            os.fchmod(source, _READABLE)
    try:
        # With a folder's handle given, Python lets the system follow the link of /proc.
        os.link(f"/proc/self/fd/{source}", target, src_dir_fd=source)
    except FileExistsError:
        raise
    except OSError:  # Another file system, or one that has no links.
        with os.fdopen(create(target), "wb") as file:
            while piece := os.read(source, _PIECE):
                file.write(piece)


def create(target: bytes) -> int:
    """Open a new file for writing that everybody may read."""
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READABLE)


def _check_size(key: str, found: int, size: int) -> None:
    if found != size:
        raise NotFoundError(
            f"The object {key!r} has {found} bytes where {size} were expected.",
            next_step="It may have been purged or damaged; push the data again.",
            key=key,
        )
