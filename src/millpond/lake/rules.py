"""Pure decisions of the lake: which paths may be, what makes a table, which bytes are meant."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from millpond.ground.errors import Fault, InvalidError
from millpond.lake.values import FileEntry, Kind, LakeLimits, encode_path, is_digest

FAULTS_MOST = 20
TABLE_ENDINGS = frozenset({".csv", ".tsv", ".parquet", ".jsonl"})

_DRIVE = re.compile(rb"[A-Za-z]:")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Faults:
    """Gathers faults: the first twenty in words, the rest as a count."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: list[Fault] = []
        self.count = 0

    def add(self, field: str, message: str) -> None:
        """Note one fault."""
        self.count += 1
        if len(self._kept) < FAULTS_MOST:
            self._kept.append(Fault(field, message))

    def check(self, message: str, next_step: str) -> None:
        """Refuse when there are any.

        Raises:
            InvalidError: there is at least one; names twenty and counts the others.
        """
        if not self.count:
            return
        faults = list(self._kept)
        if self.count > len(faults):
            faults.append(Fault(faults[0].field, f"and {self.count - len(faults)} more"))
        raise InvalidError(message, next_step=next_step, faults=faults, fault_count=self.count)


def show_path(raw: bytes) -> str:
    """Write a path so that it stays on its line and every byte shows; cut when very long."""
    text = raw[:200].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"{shown}..." if len(raw) > len(raw[:200]) else shown


def normal_path(raw: bytes) -> bytes:
    """Take ``.`` parts and doubled slashes out of a path; what climbs or is absolute stays so."""
    start = b"/" if raw.startswith(b"/") else b""
    return start + b"/".join(part for part in raw.split(b"/") if part not in (b"", b"."))


def find_path_fault(raw: bytes, limits: LakeLimits) -> str:
    """Say what is wrong with a file's path within a dataset; empty when nothing is."""
    parts = raw.split(b"/")
    climbs = b".." in re.split(rb"[/\\]", raw)
    tests = (
        (not raw, "the path is empty"),
        (b"\0" in raw, "the path holds a NUL"),
        (raw.startswith((b"/", b"\\")), "the path is absolute"),
        (bool(_DRIVE.match(raw)), "the path begins with a drive letter"),
        (climbs, "the path climbs out of the folder"),
        (b"" in parts or b"." in parts, "the path has an empty or '.' part"),
        (len(raw) > limits.path_bytes, f"the path is longer than {limits.path_bytes} bytes"),
        (
            any(len(part) > limits.name_bytes for part in parts),
            f"a name is longer than {limits.name_bytes} bytes",
        ),
        (len(parts) > limits.depth, f"the path is deeper than {limits.depth} folders"),
    )
    return next((message for is_wrong, message in tests if is_wrong), "")


def find_clashes(paths: Iterable[bytes]) -> list[tuple[bytes, str]]:
    """Name the paths that stand twice, and the files that are folders of other files too."""
    seen: set[bytes] = set()
    clashes = []
    for path in paths:
        if path in seen:
            clashes.append((path, "the path stands more than once"))
        seen.add(path)
    folders: set[bytes] = set()
    for path in seen:
        above = path.rpartition(b"/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition(b"/")[0]
    clashes += [(path, "this is a file and a folder at once") for path in sorted(seen & folders)]
    return clashes


def check_files(files: Sequence[FileEntry], limits: LakeLimits) -> None:
    """Check the files of a version that were listed one by one.

    Raises:
        InvalidError: names everything that is wrong with any of them.
    """
    faults = Faults()
    if not files:
        faults.add("files", "there are none; a version holds at least one file")
    if len(files) > limits.files:
        faults.add("files", f"{len(files)} files, at most {limits.files}")
    if (total := sum(max(entry.size, 0) for entry in files)) > limits.total_bytes:
        faults.add("files", f"{total} bytes in all, at most {limits.total_bytes}")
    paths = [
        raw
        for number, entry in enumerate(files)
        if (raw := _check_entry(faults, f"files.{number}", entry, limits)) is not None
    ]
    for raw, message in find_clashes(paths):
        faults.add("files", f"{show_path(raw)}: {message}")
    faults.check("Some files of the version are not allowed.", "Mend the list and send it again.")


def _check_entry(faults: Faults, field: str, entry: FileEntry, limits: LakeLimits) -> bytes | None:
    """Note what is wrong with one file; give its path when it has one."""
    try:
        raw = entry.raw_path
    except ValueError:
        faults.add(f"{field}.path_bytes", "is not base64, or the path is no Unicode text")
        return None
    shown = show_path(raw)
    if encode_path(raw) != (entry.path, entry.path_bytes):
        faults.add(
            f"{field}.path_bytes",
            f"{shown}: path_bytes is only for paths that are not UTF-8,"
            " and path is then written with backslash escapes",
        )
    if message := find_path_fault(raw, limits):
        faults.add(f"{field}.path", f"{shown}: {message}")
    if not is_digest(entry.digest):
        faults.add(f"{field}.digest", f"{shown}: not a sha256 in hexadecimal")
    if not 0 <= entry.size <= limits.file_bytes:
        faults.add(f"{field}.size", f"{shown}: not from 0 to {limits.file_bytes}")
    return raw


def check_kind(kind: Kind, files: Sequence[FileEntry]) -> None:
    """Check that a version declared a table is made of tables alone.

    Raises:
        InvalidError: names the files that are no tables by their ending.
    """
    if kind != "table":
        return
    faults = Faults()
    for entry in files:
        if PurePosixPath(entry.path).suffix.lower() not in TABLE_ENDINGS:
            faults.add("kind", f"{show_path(entry.raw_path)} is not a table by its ending")
    if len({PurePosixPath(entry.path).suffix.lower() for entry in files}) > 1:
        faults.add("kind", "the files have different endings; one table has one format")
    faults.check(
        "These files do not make a table.",
        f"Send files of one of {', '.join(sorted(TABLE_ENDINGS))}, or leave the kind out.",
    )


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header into (start, length); None when the whole is meant.

    As RFC 9110 says, a header that is not understood, or that names several ranges, is passed
    over.

    Raises:
        ValueError: the range lies outside (the answer is 416).
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise ValueError(header)
        return size - length, length
    start = int(match[1])
    end = min(int(match[2]) if match[2] else size - 1, size - 1)
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise ValueError(header)
    return start, end - start + 1
