"""Unpack archives that strangers made: everything is checked before anything is kept.

An archive is read twice. The first time every name, kind, size and byte is checked, and all that
is wrong is told at once; the second time the contents go to the object store. So a refused archive
leaves nothing behind, and one that is pushed again stores nothing again.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.lake import rules
from millpond.lake.forward import Forward, Pieces, XzReader
from millpond.lake.values import FileEntry, LakeLimits, encode_path, object_key
from millpond.storage.port import ObjectStore

FORMATS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")

_CHUNK = 1 << 20
_SMALL_BYTES = 1 << 20
_BATCH_BYTES = 16 << 20
_BATCH_FILES = 500
_HEADER_BYTES_MOST = 8 << 20  # Of names and other facts between two files of a tar.
_TAIL_BYTES_MOST = 1 << 20
_BLOCK = 512
_ENCRYPTED = 0x1 | 0x40
_UTF8_NAME = 0x800
_DOS_SYSTEMS = (0, 10, 11, 14)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_DAMAGE = (
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class _Member:
    """One file of an archive.

    Attributes:
        raw: its path, normalised.
        size: bytes, as the archive declares them.
        packed: bytes it takes in the archive, where the format says so.
        fault: why its kind is refused; empty for a regular file.
        open: gives its content; for a tar only until the next member is asked for.
    """

    raw: bytes
    size: int
    packed: int | None
    fault: str
    open: Callable[[], IO[bytes]]


def detect_format(head: bytes) -> str | None:
    """Tell the format of an archive from its first 512 bytes; None when it is none."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    for start, name in ((b"\x1f\x8b", "tar.gz"), (b"BZh", "tar.bz2"), (b"\xfd7zXZ\0", "tar.xz")):
        if head.startswith(start):
            return name
    return "tar" if head[257:262] == b"ustar" else None


def unpack(
    objects: ObjectStore, project_id: str, digest: str, archive_format: str | None,
    limits: LakeLimits,
) -> tuple[FileEntry, ...]:  # fmt: skip
    """Put the files of an archive that is in the object store there as well; give their list.

    Args:
        objects: the store.
        project_id: the project whose object the archive is.
        digest: sha256 of the archive.
        archive_format: one of ``FORMATS``; None: tell it from the first bytes.
        limits: what is allowed.

    Raises:
        NotFoundError: the project has no such object.
        InvalidError: the archive is damaged, empty, too large, or holds what is not allowed; all
            faults are named and nothing was kept.

    Cost: reads and unpacks everything twice; memory stays below 100 MB.
    """
    key = object_key(project_id, digest)
    found = archive_format or detect_format(objects.get(key, 0, _BLOCK))
    if found not in FORMATS:
        raise InvalidError(
            "This is not an archive of a kind that is known.",
            next_step=f"Send one of {', '.join(FORMATS)}, or push the files themselves.",
            faults=[Fault("format", f"{found!r} is none of {', '.join(FORMATS)}")],
        )
    with _opened(objects, key) as file:
        entries = survey(file, found, limits)
        _keep(objects, project_id, _members(file, found, limits), entries)
    return entries


def survey(file: BinaryIO, archive_format: str, limits: LakeLimits) -> tuple[FileEntry, ...]:
    """Read a whole archive and list its files, in its own order; keep nothing.

    Raises:
        InvalidError: names all that is wrong, up to twenty faults and then a count.
    """
    faults = rules.Faults()
    entries: list[FileEntry] = []
    size = file.seek(0, 2)
    total = 0
    try:
        for count, member in enumerate(_members(file, archive_format, limits), 1):
            if count > limits.files:
                faults.add("archive", f"it holds more than {limits.files} files")
                break
            total += member.size
            if stop := _find_excess(member, total, size, limits):
                faults.add("archive", stop)
                break
            shown = rules.show_path(member.raw)
            if message := rules.find_path_fault(member.raw, limits) or member.fault:
                faults.add("archive", f"{shown}: {message}")
                continue
            digest, real = _read_through(member)
            if real != member.size:
                faults.add("archive", f"{shown}: holds {real} bytes but declares {member.size}")
            entries.append(FileEntry(*_named(member.raw, digest, real)))
    except _DAMAGE as fault:
        faults.add("archive", f"it is damaged after {len(entries)} files: {_reason(fault)}")
    else:
        if not entries and not faults.count:
            faults.add("archive", "it holds no files")
    for raw, message in rules.find_clashes(entry.raw_path for entry in entries):
        faults.add("archive", f"{rules.show_path(raw)}: {message}")
    faults.check(
        "The archive was refused; nothing of it was kept.",
        "Pack it again without what is named here, or push the folder itself.",
    )
    return tuple(entries)


def _named(raw: bytes, digest: str, size: int) -> tuple[str, str, int, str | None]:
    path, path_bytes = encode_path(raw)
    return path, digest, size, path_bytes


def _find_excess(member: _Member, total: int, archive_bytes: int, limits: LakeLimits) -> str:
    shown = rules.show_path(member.raw)
    if member.size > limits.file_bytes:
        return f"{shown}: {member.size} bytes, at most {limits.file_bytes}"
    if total > limits.total_bytes:
        return f"it unpacks to more than {limits.total_bytes} bytes"
    packed = archive_bytes if member.packed is None else member.packed
    if member.size > max(limits.ratio_from_bytes, limits.ratio * packed):
        return f"{shown}: unpacks to more than {limits.ratio} times its packed size"
    if total > max(limits.ratio_from_bytes, limits.ratio * archive_bytes):
        return f"it unpacks to more than {limits.ratio} times its own size"
    return ""


def _read_through(member: _Member) -> tuple[str, int]:
    hashed, real = hashlib.sha256(), 0
    with closing(member.open()) as content:
        while real <= member.size and (piece := content.read(_CHUNK)):
            hashed.update(piece)
            real += len(piece)
    return hashed.hexdigest(), real


def _keep(
    objects: ObjectStore, project_id: str, members: Iterator[_Member],
    entries: tuple[FileEntry, ...],
) -> None:  # fmt: skip
    batch: list[tuple[str, bytes]] = []
    waiting = 0
    seen: set[str] = set()
    for member, entry in zip(members, entries, strict=True):
        key = object_key(project_id, entry.digest)
        if key in seen or objects.exists(key):
            continue
        seen.add(key)
        with closing(member.open()) as content:
            if entry.size > _SMALL_BYTES:
                with suppress(ConflictError):  # Somebody else was quicker with the same content.
                    objects.put(key, cast("BinaryIO", Pieces(content, _CHUNK)))
                continue
            batch.append((key, content.read()))
        waiting += entry.size
        if waiting > _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            objects.put_many(batch)
            batch, waiting = [], 0
    objects.put_many(batch)


def _members(file: BinaryIO, archive_format: str, limits: LakeLimits) -> Iterator[_Member]:
    file.seek(0)
    if archive_format == "zip":
        return _zip_members(file, limits)
    return _tar_members(file, archive_format, limits)


def _zip_members(file: BinaryIO, limits: LakeLimits) -> Iterator[_Member]:
    # The list of a zip is read at once, so it may not be larger than its files justify.
    guard = Forward(file, read_most=(1 << 20) + limits.files * 256)
    with zipfile.ZipFile(cast("IO[bytes]", guard)) as archive:
        overlapping = _find_overlaps(archive, file)
        for info in archive.infolist():
            raw = _zip_name(info)
            mode = info.external_attr >> 16
            if raw.endswith(b"/") or stat.S_ISDIR(mode):
                folder = rules.normal_path(raw)
                if info.file_size or rules.find_path_fault(folder or b"-", limits):
                    yield _Member(folder, 0, 0, "is a folder with content", io.BytesIO)
                continue
            tests = (
                (stat.S_ISLNK(mode), "is a link"),
                (stat.S_IFMT(mode) not in (0, stat.S_IFREG), "is no regular file"),
                (info.flag_bits & _ENCRYPTED != 0, "is encrypted"),
                (info.compress_type not in _METHODS, "is packed by a method that is not known"),
                (info.header_offset in overlapping, "overlaps another file in the archive"),
            )
            fault = next((message for is_wrong, message in tests if is_wrong), "")
            yield _Member(
                rules.normal_path(raw), info.file_size, info.compress_size, fault,
                lambda info=info: archive.open(info),  # type: ignore[misc]
            )  # fmt: skip


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    # Names without the UTF-8 mark come decoded as cp437, which loses nothing. Programs on Unix
    # put the file system's own bytes there, on DOS and Windows sometimes backslashes.
    encoding = "utf-8" if info.flag_bits & _UTF8_NAME else "cp437"
    raw = info.orig_filename.encode(encoding)
    return raw.replace(b"\\", b"/") if info.create_system in _DOS_SYSTEMS else raw


def _find_overlaps(archive: zipfile.ZipFile, file: BinaryIO) -> set[int]:
    """Give the offsets of files that share bytes with the one after: how the worst bombs work."""
    overlapping: set[int] = set()
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in infos), archive.start_dir][1:]
    for info, following in zip(infos, starts, strict=True):
        file.seek(info.header_offset)
        names = struct.unpack("<26xHH", file.read(30))
        if info.header_offset + 30 + sum(names) + info.compress_size > following:
            overlapping.add(info.header_offset)
    return overlapping


def _tar_members(file: BinaryIO, archive_format: str, limits: LakeLimits) -> Iterator[_Member]:
    plain: BinaryIO = file
    if archive_format == "tar.gz":
        plain = cast("BinaryIO", gzip.GzipFile(fileobj=file))
    elif archive_format == "tar.bz2":
        plain = cast("BinaryIO", bz2.BZ2File(file))
    elif archive_format == "tar.xz":
        plain = cast("BinaryIO", XzReader(file))
    guard = Forward(plain, read_most=_HEADER_BYTES_MOST)
    guard.allow(_HEADER_BYTES_MOST)
    names = {"encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.TarFile(fileobj=cast("IO[bytes]", guard), mode="r", **names) as archive:  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined] # Ten million names would stay in memory otherwise.
            guard.allow(None)
            member = _tar_member(archive, info)
            if not info.isdir() or rules.find_path_fault(member.raw or b"-", limits):
                yield member
            guard.allow(_HEADER_BYTES_MOST)
    _check_tail(guard)


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    fault = "" if info.isreg() or info.isdir() else "is no regular file"
    if info.issym() or info.islnk():
        fault = "is a link"
    raw = rules.normal_path(info.name.encode("utf-8", "surrogateescape"))
    size = info.size if info.isreg() else 0
    return _Member(
        raw, size, None, fault, lambda: cast("IO[bytes]", archive.extractfile(info))
    )  # fmt: skip


def _check_tail(guard: Forward) -> None:
    """Make sure that the end is an end: ``tarfile`` stops quietly at the first broken header."""
    guard.allow(None)
    if guard.last != bytes(_BLOCK):
        raise tarfile.ReadError("a header is broken, or the end is missing")
    left = _TAIL_BYTES_MOST
    while piece := guard.read(64 << 10):
        left -= len(piece)
        if piece.strip(b"\0") or left < 0:
            raise tarfile.ReadError("there is more data after the end")


def _reason(fault: BaseException) -> str:
    text = str(fault).strip() or type(fault).__name__
    return text[:200]


@contextmanager
def _opened(objects: ObjectStore, key: str) -> Iterator[BinaryIO]:
    path = objects.local_path(key)
    if path is not None:
        with Path(path).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile(prefix="millpond-unpack-") as copy:
        for piece in objects.stream(key):
            copy.write(piece)
        yield cast("BinaryIO", copy)
