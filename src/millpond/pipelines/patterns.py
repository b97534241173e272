"""Match a text against a pattern that somebody wrote, in time that grows with the text alone.

Python's own ``re`` tries every way to match: a pattern such as ``(a+)+$`` would hold the server
for years. Pydantic's core matches with Rust's engine, which knows no lookaround and no
backreferences, and needs no more than linear time.
"""

from functools import lru_cache
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

PATTERN_LENGTH_MOST = 1000


def find_pattern_fault(pattern: str, text: str) -> str:
    """Say why a text does not fit a pattern; empty when it does."""
    matcher = _matcher(pattern) if len(pattern) <= PATTERN_LENGTH_MOST else None
    if matcher is None:
        return (
            "can't be checked: its pattern is too long or uses lookaround or backreferences;"
            " its pipeline must be mended"
        )
    try:
        matcher.validate_python(text)
    except ValidationError:
        return f"must match the pattern {pattern[:200]}"
    return ""


@lru_cache(100)
def _matcher(pattern: str) -> TypeAdapter[str] | None:
    try:
        return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    except SchemaError:
        return None
