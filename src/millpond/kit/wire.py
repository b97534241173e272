"""JSON without the package ``json``, which loads ``re`` and ``enum``: half a bare Python's start.

The C functions below that package are the same in every CPython from 3.9 on. Where they are not
there, and for whatever they refuse, the package itself is asked.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_c: "Any"
try:
    import _json as _c
except ImportError:
    _c = None


class _Rules:
    """How the scanner reads: as ``json.loads`` does when it is told nothing."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {
        "NaN": float("nan"),
        "Infinity": float("inf"),
        "-Infinity": float("-inf"),
    }.__getitem__


_scan: "Any" = _c and _c.make_scanner(_Rules)


def loads(data: bytes) -> "Any":
    """Read JSON.

    Raises:
        ValueError: it is none.
    """
    if _scan is not None:
        try:
            text = data.decode("utf-8", "surrogatepass").strip(" \t\n\r")
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError):
            pass  # The package knows more encodings, and says what is wrong.
    import json

    return json.loads(data)


def dumps(value: object) -> str:
    """Write JSON as ``json.dumps`` does when it is told nothing.

    Raises:
        TypeError: something in it has no form in JSON.
        ValueError: it holds itself.
    """
    if _c is None:
        import json

        return json.dumps(value)
    return _write(value, _c.encode_basestring_ascii, ": ", ", ", allow_nan=True)


def dumps_row(value: object) -> str:
    """Write JSON for files: short, in the text's own letters, without what JSON lacks.

    Raises:
        TypeError: something in it has no form in JSON.
        ValueError: it holds itself, or a number that JSON lacks.
    """
    if _c is None:
        import json

        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _write(value, _c.encode_basestring, ":", ",", allow_nan=False)


def _write(value: object, text: "Any", colon: str, comma: str, *, allow_nan: bool) -> str:
    sort = skip = False
    make = _c.make_encoder({}, _refuse, text, None, colon, comma, sort, skip, allow_nan)
    return "".join(make(value, 0))


def _refuse(value: object) -> "Any":
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
