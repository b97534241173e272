"""Values of people: users, tokens, projects, members, secrets."""

import hmac
from dataclasses import dataclass
from datetime import datetime

LOCAL_KEY_FILE = "local.key"
"""In the server's folder of keys; who can read it may sign in as an administrator on loopback."""


@dataclass(frozen=True)
class User:
    """Someone with an account.

    Attributes:
        id: never reused.
        name: what they sign in with; unique, never changed.
        email: optional, never shown to others than administrators and themselves.
        is_admin: whether they are a site administrator.
        is_disabled: whether they may not sign in; their tokens are refused as well.
        made_at: when the account was made.
    """

    id: str
    name: str
    email: str | None
    is_admin: bool
    is_disabled: bool
    made_at: datetime


@dataclass(frozen=True)
class Me:
    """Who the caller is, and what the token they came with allows.

    Attributes:
        user: the caller.
        token_id: the session or API token they came with.
        scopes: what the token is limited to; None for everything that the user may do.
    """

    user: User
    token_id: str
    scopes: list[str] | None


@dataclass(frozen=True)
class Token:
    """A session or an API token, without the secret part.

    Attributes:
        id: what to withdraw it by.
        kind: ``session`` or ``api``.
        name: what its owner called it; for a session where it came from.
        scopes: what it is limited to; None for everything that its user may do.
        made_at: when it was made.
        expires_at: from when it is refused.
        last_used_at: the last minute it was used in; None when never.
    """

    id: str
    kind: str
    name: str
    scopes: list[str] | None
    made_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class NewToken:
    """A token just made; the only time its text is shown."""

    text: str
    token: Token


@dataclass(frozen=True)
class Device:
    """What somebody signs in with.

    Attributes:
        address: the network address that they come from.
        agent: what their browser or program says that it is.
    """

    address: str = ""
    agent: str = ""


NOWHERE = Device()
"""For sessions that no request has begun."""


@dataclass(frozen=True)
class Session:
    """Somewhere that one is signed in.

    Attributes:
        id: what to end it by.
        device: browser and system in short, as far as the browser tells.
        address: the network address that it was begun from.
        how: how one proved who one was.
        made_at: when it was begun.
        last_used_at: the last minute it was used in; None when not again.
        expires_at: from when it is refused.
        is_current: whether the request that asks came with it.
    """

    id: str
    device: str
    address: str
    how: str
    made_at: datetime
    last_used_at: datetime | None
    expires_at: datetime
    is_current: bool


@dataclass(frozen=True)
class Project:
    """A place for data, environments, pipelines and runs, with its members.

    Attributes:
        id: never reused.
        name: unique on the site.
        description: free text.
        is_archived: whether it refuses changes.
        made_at: when it was made.
        role: the caller's role in it: ``owner``, ``editor``, ``viewer``; empty for a site
            administrator who is no member.
    """

    id: str
    name: str
    description: str
    is_archived: bool
    made_at: datetime
    role: str


@dataclass(frozen=True)
class ProjectFilter:
    """Which projects are wanted.

    Attributes:
        text: what the name or the description holds, in small or capitals; empty for any.
        is_archived: archived ones only, or none of them; None for both.
        is_all: all of the site's, for administrators; else one's own.
    """

    text: str = ""
    is_archived: bool | None = None
    is_all: bool = False


@dataclass(frozen=True)
class Member:
    """Someone's role in a project."""

    user: str
    role: str
    added_at: datetime


@dataclass(frozen=True)
class Secret:
    """A secret's name and dates; its value never leaves but to the tasks that were granted it."""

    name: str
    made_at: datetime
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True)
class LocalChallenge:
    """A text to be answered once, soon, by someone who can read the server's key file."""

    challenge: str
    expires_at: datetime


@dataclass(frozen=True)
class SetupState:
    """Whether the first administrator is still to be made."""

    is_needed: bool


def local_proof(key: bytes, challenge: str, name: str) -> str:
    """Prove, without sending it, that one can read the server's local key file.

    Args:
        key: the file's 32 bytes.
        challenge: what the server has just given out.
        name: who to sign in as; empty for the first administrator.
    """
    text = f"millpond-local-1\n{challenge}\n{name}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()
