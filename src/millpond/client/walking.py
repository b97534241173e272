"""Find the files to push: names kept byte for byte, links not followed unless asked."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from millpond.client.progress import OnProgress, Progress, ignore
from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.lake.values import FileEntry, encode_path

ARCHIVE_ENDINGS = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
}
_HASHERS = 4


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine, and the path it will have in the dataset.

    Attributes:
        place: where it is; bytes that are not UTF-8 stand as surrogate escapes.
        raw_path: relative path within the dataset, with slashes, as bytes.
        size: bytes, when it was found.
    """

    place: str
    raw_path: bytes
    size: int


@dataclass
class Found:
    """What a walk found, and what it left out and why."""

    files: list[LocalFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(one.size for one in self.files)


@dataclass(frozen=True)
class Hashed:
    """A local file with its digest, as a version's manifest lists it."""

    file: LocalFile
    digest: str

    @property
    def entry(self) -> FileEntry:
        """The line of the manifest."""
        path, path_bytes = encode_path(self.file.raw_path)
        return FileEntry(path, self.digest, self.file.size, path_bytes)


def archive_format(path: Path) -> str | None:
    """Say which kind of archive a file's name stands for; None when it is none."""
    name = path.name.lower()
    fitting = [ending for ending in ARCHIVE_ENDINGS if name.endswith(ending)]
    return ARCHIVE_ENDINGS[max(fitting, key=len)] if fitting else None


def find_files(source: Path, *, follow_links: bool = False) -> Found:
    """List the regular files below a folder in the order of their names, or one single file.

    Raises:
        NotFoundError: there is nothing at ``source``.
        InvalidError: some files or folders may not be read; all are named.
    """
    if not source.exists():
        raise NotFoundError(
            f"There is no file or folder {str(source)!r}.", next_step="Check the path."
        )
    if source.is_file():
        size = source.stat().st_size
        return Found([LocalFile(str(source), os.fsencode(source.name), size)])
    found = Found()
    faults: list[Fault] = []
    seen = {_identity(source.stat())}
    _walk(str(source), b"", found, faults, seen, follow_links=follow_links)
    if faults:
        raise InvalidError(
            f"{len(faults)} of the files below {str(source)!r} can't be read.",
            next_step="Make them readable for you, or move them out of the folder.",
            faults=faults,
        )
    return found


def hash_files(
    files: Sequence[LocalFile], on_progress: OnProgress = ignore, threads: int = _HASHERS
) -> Iterator[Hashed]:
    """Compute the digest of each file, several at a time, and give them in their order.

    Raises:
        InvalidError: some could not be read; all of them are named.
    """
    total = sum(file.size for file in files)
    done = 0
    faults: list[Fault] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="millpond-hash") as pool:
        for file, result in zip(files, pool.map(_digest, files), strict=True):
            if isinstance(result, OSError):
                faults.append(Fault(printable(file.place), result.strerror or str(result)))
                continue
            digest, size = result
            done += size
            on_progress(Progress("Reading", done, max(total, done), "bytes"))
            yield Hashed(LocalFile(file.place, file.raw_path, size), digest)
    if faults:
        raise InvalidError(
            f"{len(faults)} files can't be read.",
            next_step="Make them readable for you, or leave them out.",
            faults=faults,
        )


def printable(path: str) -> str:
    """Write a path so that it stays on its line and every byte shows."""
    raw = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in raw)


def _walk(
    folder: str,
    inside: bytes,
    found: Found,
    faults: list[Fault],
    seen: set[tuple[int, int]],
    *,
    follow_links: bool,
) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        faults.append(Fault(printable(folder), fault.strerror or str(fault)))
        return
    for entry in entries:
        raw_path = inside + os.fsencode(entry.name)
        if entry.is_symlink() and not follow_links:
            found.left_out.append((printable(entry.path), "a link; --follow-links takes it"))
            continue
        try:
            facts = entry.stat(follow_symlinks=follow_links)
        except OSError as fault:
            found.left_out.append((printable(entry.path), fault.strerror or str(fault)))
            continue
        if stat.S_ISDIR(facts.st_mode):
            if _identity(facts) in seen:
                found.left_out.append((printable(entry.path), "a folder that was seen already"))
                continue
            seen.add(_identity(facts))
            _walk(entry.path, raw_path + b"/", found, faults, seen, follow_links=follow_links)
        elif stat.S_ISREG(facts.st_mode):
            if os.access(entry.path, os.R_OK):
                found.files.append(LocalFile(entry.path, raw_path, facts.st_size))
            else:
                faults.append(Fault(printable(entry.path), "you may not read it"))
        else:
            found.left_out.append((printable(entry.path), "no regular file"))


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _digest(file: LocalFile) -> tuple[str, int] | OSError:
    try:
        with open(file.place, "rb") as opened:  # noqa: PTH123 - a surrogate-escaped name.
            made = hashlib.file_digest(opened, "sha256")
            return made.hexdigest(), opened.tell()
    except OSError as fault:
        return fault
