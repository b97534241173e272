"""The rows that tasks left, read back piece by piece; what is no row is set aside."""

import csv
import importlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.ground.errors import InvalidError, TooLargeError
from millpond.pipelines.outputs.cells import WrittenFloat
from millpond.pipelines.values import StoredObject
from millpond.storage.port import CHUNK_BYTES, ObjectStore

LONGEST_LINE_BYTES = 16 << 20
_SHOWN = 200
_UNPACKED_TIMES, _UNPACKED_BYTES = 100, 64 << 20
_BATCH_ROWS = 2_000
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")
_DECODE = json.JSONDecoder().decode
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Reject:
    """A line that is no row.

    Attributes:
        part: path of the file it stood in.
        line: its number there, from 1.
        reason: what is wrong with it.
        text: how it begins.
    """

    part: str
    line: int
    reason: str
    text: str


OnReject = Callable[[Reject], None]


def read_rows(
    objects: ObjectStore, parts: Iterable[StoredObject], on_reject: OnReject
) -> Iterator[dict[str, Any]]:
    """Give the rows of all parts in order, and each line that is none to ``on_reject``.

    Parts end in ``.jsonl``, ``.csv``, ``.tsv``, each of them also packed as ``.gz``, or
    ``.parquet``. Holds one line at a time, at most 16 MiB, or 2,000 rows of Parquet.

    Raises:
        InvalidError: a part is no such file, or is damaged.
        TooLargeError: a packed part unpacks to more than a hundred times its size.
    """
    for part in parts:
        name = part.path.lower().removesuffix(".gz")
        if name.endswith(".parquet"):
            yield from _parquet_rows(objects, part)
            continue
        pieces = objects.stream(part.key)
        if part.path.lower().endswith(".gz"):
            pieces = _unpacked(pieces, part)
        delimiter = _DELIMITERS.get(name[-4:])
        if delimiter:
            yield from _csv_rows(pieces, part, delimiter, on_reject)
        else:
            yield from _json_rows(pieces, part, on_reject)


def lines_of(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream of bytes into (line, whether it is whole); too long ones keep their start."""
    rest, is_whole = bytearray(), True
    for piece in pieces:
        *lines, last = piece.split(b"\n")
        for line in lines:
            if is_whole:
                rest += line
            fits = is_whole and len(rest) <= LONGEST_LINE_BYTES
            yield bytes(rest if fits else rest[:_SHOWN]), fits
            rest, is_whole = bytearray(), True
        if is_whole:
            rest += last
            if len(rest) > LONGEST_LINE_BYTES:
                rest, is_whole = rest[:_SHOWN], False
    if rest:
        yield bytes(rest), is_whole


def _json_rows(
    pieces: Iterable[bytes], part: StoredObject, on_reject: OnReject
) -> Iterator[dict[str, Any]]:
    for number, (line, is_whole) in enumerate(lines_of(pieces), start=1):
        if not line.strip():
            continue
        row = _row_of(line) if is_whole else f"longer than {LONGEST_LINE_BYTES} bytes"
        if isinstance(row, str):
            shown = line[:_SHOWN].decode("utf-8", "backslashreplace")
            on_reject(Reject(part.path, number, row, shown))
        else:
            yield row


def _row_of(line: bytes) -> dict[str, Any] | str:
    try:
        row = _DECODE(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as fault:
        return f"not JSON: {fault}"[:_SHOWN]
    return row if isinstance(row, dict) else "not an object with columns and values"


def _csv_rows(
    pieces: Iterable[bytes], part: StoredObject, delimiter: str, on_reject: OnReject
) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LONGEST_LINE_BYTES)
    reader = csv.reader(_text_lines(pieces, part), delimiter=delimiter)
    names: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            on_reject(Reject(part.path, reader.line_num, f"not CSV: {fault}", ""))
            continue
        if names is None:
            names = cells
        elif len(cells) == len(names):
            yield {name: _typed(cell) for name, cell in zip(names, cells, strict=True)}
        elif cells:
            reason = f"{len(cells)} fields under a heading of {len(names)}"
            shown = delimiter.join(cells)[:_SHOWN]
            on_reject(Reject(part.path, reader.line_num, reason, shown))


def _text_lines(pieces: Iterable[bytes], part: StoredObject) -> Iterator[str]:
    encoding = "utf-8-sig"  # The first line may begin with a byte order mark.
    for line, is_whole in lines_of(pieces):
        if not is_whole:
            raise InvalidError(
                f"{part.path!r} has a line of more than {LONGEST_LINE_BYTES} bytes.",
                next_step="Write smaller rows, or large values as files of their own.",
            )
        yield line.decode(encoding, "surrogateescape") + "\n"
        encoding = "utf-8"


def _typed(cell: str) -> Any:
    if not cell:
        return None
    if _INTEGER.fullmatch(cell) and cell != "-0":
        return int(cell)
    if _FLOAT.fullmatch(cell):
        number = WrittenFloat(cell)
        number.text = cell
        return number
    return cell


def _unpacked(pieces: Iterable[bytes], part: StoredObject) -> Iterator[bytes]:
    most = part.size * _UNPACKED_TIMES + _UNPACKED_BYTES
    total, unpack = 0, zlib.decompressobj(wbits=31)
    try:
        for piece in pieces:
            data = piece
            while data:
                found = unpack.decompress(data, CHUNK_BYTES)
                total += len(found)
                if total > most:
                    raise TooLargeError(
                        f"{part.path!r} unpacks to more than {_UNPACKED_TIMES} times its size.",
                        next_step="Write the rows unpacked.",
                        bytes_most=most,
                    )
                yield found
                data = unpack.unconsumed_tail
                if unpack.eof:  # A gzip file may be several, one after the other.
                    data = unpack.unused_data
                    unpack = zlib.decompressobj(wbits=31)
    except zlib.error as fault:
        raise InvalidError(
            f"{part.path!r} is no whole gzip file: {fault}.",
            next_step="Close the file before the step ends.",
        ) from fault


@contextmanager
def _on_disk(objects: ObjectStore, part: StoredObject) -> Iterator[Path]:
    local = objects.local_path(part.key)
    if local is not None:
        yield local
        return
    folder = Path(tempfile.mkdtemp(prefix="millpond-part-"))
    try:
        path = folder / "part"
        with path.open("wb") as file:
            file.writelines(objects.stream(part.key))
        yield path
    finally:
        shutil.rmtree(folder)


def _parquet_rows(objects: ObjectStore, part: StoredObject) -> Iterator[dict[str, Any]]:
    pa: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    with _on_disk(objects, part) as path:
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    for row in batch.to_pylist():
                        yield {name: _plain(value) for name, value in row.items()}
        except (pa.ArrowException, OSError) as fault:
            raise InvalidError(
                f"{part.path!r} is no whole Parquet file: {str(fault)[:_SHOWN]}",
                next_step="Close the file before the step ends.",
            ) from fault


def _plain(value: Any) -> Any:
    """Turn a value of Arrow's into one of JSON's."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
