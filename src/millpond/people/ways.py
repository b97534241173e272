"""The ways in that a user has: who may add one, and that nobody removes the last."""

from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotAllowedError
from millpond.people.accounts import store
from millpond.people.actions import require
from millpond.people.oidc.store import count_identities
from millpond.people.passkeys.store import count_passkeys
from millpond.storage.database import Transaction


def refuse_another(
    tx: Transaction, actor: Actor, *, count: int, most: int, act: str, them: str, undo: str
) -> None:
    """Refuse to add a way in where one may not.

    Args:
        tx: the transaction.
        actor: whose it would be.
        count: how many of the kind there are.
        most: how many there may be.
        act: what is done, such as ``make a passkey``.
        them: what they are called, such as ``passkeys``.
        undo: how one is taken away, such as ``Remove``.

    Raises:
        NotAllowedError: the caller came with a token that is limited.
        ConflictError: there are very many.
    """
    require(tx, actor, "token.write")
    if actor.scopes is not None:
        raise NotAllowedError(
            f"A token with scopes cannot {act}, which would allow more than it.",
            next_step="Sign in with your password first.",
        )
    if count >= most:
        raise ConflictError(
            f"You have {most} {them}, which is the most.",
            next_step=f"{undo} one that you do not use any more.",
        )


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
