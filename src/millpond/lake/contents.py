"""Contents on their way in and out: checked against their digests, never whole in memory."""

import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, cast

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError, TooLargeError
from millpond.lake.rules import Faults, show_path
from millpond.lake.values import FileEntry, LakeLimits, Manifest, is_digest, object_key
from millpond.storage.port import ObjectStore

_ASKERS = 16
_CHUNK = 1 << 20
_ZIP64_FROM = 1 << 31


class CheckedReader:
    """Reads a body through to its end, counting and hashing; a wrong end is a fault.

    The store reads from it while it writes, and keeps nothing when the end raises.
    """

    def __init__(self, body: BinaryIO, digest: str, most: int) -> None:
        """Expect this sha256 and at most so many bytes."""
        self._body = body
        self._digest = digest
        self._most = most
        self._hashed = hashlib.sha256()
        self.size = 0
        self.fault: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Read.

        Raises:
            TooLargeError: more came than is allowed.
            InvalidError: the end was reached and the digest is another one.
        """
        try:
            piece = self._body.read(_CHUNK if size < 0 else size)
        except Exception as fault:
            self.fault = fault  # The caller hung up, as a rule.
            raise
        self.size += len(piece)
        self._hashed.update(piece)
        if self.size > self._most:
            self.fault = TooLargeError(
                f"A file may have {self._most} bytes.",
                next_step="Split it, or ask an administrator to raise the limit.",
                limit=self._most,
            )
        elif not piece and size and self._hashed.hexdigest() != self._digest:
            self.fault = InvalidError(
                "What came is not what the digest says; nothing was kept.",
                next_step="Send it again; it may have changed while it was sent.",
                faults=[Fault("digest", f"the body's sha256 is {self._hashed.hexdigest()}")],
            )
        if self.fault is not None:
            raise self.fault
        return piece


def put_content(
    objects: ObjectStore, project_id: str, digest: str, body: BinaryIO, limits: LakeLimits
) -> int:
    """Store one content of any size under its digest; give its bytes. Storing it again is fine.

    Raises:
        InvalidError: the digest is none, or not that of the body.
        TooLargeError: the body is longer than one file may be.
    """
    if not is_digest(digest):
        raise InvalidError(
            "This is not a digest.",
            next_step="Use the sha256 of the content, in lower-case hexadecimal.",
            faults=[Fault("digest", "must be 64 hexadecimal digits")],
        )
    reader = CheckedReader(body, digest, limits.file_bytes)
    key = object_key(project_id, digest)
    try:
        if not objects.exists(key):
            with suppress(ConflictError):  # Somebody else was quicker with the same content.
                objects.put(key, cast("BinaryIO", reader))
        while reader.read(_CHUNK):  # The client waits until all of its body is taken.
            pass
    except Exception:
        if reader.fault is not None:  # Stores may wrap what the reader raised.
            raise reader.fault from None
        raise
    return reader.size


def put_pack(objects: ObjectStore, project_id: str, body: BinaryIO, limits: LakeLimits) -> int:
    """Store the contents of a tar whose members are named by their sha256; give how many.

    Everything is checked before anything is stored, and all is flushed at once.

    Raises:
        InvalidError: it is no tar, or members are not what their names say; all are named.
        TooLargeError: it has more bytes or members than one pack may.
    """
    with tempfile.SpooledTemporaryFile(4 << 20, prefix="millpond-pack-") as copy:
        _copy(body, cast("BinaryIO", copy), limits.pack_bytes)
        faults = Faults()
        count = 0
        try:
            for name, data in _read_pack(cast("BinaryIO", copy)):
                count += 1
                if count > limits.pack_files:
                    raise _too_large("contents", limits.pack_files)
                if not is_digest(name) or hashlib.sha256(data).hexdigest() != name:
                    faults.add("body", f"the member {name[:80]!r} is not named by its sha256")
        except (tarfile.TarError, EOFError, ValueError) as fault:
            faults.add("body", f"it is no whole tar: {fault}")
        faults.check("The pack was refused; nothing of it was kept.", "Make it again and send it.")
        objects.put_many(
            (object_key(project_id, name), data)
            for name, data in _read_pack(cast("BinaryIO", copy))
        )
    return count


def find_missing(
    objects: ObjectStore, project_id: str, wanted: Iterable[tuple[str, int]]
) -> list[str]:
    """Give the digests, of (digest, size), that the project does not hold with that size."""
    distinct = sorted(set(wanted))

    def is_missing(one: tuple[str, int]) -> bool:
        try:
            return objects.stat(object_key(project_id, one[0])).size != one[1]
        except NotFoundError:
            return True

    # A folder answers in microseconds, S3 after a trip: many questions go out at once.
    with ThreadPoolExecutor(_ASKERS, "millpond-stat") as pool:
        answers = list(pool.map(is_missing, distinct, chunksize=50))
    return [digest for (digest, _), missing in zip(distinct, answers, strict=True) if missing]


def check_present(objects: ObjectStore, project_id: str, files: Sequence[FileEntry]) -> None:
    """Refuse files whose content the project lacks or holds with another size.

    Raises:
        InvalidError: names all of them, up to twenty and then a count.
    """
    missing = set(find_missing(objects, project_id, [(one.digest, one.size) for one in files]))
    faults = Faults()
    for number, entry in enumerate(files):
        if entry.digest in missing:
            faults.add(
                f"files.{number}.digest",
                f"{show_path(entry.raw_path)}: the project holds no content {entry.digest}"
                f" of {entry.size} bytes",
            )
    faults.check("Some contents are missing.", "Send them first, then make the version.")


def stream_zip(
    objects: ObjectStore, entries: Iterable[tuple[bytes, str]], stamp: tuple[int, ...] = ()
) -> Iterator[bytes]:
    """Write a zip of (path, object key) piece by piece: stored, not packed, with no draft on disk.

    Equal entries give equal bytes: the files carry one fixed time, or ``stamp`` (year, month,
    day, hour, minute, second).
    """
    pipe = _Pipe()
    with zipfile.ZipFile(cast("BinaryIO", pipe), "w", zipfile.ZIP_STORED) as archive:
        for raw, key in entries:
            info = _RawName(raw, stamp or (1980, 1, 1, 0, 0, 0))
            size = objects.stat(key).size
            with archive.open(info, "w", force_zip64=size >= _ZIP64_FROM) as member:
                for piece in objects.stream(key):
                    member.write(piece)
                    yield pipe.take()
    yield pipe.take()


def zip_of_manifest(objects: ObjectStore, project_id: str, manifest: Manifest) -> Iterator[bytes]:
    """Write a zip of a version's files."""
    pairs = ((one.raw_path, object_key(project_id, one.digest)) for one in manifest.files)
    return stream_zip(objects, pairs)


class _RawName(zipfile.ZipInfo):
    """A member whose name may be any bytes, as file systems have them."""

    def __init__(self, raw: bytes, stamp: tuple[int, ...]) -> None:
        super().__init__(raw.decode("utf-8", "surrogateescape"), cast("Any", stamp))
        self.raw = raw
        self.create_system = 3
        self.external_attr = 0o100644 << 16

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's own name.
        try:
            self.raw.decode("utf-8")
        except UnicodeDecodeError:
            return self.raw, self.flag_bits & ~0x800
        return self.raw, self.flag_bits | 0x800


class _Pipe(io.RawIOBase):
    """Takes what is written and gives it on."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _copy(body: BinaryIO, target: BinaryIO, most: int) -> None:
    left = most
    while piece := body.read(_CHUNK):
        left -= len(piece)
        if left < 0:
            raise _too_large("bytes", most)
        target.write(piece)


def _too_large(unit: str, most: int) -> TooLargeError:
    return TooLargeError(
        f"A pack may hold {most} {unit}.", next_step="Send several smaller packs.", limit=most
    )


def _read_pack(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.type == tarfile.REGTYPE else None
            if content is None:
                raise tarfile.ReadError(f"{member.name[:80]!r} is no regular file")
            yield member.name, content.read()
        # The reader stops quietly at a broken header; the end must be a block of zeros.
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("a header is broken")
