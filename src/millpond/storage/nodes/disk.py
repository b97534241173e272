"""A node's data disk: files by their digests, written once, flushed before a receipt is signed.

``ROOT/objects/ab/DIGEST`` are the objects, ``ROOT/tmp`` half-written ones, ``ROOT/bad`` what was
found damaged. ``ROOT/disk.json`` is the disk's id, which the node also keeps elsewhere, so that an
unmounted disk is not taken for an empty one.
"""

import errno
import hashlib
import io
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from uuid import uuid4

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError, TooLargeError
from millpond.storage.flushing import flush, flush_file_system, write_all
from millpond.storage.nodes.mount import DiskGoneError, Mount, no_space, told
from millpond.storage.nodes.receipts import ReceiptSigner
from millpond.storage.nodes.rules import is_digest
from millpond.storage.nodes.values import DiskFacts, Held, Receipt

PIECE_BYTES = 1 << 20
LEASE_SECONDS = 3600.0
"""What was left, or left again, so lately is not deleted: its commit may be on its way."""
EPOCH_SLACK = 20
"""A server that lags so far behind may have missed an answer; one further off has lost facts."""

_LOOK_BYTES = 64 << 20  # So often, while bytes come in, the free space is looked at.
_FEW, _HEX = 4, 2


class NodeDisk:
    """One folder on the node's data disk. Safe to share between threads."""

    def __init__(
        self,
        root: Path,
        signer: ReceiptSigner,
        *,
        remembered: Path,
        free_least_bytes: int = 1 << 30,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Use ``root``; a disk that was never used is given its id.

        Args:
            root: folder on the data disk; its parent must be there.
            signer: signs receipts in the node's name.
            remembered: file on another disk that keeps the id; a disk with another is refused.
            free_least_bytes: so many bytes are left free.
            lease_seconds: what was left so lately is not deleted.
        """
        self.root, self.node = root, signer.node
        self._signer = signer
        self._lease = lease_seconds
        self._mount = Mount(root, signer.node, remembered, free_least_bytes)
        self._naming = threading.Lock()
        with suppress(FileNotFoundError):
            for left in self._mount.temporary.iterdir():
                left.unlink(missing_ok=True)

    # How it is -------------------------------------------------------------------------------

    def look(self) -> DiskFacts:
        """Try the disk: its id, a small file written and read back, the space left."""
        return self._mount.look()

    def remember_epoch(self, epoch: int) -> None:
        """Keep the highest epoch that the server has told."""
        self._mount.remember_epoch(epoch)

    # Objects ---------------------------------------------------------------------------------

    def receive(self, size_most: int, digest: str | None = None) -> "Incoming":
        """Begin to take an object; use it in a ``with`` block.

        Raises:
            NoSpaceError: so many bytes do not fit.
            DiskGoneError: the disk is not there.
        """
        self._mount.check()
        # How much will really come is not known when the most is very much.
        self._mount.check_space(min(size_most, _LOOK_BYTES))
        return Incoming(self, size_most, digest)

    def put(self, data: bytes | BinaryIO, digest: str | None = None) -> Receipt:
        """Take an object that is given whole or as a file."""
        with self.receive(1 << 62, digest) as incoming:
            if isinstance(data, bytes):
                incoming.write(data)
            else:
                while piece := data.read(PIECE_BYTES):
                    incoming.write(piece)
            return incoming.finish()

    def put_many(self, objects: Iterable[bytes]) -> Receipt:
        """Take many small objects with one flush of the file system and one receipt."""
        self._mount.check()
        self._mount.check_space(_LOOK_BYTES)
        waiting: list[tuple[Path, str, int]] = []
        with self._told():
            try:
                for data in objects:
                    temporary = self._mount.temporary / uuid4().hex
                    waiting.append((temporary, hashlib.sha256(data).hexdigest(), len(data)))
                    with _create(temporary) as file:
                        write_all(file, data)
                self._flush_all([temporary for temporary, _, _ in waiting])
                for temporary, digest, _ in waiting:
                    self._name(temporary, digest, is_flushed=False)
                self._flush_all(list({self._path(digest).parent for _, digest, _ in waiting}))
            finally:
                for temporary, _, _ in waiting:
                    temporary.unlink(missing_ok=True)
        return self._signer.sign((digest, size) for _, digest, size in waiting)

    def path(self, digest: str) -> Path:
        """Give the file of an object, to be read only.

        Raises:
            NotFoundError: it is not here.
            DiskGoneError: the disk is not there.
        """
        path = self._path(digest)
        if not path.is_file():
            self._mount.check()
            raise NotFoundError(
                f"The node {self.node!r} has no object {digest[:16]}….",
                next_step="Ask the server where it lies.",
            )
        return path

    def delete(self, digest: str, epoch: int | None = None) -> None:
        """Delete an object; one that is not here is fine.

        Raises:
            ConflictError: it was left lately, or the server's database is older than this disk.
        """
        if epoch is not None and epoch + EPOCH_SLACK < self._mount.epoch:
            raise ConflictError(
                f"The node {self.node!r} remembers more than the server's database: nothing is"
                " deleted.",
                next_step="The database was restored from an older backup; an administrator has to"
                " confirm it first by objects.accept_restored.",
            )
        path = self._path(digest)
        with self._naming, suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < self._lease:
                raise ConflictError(
                    f"The object {digest[:16]}… was left on {self.node!r} lately.",
                    next_step="Try again in an hour.",
                )
            path.unlink()

    def check(self, digest: str) -> bool:
        """Hash an object's file; a damaged one is set aside. A missing one is no good either."""
        try:
            path = self.path(digest)
            before = path.stat()
            with path.open("rb", buffering=0) as file:
                found = hash_file(file)
        except (NotFoundError, FileNotFoundError):
            return False
        except OSError as fault:
            if fault.errno != errno.EIO:
                raise
            found = "unreadable"
        if found == digest:
            return True
        with self._naming, suppress(FileNotFoundError):
            if path.stat().st_ino == before.st_ino:  # Else good bytes took its place meanwhile.
                path.replace(self._mount.bad / f"{digest}.{uuid4().hex[:8]}")
        return False

    def inventory(self, after: str = "") -> Iterator[Held]:
        """Give all that lies here, in the order of the digests."""
        self._mount.check()
        for path in _walk(self._mount.objects):
            if path.name > after and is_digest(path.name):
                with suppress(FileNotFoundError):
                    yield Held(path.name, path.stat().st_size)

    # Within ----------------------------------------------------------------------------------

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise InvalidError(
                f"{digest[:80]!r} is no digest.",
                next_step="Give 64 hexadecimal digits.",
                faults=[Fault("digest", "is no sha256 in lower-case hexadecimal")],
            )
        return self._mount.objects / digest[:2] / digest

    def _name(self, temporary: Path, digest: str, *, is_flushed: bool = True) -> None:
        """Give a file its name. One that is there gives way: the new bytes were just checked."""
        target = self._path(digest)
        with self._naming:
            temporary.replace(target)
        if is_flushed:
            flush(target.parent)

    def _flush_all(self, paths: list[Path]) -> None:
        if len(paths) <= _FEW or not flush_file_system(self.root):
            for path in paths:
                flush(path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system says of a full or broken disk into our words."""
        try:
            yield
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise no_space(self.node) from fault
            raise DiskGoneError(
                f"The data disk of the node {self.node!r} failed: {told(fault, self.root)}.",
                next_step="Look at the disk; the node goes on when it is mended.",
                retry_after_seconds=30.0,
            ) from fault


class Incoming:
    """An object on its way in; nothing of it is left when it does not finish."""

    def __init__(self, disk: NodeDisk, size_most: int, digest: str | None) -> None:
        """Take at most so many bytes, whose digest must be ``digest`` when it is given."""
        self._disk, self._most, self._wanted = disk, size_most, digest
        self._path = disk._mount.temporary / uuid4().hex  # noqa: SLF001 - a part of the disk.
        with disk._told():  # noqa: SLF001 - the same.
            self._file = _create(self._path)
        self._hash = hashlib.sha256()
        self._since = 0
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            TooLargeError: more came than is allowed.
            NoSpaceError: the disk is full.
        """
        self.size += len(data)
        self._since += len(data)
        if self.size > self._most:
            raise TooLargeError(
                f"More than the {self._most:,} bytes that the token allows were sent.",
                next_step="Ask the server for a token of the right size.",
            )
        if self._since >= _LOOK_BYTES:
            self._since = 0
            self._disk._mount.check_space(0)  # noqa: SLF001 - a part of the disk.
        with self._disk._told():  # noqa: SLF001 - the same.
            write_all(self._file, data)
        self._hash.update(data)

    def finish(self) -> Receipt:
        """Flush, name, and give the receipt.

        Raises:
            InvalidError: the bytes have another digest than was said.
        """
        digest = self._hash.hexdigest()
        if self._wanted is not None and digest != self._wanted:
            raise InvalidError(
                "The bytes that came do not match their digest.",
                next_step="Send them again; if it goes on, look at the sender's memory and disk.",
                faults=[Fault("digest", f"{self._wanted} was said, {digest} came")],
            )
        with self._disk._told():  # noqa: SLF001 - a part of the disk.
            os.fsync(self._file.fileno())
            self._file.close()
            self._disk._name(self._path, digest)  # noqa: SLF001 - the same.
        return self._disk._signer.sign([(digest, self.size)])  # noqa: SLF001 - the same.

    def __enter__(self) -> Self:
        """Take it for a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not finished."""
        self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def hash_file(file: io.RawIOBase) -> str:
    """Give the sha256 of all that a file still gives."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _walk(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            if len(path.name) == _HEX:
                yield from _walk(path)
            else:
                yield path
