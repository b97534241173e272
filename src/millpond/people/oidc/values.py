"""Values of signing in through another place."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Identity:
    """An account at another place by which one may sign in here.

    Attributes:
        id: what to unlink it by.
        provider: the name of the place, as the settings call it.
        shown: the account's name there, as it said when it was linked.
        made_at: when it was linked.
        last_used_at: when it signed somebody in last; None when never.
    """

    id: str
    provider: str
    shown: str
    made_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Claims:
    """What a provider says of somebody, after its signature and all else was checked.

    Attributes:
        issuer: the provider; with the subject it names one account for ever.
        subject: the account there.
        name: what they are called there; may change, and may be anything.
        email: their address for mail, where the provider has checked it.
    """

    issuer: str
    subject: str
    name: str
    email: str | None

    @property
    def shown(self) -> str:
        """What people know the account by."""
        return (self.name or self.email or self.subject)[:200]


@dataclass(frozen=True)
class Ask:
    """What goes to the provider with somebody, to come back with them.

    Attributes:
        state: names the visit.
        nonce: the provider signs it.
        verifier: its digest goes there first; itself later, so that nobody else can redeem a code.
    """

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True)
class Back:
    """What somebody comes back with from a provider."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""
    iss: str = ""
