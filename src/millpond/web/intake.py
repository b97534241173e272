"""What may come in: text that every database keeps, numbers that are some, JSON of some depth."""

from collections.abc import Iterable
from typing import Any

from starlette.types import Scope

from millpond.ground.errors import Fault, InvalidError

DEPTH_MOST = 40
NUMBER_MOST = 2**63 - 1
_NEXT_STEP = "Leave out what `faults` names and send it again."


def check_address(scope: Scope) -> None:
    """Refuse an address with NUL characters, which databases do not keep.

    Raises:
        InvalidError: there is one.
    """
    query: bytes = scope.get("query_string", b"")
    parts = {"path": "\0" in scope["path"], "query": b"%00" in query or b"\0" in query}
    faults = [Fault(name, "holds a NUL character") for name, is_wrong in parts.items() if is_wrong]
    if faults:
        raise InvalidError(
            "The address holds a NUL character.", next_step=_NEXT_STEP, faults=faults
        )


def check_json(value: object) -> None:
    """Refuse JSON that is no use to anybody: NUL, half characters, no numbers, very deep.

    Raises:
        InvalidError: names what there is of it.
    """
    wrong: set[str] = set()
    level, depth = [value], 0
    while level:
        if depth > DEPTH_MOST:
            wrong.add(f"is deeper than {DEPTH_MOST} levels")
            break
        level = _look_at(level, wrong)
        depth += 1
    if wrong:
        raise InvalidError(
            f"The body {', and '.join(sorted(wrong))}.",
            next_step=_NEXT_STEP,
            faults=[Fault("body", message) for message in sorted(wrong)],
        )


def _look_at(values: Iterable[Any], wrong: set[str]) -> list[Any]:
    """Look at values of one level; give those of the next."""
    below: list[Any] = []
    for value in values:
        if isinstance(value, str):
            if not value.isascii() and not _is_text(value):
                wrong.add("holds half of a character (a lone surrogate)")
            if "\0" in value:
                wrong.add("holds a NUL character")
        elif isinstance(value, dict):
            below.extend(value)
            below.extend(value.values())
        elif isinstance(value, list):
            below.extend(value)
        elif isinstance(value, float) and value - value != 0:
            wrong.add("holds a number that is none, or is too large")
        elif isinstance(value, int) and abs(value) > NUMBER_MOST:
            wrong.add("holds a whole number of more than 63 bits")
    return below


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
