"""Decide, without reading or writing anything, how long a link lasts and when another is made."""

from datetime import datetime, timedelta

MAILED_LIFE = timedelta(hours=1)
HANDED_LIFE = timedelta(days=1)
_PAUSE = timedelta(minutes=5)


def is_too_soon(made_at: datetime | None, now: datetime) -> bool:
    """Decide whether a link was made so short a time ago that asking makes no other.

    So a stranger who asks again and again fills nobody's letter box, nor takes away the link
    that an administrator has just handed over.
    """
    return made_at is not None and now - made_at < _PAUSE


def letter_of(name: str, link: str) -> str:
    """Write the letter to somebody who has forgotten their password."""
    return (
        f"Somebody, probably you, asked for a new password of the account {name} on Millpond.\n\n"
        f"To set one, open this page within an hour; it works once:\n\n{link}\n\n"
        "Whoever has this link can take the account over, so pass it on to nobody.\n"
        "If it was not you, do nothing: the old password stays good.\n"
    )
