"""One text and one digest for one value."""

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """Write a JSON value in its one canonical form.

    Keys sorted, no spaces, UTF-8 without escapes, no NaN. Equal to RFC 8785 for text, whole
    numbers, booleans, null and their containers; floats are written as Python's shortest form.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value is not JSON.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest_of(value: object) -> str:
    """Give the sha256, in hexadecimal, of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_of_bytes(data: bytes) -> str:
    """Give the sha256, in hexadecimal, of some bytes."""
    return hashlib.sha256(data).hexdigest()
