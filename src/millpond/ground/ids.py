"""Ids that sort by the time they were made and can be read aloud."""

import os
import secrets
import time
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u.
_TIME_DIGITS, _RANDOM_DIGITS = 9, 11


def new_id(kind: str) -> str:
    """Make an id such as ``run_06d1v5k2t8m3x0q7w9zr``.

    Nine digits of milliseconds since 1970 and eleven of randomness (55 bits), base 32, so ids
    made later sort later; two made in the same millisecond sort either way.
    """
    noise = [_ALPHABET[byte & 31] for byte in os.urandom(_RANDOM_DIGITS)]
    return f"{kind}_{_stamp(time.time_ns() // 1_000_000)}{''.join(noise)}"


def first_id(kind: str, moment: datetime) -> str:
    """Give what sorts before every id made at this moment or later, by the maker's clock."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), (1 << 5 * _TIME_DIGITS) - 1)
    return f"{kind}_{_stamp(milliseconds)}"


def _stamp(number: int) -> str:
    return "".join(
        _ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_TIME_DIGITS))
    )


def new_secret(prefix: str) -> str:
    """Make an unguessable token of 256 bits, such as ``mp_...``, safe in a URL."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
