"""Letters by mail, and the one who takes them: rooms write, ``jobs.mail`` sends."""

from collections.abc import Callable
from dataclasses import dataclass, field

from millpond.storage.database import Transaction


@dataclass(frozen=True)
class Letter:
    """A letter to one person.

    Attributes:
        to: the address for mail.
        subject: one line; never a secret.
        text: plain text; it may hold a link that is good once, so it is sealed until it is sent.
    """

    to: str
    subject: str
    text: str = field(repr=False)


Post = Callable[[Transaction, Letter], None]
"""Takes a letter in a transaction: it is sent when that commits, and not before.

``None`` stands for no post where no mail server is set.
"""
