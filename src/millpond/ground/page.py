"""A page of results and the cursor to the next one."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from millpond.ground.errors import Fault, InvalidError

T = TypeVar("T")
S = TypeVar("S")

PAGE_LIMIT = 50
PAGE_LIMIT_MOST = 1000
_NUMBER_MOST = 2**31 - 1


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some results in their order.

    Attributes:
        items: the results.
        next_cursor: hand it back to get the page after this; None on the last page.
    """

    items: list[T]
    next_cursor: str | None = None

    def map(self, change: Callable[[T], S]) -> "Page[S]":
        """Give the same page with each item changed."""
        return Page([change(item) for item in self.items], self.next_cursor)


def make_page(items: Sequence[T], limit: int, key: Callable[[T], Sequence[str | int]]) -> Page[T]:
    """Cut ``limit + 1`` fetched items down to a page; ``key`` gives the sort key of an item."""
    if len(items) <= limit:
        return Page(list(items))
    kept = list(items[:limit])
    return Page(kept, encode_cursor(key(kept[-1])))


def encode_cursor(key: Sequence[str | int]) -> str:
    """Turn the sort key of the last item into an opaque cursor."""
    text = json.dumps(list(key), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, *types: type) -> tuple[str | int, ...] | None:
    """Turn a cursor back into the sort key, checked against the types of its parts.

    Raises:
        InvalidError: it is not a cursor that this list has given out.
    """
    if not cursor:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    is_ours = isinstance(key, list) and [type(part) for part in key] == list(types)
    if not is_ours or not all(_is_plain(part) for part in key):
        raise InvalidError(
            "The cursor is not one that this list has given out.",
            next_step="Leave the cursor out to start at the first page.",
            faults=[Fault("cursor", "not a cursor of this list")],
        )
    return tuple(key)


def _is_plain(part: str | int) -> bool:
    """Tell whether every database takes it: no NUL, no lone surrogate, no more than 31 bits."""
    if isinstance(part, int):
        return abs(part) <= _NUMBER_MOST
    try:
        return b"\0" not in part.encode()
    except UnicodeEncodeError:
        return False
