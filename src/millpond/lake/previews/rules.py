"""Read the beginning of a file, whatever it holds: bounded, and with the standard library alone."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from millpond.lake.previews.values import (
    CELL_CHARACTERS,
    COLUMNS,
    ROWS,
    TEXT_BYTES,
    Preview,
    PreviewColumn,
)

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
# What was matched stays so: else many comments could be parted in very many ways.
_SVG = re.compile(
    rb"(\xef\xbb\xbf)?\s*+(<\?xml[^>]*+>\s*+)?+((?><!--.*?-->)\s*+)*+(<!DOCTYPE[^>]*+>\s*+)?+<svg[\s>]",
    re.DOTALL,
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_ENDINGS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_WHOLE = re.compile(r"[+-]?\d{1,40}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,5})?|nan|inf|-inf")
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ODD_MOST = 0.01


def image_type(head: bytes) -> str:
    """Tell an image's type from its first bytes; empty when it is none that browsers show."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _IMAGES if head.startswith(mark)), "")


def is_svg(path: str, head: bytes) -> bool:
    """Tell a drawing as SVG, by its ending and its first bytes.

    It is a program as well, and shown as an image only: browsers run nothing of an image.
    """
    return path.lower().endswith(".svg") and _SVG.match(head) is not None


def is_parquet(head: bytes, tail: bytes) -> bool:
    """Tell a Parquet file from its first and last bytes."""
    return head.startswith(b"PAR1") and tail.endswith(b"PAR1")


def may_be_table(path: str) -> bool:
    """Tell whether a file is to be read as a table, by its ending."""
    ending = PurePosixPath(path.lower()).suffix
    return ending in _ENDINGS or ending in _JSON_LINES


def read_text(head: bytes, *, is_whole: bool) -> tuple[str, str] | None:
    """Give (text, encoding) of a file's beginning; None when it is no text.

    Bytes that are not UTF-8 and hold few control characters are taken for Windows' Western
    European, the most common of the old encodings.
    """
    for mark, encoding, name in _MARKS:
        if head.startswith(mark):
            text = _decode(head, encoding, is_whole=is_whole)
            return None if text is None else (text, name)
    if b"\0" in head:
        return None
    text = _decode(head, "utf-8", is_whole=is_whole)
    if text is not None:
        return text, "UTF-8"
    if len(_CONTROLS.findall(head)) > len(head) * _ODD_MOST:
        return None
    return head.decode("cp1252", "replace"), "Windows-1252, guessed"


def _decode(head: bytes, encoding: str, *, is_whole: bool) -> str | None:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        return decoder.decode(head, final=is_whole)
    except UnicodeDecodeError:
        return None


def show(preview: Preview, head: bytes) -> Preview:
    """Show a file by its first bytes: as a table if it is one, else as a text, else not at all."""
    is_whole = len(head) >= preview.size_bytes
    read = read_text(head, is_whole=is_whole)
    if read is None:
        return replace(preview, note="This kind of file can't be shown here; download it.")
    text, encoding = read
    preview = replace(preview, encoding=encoding)
    if may_be_table(preview.path):
        lines = text if is_whole else text.rpartition("\n")[0]
        table = _show_table(preview, lines, is_whole=is_whole)
        if table is not None:
            return table
        preview = replace(preview, note="It can't be read as a table, so this is its text.")
    shown = read_text(head[:TEXT_BYTES], is_whole=is_whole and len(head) <= TEXT_BYTES)
    text = shown[0] if shown else text[:TEXT_BYTES]
    return replace(preview, kind="text", text=text, is_cut=preview.size_bytes > TEXT_BYTES)


def _show_table(preview: Preview, text: str, *, is_whole: bool) -> Preview | None:
    ending = PurePosixPath(preview.path.lower()).suffix
    try:
        if ending in _JSON_LINES:
            found = _read_json_lines(text)
        else:
            found = _read_csv(text, _ENDINGS[ending])
    except (csv.Error, ValueError, RecursionError):
        return None
    if found is None:
        return None
    names, rows, kinds = found
    columns = tuple(
        PreviewColumn(_cut(name), kinds[place] if kinds else _kind_of(rows, place))
        for place, name in enumerate(names[:COLUMNS])
    )
    shown = tuple(tuple(_cell(row, place) for place in range(len(columns))) for row in rows[:ROWS])
    is_cut = not is_whole or len(rows) > ROWS or len(names) > COLUMNS
    return replace(
        preview,
        kind="table",
        columns=columns,
        rows=shown,
        row_count=len(rows) if is_whole and len(rows) <= ROWS else None,
        column_count=len(names),
        is_cut=is_cut,
    )


Table = tuple[list[str], list[Sequence[str | None]], list[str]]


def _read_csv(text: str, delimiters: str) -> Table | None:
    first = text.partition("\n")[0]
    delimiter = max(delimiters, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = [row for row in islice(reader, ROWS * 2 + 2) if row]
    if not rows:
        return None
    return rows[0], list(rows[1 : ROWS + 2]), []


def _read_json_lines(text: str) -> Table | None:
    names: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for line in islice(filter(str.strip, io.StringIO(text)), ROWS + 1):
        row = json.loads(line)
        if not isinstance(row, dict):
            return None
        found.append(row)
        for name, value in row.items():
            kind = _json_kind(value)
            known = names.setdefault(name, kind)
            if known != kind and kind:
                names[name] = kind if not known else "mixed"
    if not found:
        return None
    rows: list[Sequence[str | None]] = [[_plain(row.get(name)) for name in names] for row in found]
    return list(names), rows, [kind or "empty" for kind in names.values()]


def _json_kind(value: Any) -> str:
    if value is None:
        return ""
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return kinds.get(type(value), "list" if isinstance(value, list) else "object")


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _cell(row: Sequence[str | None], place: int) -> str | None:
    value = row[place] if place < len(row) else None
    return None if value is None else _cut(value)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS else text[:CELL_CHARACTERS] + "…"


def _kind_of(rows: Sequence[Sequence[str | None]], place: int) -> str:
    values = [cell for row in rows if (cell := _cell(row, place)) not in (None, "")]
    texts = [value for value in values if value is not None]
    if not texts:
        return "empty"
    tests = (
        ("whole number", lambda text: _WHOLE.fullmatch(text) is not None),
        ("number", lambda text: _NUMBER.fullmatch(text) is not None),
        ("true or false", lambda text: text.lower() in ("true", "false")),
        ("date", _is_date),
    )
    return next((name for name, test in tests if _all(texts, test)), "text")


def _all(texts: Iterable[str], test: Any) -> bool:
    return all(test(text.strip()) for text in texts)


def _is_date(text: str) -> bool:
    try:
        if len(text) <= len("2026-01-01"):
            date.fromisoformat(text)
        else:
            datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
