"""The kinds of a table's columns: how they are told, how they widen, how values are written.

A column is ``boolean``, ``integer``, ``float`` or ``text``. Kinds only widen, and never so that a
value would change: whole numbers beside fractions become floats unless they are too large for a
float to hold exactly; every other mixture becomes text. Lists and objects are text in JSON.
"""

import json
import re
from typing import Any

EMPTY, BOOLEAN, INTEGER, FLOAT, TEXT = "empty", "boolean", "integer", "float", "text"

_LARGEST_INTEGER = 2**63 - 1
_EXACT_IN_FLOAT = 2**53
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = frozenset({int, float, bool})
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$')


class WrittenFloat(float):
    """A number read from text, which keeps its spelling in case its column turns out to be text."""

    text: str = ""


def kind_of(value: Any) -> str:
    """Tell the narrowest kind that holds a JSON value."""
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else TEXT
    return FLOAT if isinstance(value, float) else TEXT


def is_exact(value: int) -> bool:
    """Say whether a float can hold this whole number exactly."""
    return -_EXACT_IN_FLOAT <= value <= _EXACT_IN_FLOAT


def widen(first: str, second: str, *, exact: bool = True) -> str:
    """Give the narrowest kind that holds the values of both kinds.

    ``exact`` says whether a float can hold every whole number among them.
    """
    if second in (first, EMPTY):
        return first
    if first == EMPTY:
        return second
    if {first, second} == {INTEGER, FLOAT} and exact:
        return FLOAT
    return TEXT


def printable(text: str) -> str:
    r"""Write lone surrogates as escapes, so that the text has an UTF-8 form.

    Bytes of a file name that were not UTF-8 reach us as surrogates and are written ``\xff``.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    byte = code - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - bytes.


def as_text(value: Any) -> str:
    """Write a value as text: the one form for CSV, for a text column and for the report."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return value.text if isinstance(value, WrittenFloat) else repr(value)
    if isinstance(value, int):
        return str(value)
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def as_kind(value: Any, kind: str) -> Any:
    """Give a value as its column holds it."""
    if value is None:
        return None
    if kind == FLOAT:
        return float(value)
    return as_text(value) if kind == TEXT else value


def csv_cell(value: Any) -> str:
    """Write one field of CSV (RFC 4180).

    A missing value is nothing at all, an empty text is ``""``. Values that a spreadsheet takes for
    a formula are left as they are: the file is data, and the guides say how to open it.
    """
    if value is None:
        return ""
    text = as_text(value)
    if type(value) in _PLAIN:
        return text
    if not text or _TO_QUOTE.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def csv_line(cells: list[Any]) -> str:
    """Write one record of CSV; a lone missing value is quoted, for an empty line is no record."""
    if len(cells) == 1 and cells[0] is None:
        return '""\r\n'
    return ",".join(map(csv_cell, cells)) + "\r\n"
