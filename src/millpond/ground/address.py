"""Names of things within a project, and addresses of their versions: ``NAME`` or ``NAME@3``."""

import re
from dataclasses import dataclass

from millpond.ground.errors import Fault, InvalidError

NAME_LENGTH_MOST = 80
NAME_RULE = (
    "1 to 80 lower-case letters, digits, dots, hyphens and underscores, a letter or digit first"
)
RESERVED = frozenset({"new"})
"""Words that stand in the addresses of pages where names stand: ``datasets/new``."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Address:
    """A thing by its name and, when pinned, the number of its version."""

    name: str
    number: int | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}@{self.number}"


def is_name(text: str) -> bool:
    """Say whether this may be the name of a thing within a project."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, field: str = "name") -> None:
    """Refuse what may not be a name.

    Raises:
        InvalidError: it is not made as ``NAME_RULE`` says.
    """
    if not is_name(text):
        raise InvalidError(
            f"{text[:100]!r} can't be a name.",
            next_step=f"Choose a name of {NAME_RULE}.",
            faults=[Fault(field, f"must be {NAME_RULE}")],
        )


def check_new_name(text: str, field: str = "name") -> None:
    """Refuse what may not become the name of a new thing.

    Raises:
        InvalidError: it is not made as ``NAME_RULE`` says, or is kept for Millpond itself.
    """
    check_name(text, field)
    if text in RESERVED:
        raise InvalidError(
            f"{text!r} is kept for Millpond itself: it stands in the addresses of pages.",
            next_step="Choose another name.",
            faults=[Fault(field, f"{text!r} is kept for Millpond itself")],
        )


def parse_address(text: str, field: str = "address") -> Address:
    """Read ``NAME`` or ``NAME@NUMBER``.

    Raises:
        InvalidError: it is neither.
    """
    name, at, number = text.partition("@")
    if not is_name(name) or (at and not _NUMBER.fullmatch(number)):
        raise InvalidError(
            f"{text[:100]!r} is not an address.",
            next_step="Write NAME for the newest version, or NAME@3 for the third.",
            faults=[Fault(field, f"must be NAME or NAME@NUMBER; a name is {NAME_RULE}")],
        )
    return Address(name, int(number) if at else None)
