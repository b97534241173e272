"""The ways in that a user has: nobody may lock themselves out by removing the last one."""

from millpond.ground.errors import ConflictError
from millpond.people.accounts import store
from millpond.people.oidc.store import count_identities
from millpond.people.passkeys.store import count_passkeys
from millpond.storage.database import Transaction


def refuse_no_way_in(tx: Transaction, user_id: str) -> None:
    """Refuse when a user could not sign in any more.

    Raises:
        ConflictError: they have no password, no passkey and no identity at another place.
    """
    if store.password_of(tx, user_id) is None and not (
        count_passkeys(tx, user_id) or count_identities(tx, user_id)
    ):
        raise ConflictError(
            "This is the last way in which you can sign in.",
            next_step="Set a password first, or add another passkey.",
        )
