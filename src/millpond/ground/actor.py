"""Who does something: a value that every room can take without knowing the people room."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """One caller, as the frame recognised it.

    Attributes:
        user_id: id of the user; ``system`` for Millpond itself.
        name: the user's name, as entries of the activity log show it.
        is_admin: whether the user is a site administrator.
        token_id: the session or API token the call came with; empty for Millpond itself.
        scopes: permissions the token is limited to, or None for all that the user has. An
            entry is a permission (``run.read``) or a noun with a star (``dataset.*``).
        is_local: whether the call came over loopback.
    """

    user_id: str
    name: str
    is_admin: bool = False
    token_id: str = ""
    scopes: frozenset[str] | None = None
    is_local: bool = False


SYSTEM = Actor(user_id="system", name="system", is_admin=True)
