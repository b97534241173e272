"""The object store on a folder of this machine."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from millpond.ground.clock import Clock, SystemClock
from millpond.ground.errors import BusyError
from millpond.storage import signing
from millpond.storage.flushing import flush, flush_file_system, write_all
from millpond.storage.port import (
    CHUNK_BYTES,
    Method,
    ObjectInfo,
    check_key,
    is_there,
    not_found,
)

_TRIES = 50
_FEW = 4


class FolderStore:
    """Objects as files below ``ROOT/objects``; half-written ones lie in ``ROOT/tmp``.

    Only one server may use the folder: temporary files found at the start are removed.
    """

    def __init__(
        self,
        root: Path,
        base_url: str,
        key: bytes,
        clock: Clock | None = None,
        *,
        is_guest: bool = False,
    ) -> None:
        """Use ``root``; signed addresses begin with ``base_url`` and are signed with ``key``.

        A guest leaves temporary files alone: they may be those of a server that runs.
        """
        self._objects = root / "objects"
        self._temporary = root / "tmp"
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._clock = clock or SystemClock()
        for folder in (root, self._objects, self._temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in () if is_guest else self._temporary.iterdir():
            left.unlink(missing_ok=True)

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> int:
        """Write a temporary file, flush it, then give it its name."""
        target = self._path(key)
        if not overwrite and target.exists():
            raise is_there(key)
        with _full_disk_told(), self._written(data, flush=True) as (temporary, size):
            if not self._place(temporary, target, key, overwrite=overwrite):
                raise is_there(key)
            for folder in self._folders_of([target]):
                flush(folder)
        return size

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write all, flush the file system once, name all, flush once more."""
        waiting: list[tuple[Path, Path, str]] = []
        try:
            with _full_disk_told():
                for key, data in objects:
                    target = self._path(key)
                    if not target.exists():
                        temporary = self._temporary / uuid4().hex
                        waiting.append((temporary, target, key))
                        _write(temporary, data, flush=False)
                self._flush([temporary for temporary, _, _ in waiting])
                for temporary, target, key in waiting:
                    self._place(temporary, target, key, overwrite=False)
                self._flush(list(self._folders_of(target for _, target, _ in waiting)))
        finally:
            for temporary, _, _ in waiting:
                temporary.unlink(missing_ok=True)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a range of the file."""
        with _missing_told(key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read a range of the file, a MiB at a time."""
        self.stat(key)
        return _pieces(self._path(key), start, length)

    def stat(self, key: str) -> ObjectInfo:
        """Ask the file system."""
        path = self._path(key)
        with _missing_told(key):
            if path.is_dir():
                raise not_found(key)
            return ObjectInfo(key, path.stat().st_size)

    def exists(self, key: str) -> bool:
        """Ask the file system."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """Remove the file, and the folders that it leaves empty."""
        path = self._path(key)
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()
            flush(path.parent)
            with suppress(OSError):
                for folder in path.parents:
                    if folder == self._objects:
                        break
                    folder.rmdir()

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Walk the folders in the order of the keys, entering only those that can match."""
        return _walk(str(self._objects), "", prefix, after)

    def sign(self, key: str, *, method: Method = "GET", seconds: int = 3600) -> str:
        """Give an address of our own route; see ``storage.routes``."""
        expires = int(self._clock.now().timestamp()) + seconds
        return signing.address(self._base_url, self._key, method, check_key(key), expires)

    def is_signed(self, method: str, key: str, expires: int, signature: str) -> bool:
        """Tell whether ``sign`` gave this signature out and it still holds."""
        now = self._clock.now().timestamp()
        return signing.is_allowed(self._key, method, key, expires, signature, now)

    def local_path(self, key: str) -> Path:
        """Give the file."""
        path = self._path(key)
        if not path.is_file():
            raise not_found(key)
        return path

    def _path(self, key: str) -> Path:
        return self._objects / check_key(key)

    def _folders_of(self, targets: Iterable[Path]) -> dict[Path, None]:
        """Give the folders that files lie in, up to the store's own: any of them may be new."""
        found: dict[Path, None] = {}
        for folder in {target.parent for target in targets}:
            above = len(folder.relative_to(self._objects).parts)
            found |= dict.fromkeys([folder, *folder.parents][: above + 1])
        return found

    @contextmanager
    def _written(self, data: bytes | BinaryIO, *, flush: bool) -> Iterator[tuple[Path, int]]:
        temporary = self._temporary / uuid4().hex
        try:
            yield temporary, _write(temporary, data, flush=flush)
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, temporary: Path, target: Path, key: str, *, overwrite: bool) -> bool:
        """Give a file its name; False when it is taken. Empty folders may vanish meanwhile."""
        for left in reversed(range(_TRIES)):
            try:
                _make_folder(target.parent)
                if overwrite:
                    temporary.replace(target)
                else:
                    os.link(temporary, target, follow_symlinks=False)
            except FileNotFoundError:
                if not left:
                    raise
            except FileExistsError:
                return False
            except (NotADirectoryError, IsADirectoryError) as fault:
                raise is_there(key) from fault
            else:
                return True
        return False

    def _flush(self, paths: Sequence[Path]) -> None:
        if len(paths) <= _FEW or not flush_file_system(self._objects):
            for path in paths:
                flush(path)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as fault:
        if path.is_file():
            raise NotADirectoryError(path) from fault
        raise FileNotFoundError(path) from fault  # It was there, and vanished under our hands.


def _write(path: Path, data: bytes | BinaryIO, *, flush: bool) -> int:
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for piece in [data] if isinstance(data, bytes) else iter(_reader(data), b""):
            size += write_all(file, piece)
        if flush:
            os.fsync(descriptor)
    return size


def _reader(data: BinaryIO) -> Callable[[], bytes]:
    return lambda: data.read(CHUNK_BYTES)


def _pieces(path: Path, start: int, length: int | None) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = length
        while left is None or left > 0:
            piece = file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if not piece:
                return
            if left is not None:
                left -= len(piece)
            yield piece


def _walk(folder: str, start: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
    try:
        with os.scandir(folder) as found:
            # A folder sorts as its name with the slash: `a.b` comes before `a/b`.
            entries = sorted(
                (entry.name + "/" * entry.is_dir(follow_symlinks=False), entry.path)
                for entry in found
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, path in entries:
        key = start + name
        if name.endswith("/"):
            may_match = key.startswith(prefix) or prefix.startswith(key)
            if may_match and (key > after or after.startswith(key)):
                yield from _walk(path, key, prefix, after)
        elif key.startswith(prefix) and key > after:
            with suppress(FileNotFoundError):  # Deleted while we walk.
                facts = Path(path).lstat()
                yield ObjectInfo(key, facts.st_size, f"{facts.st_mtime_ns}.{facts.st_ino}")


@contextmanager
def _missing_told(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as fault:
        raise not_found(key) from fault


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BusyError(
            "The disk that holds the objects is full; nothing was stored.",
            next_step="Free space there, or have an administrator move the object store, then try"
            " again; `millpond doctor` on the server shows the space left.",
            retry_after_seconds=30.0,
        ) from fault
