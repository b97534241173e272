"""Tables as files: rows read from CSV, JSON lines or Parquet, and written as JSON lines."""

import io
import os

from .wire import dumps_row, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import IO, Any, Optional

    Place = os.PathLike[str] | str

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""Names of files that are tables end in one of these; all but the last also with ``.gz``."""

PART_ROWS, PART_BYTES = 100_000, 64 << 20
_CELL_BYTES_MOST = 1 << 30
_PARQUET_BATCH = 8192


def suffix_of(name: str) -> str:
    """Give which kind of table a file is by its name; empty when it is none."""
    plain = name.lower()
    plain = plain[:-3] if plain.endswith(".gz") else plain  # noqa: FURB188 - Python 3.9.
    found = [suffix for suffix in SUFFIXES if plain.endswith(suffix)]
    return found[0] if found else ""


def read_rows(path: "Place") -> "Iterator[dict[str, Any]]":
    """Give the rows of one file, in order, as dicts.

    Raises:
        ValueError: the name tells no kind of table, or a line is not what the kind needs.
    """
    name = os.path.basename(path)
    suffix = suffix_of(name)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in (".csv", ".tsv"):
        return _read_separated(path, "," if suffix == ".csv" else "\t")
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines(path)
    raise ValueError(
        f"{name!a} is not a table: its name must end in one of {', '.join(SUFFIXES)}"
        " (also with .gz)"
    )


# The packages for tables are loaded when there is one: every new sandbox pays for what is loaded.


def _open(path: "Place") -> "Any":
    if os.fspath(path).lower().endswith(".gz"):
        import gzip

        return gzip.open(path, "rb")
    return open(path, "rb")


def _read_lines(path: "Place") -> "Iterator[dict[str, Any]]":
    name = os.path.basename(path)
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = loads(line)
            except ValueError as fault:
                raise ValueError(f"{name!a}, line {number}: {fault}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{name!a}, line {number}: not a JSON object")  # noqa: TRY004 - the file is wrong, not the call.
            yield row


def _read_separated(path: "Place", separator: str) -> "Iterator[dict[str, Any]]":
    import csv

    csv.field_size_limit(_CELL_BYTES_MOST)
    with _open(path) as raw:
        text = io.TextIOWrapper(raw, "utf-8-sig", errors="backslashreplace", newline="")
        for row in csv.DictReader(text, delimiter=separator, restkey="_more"):
            yield row


def _read_parquet(path: "Place") -> "Iterator[dict[str, Any]]":
    from pyarrow import parquet

    reader: "Any" = parquet.ParquetFile
    with reader(path) as file:
        for batch in file.iter_batches(_PARQUET_BATCH):
            yield from batch.to_pylist()


def as_rows(value: "Any") -> "Iterable[dict[str, Any]]":
    """See what a step returned for a table as rows: dicts, a data frame, an Arrow table.

    Raises:
        TypeError: it can't be seen so.
    """
    kind = type(value).__module__.partition(".")[0]
    if kind == "pandas":
        return _frame_rows(value)
    if kind == "pyarrow":
        return (row for batch in value.to_batches() for row in batch.to_pylist())
    if isinstance(value, dict):
        raise TypeError("a table is an iterable of rows; for one row give a list of one dict")
    if value is None:
        return ()
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"a table is an iterable of dicts, not {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def _frame_rows(frame: "Any") -> "Iterator[dict[str, Any]]":
    for start in range(0, len(frame), _PARQUET_BATCH):
        yield from frame.iloc[start : start + _PARQUET_BATCH].to_dict("records")


class RowWriter:
    """Writes rows as JSON lines into parts of bounded size below a folder, one row at a time.

    Numbers that JSON lacks become null; text that is no Unicode is escaped; other values are
    written by their ``item``, ``isoformat`` or text.
    """

    def __init__(self, folder: "Place", part_rows: int = PART_ROWS) -> None:
        """Write below this folder; without a row nothing is made."""
        self.folder = os.fspath(folder)
        self.counts: "list[int]" = []
        self._part_rows = part_rows
        self._bytes = 0
        self._file: "Optional[IO[bytes]]" = None

    def __enter__(self) -> "RowWriter":  # noqa: PYI034 - Self is not in Python 3.9.
        return self

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        fault: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, row: "dict[str, Any]") -> None:
        """Write one row.

        Raises:
            TypeError: it is not a dict.
        """
        if not isinstance(row, dict):
            raise TypeError(f"a row is a dict, not {type(row).__name__}")
        line = encode_row(row)
        file = self._file
        if (
            file is None
            or self.counts[-1] >= self._part_rows
            or self._bytes + len(line) > PART_BYTES
        ):
            file = self._next()
        file.write(line)
        self._bytes += len(line)
        self.counts[-1] += 1

    def runs(self) -> "list[list[int]]":
        """Give the parts' row counts, equal neighbours together: ``[rows, parts]``."""
        made: "list[list[int]]" = []
        for count in self.counts:
            if made and made[-1][0] == count:
                made[-1][1] += 1
            else:
                made.append([count, 1])
        return made

    def _next(self) -> "IO[bytes]":
        if self._file is None:
            os.makedirs(self.folder, exist_ok=True)
        else:
            self._file.close()
        path = os.path.join(self.folder, f"{len(self.counts):05d}.jsonl")
        file = self._file = open(path, "wb")  # noqa: SIM115 - closed by the next or at the end.
        self.counts.append(0)
        self._bytes = 0
        return file


def encode_row(row: "dict[str, Any]") -> bytes:
    """Write one row as a line of JSON."""
    try:
        return dumps_row(row).encode() + b"\n"
    except (ValueError, TypeError):
        return dumps_row(_plain(row)).encode() + b"\n"


def _plain(value: "Any") -> "Any":
    if value is None or isinstance(value, bool):
        return value
    for kinds, change in _PLAIN:
        if isinstance(value, kinds):
            return change(value)
    for name in ("isoformat", "tolist", "item"):
        method = getattr(value, name, None)
        if callable(method):
            return _plain(method())
    return _plain(str(value))


_PLAIN: "list[tuple[Any, Callable[[Any], Any]]]" = [
    (int, int),
    (float, lambda value: float(value) if value - value == 0 else None),
    (str, lambda value: value.encode("utf-8", "backslashreplace").decode()),
    (bytes, lambda value: value.decode("utf-8", "backslashreplace")),
    (dict, lambda value: {_plain(str(key)): _plain(each) for key, each in value.items()}),
    ((list, tuple, set, frozenset), lambda value: [_plain(each) for each in value]),
]
