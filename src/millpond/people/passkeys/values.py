"""Values of passkeys."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Passkey:
    """A way to sign in that a device or a password manager holds.

    Attributes:
        id: what to remove it by.
        name: what its owner called it.
        place: the name of the server that it is good for, ``localhost`` for this machine's own.
        made_at: when it was made.
        last_used_at: when it signed somebody in last; None when never.
    """

    id: str
    name: str
    place: str
    made_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Place:
    """Where passkeys are good: a name, and the one origin whose pages may use them."""

    name: str
    origin: str


@dataclass(frozen=True)
class Kept:
    """What is kept of a passkey to check it by.

    Attributes:
        passkey: what its owner sees.
        user_id: whose it is.
        public_key: in COSE's form.
        sign_count: how often it has signed, as it last said; 0 where it does not count.
    """

    passkey: Passkey
    user_id: str
    public_key: bytes
    sign_count: int


@dataclass(frozen=True)
class Made:
    """A passkey that a device has just made and proved to hold."""

    credential: str
    public_key: bytes
    sign_count: int
