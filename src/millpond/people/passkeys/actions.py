"""What can be done with passkeys."""

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people import rules as people_rules
from millpond.people import ways
from millpond.people.accounts.actions import digest_of_token
from millpond.people.actions import require
from millpond.people.passkeys import rules, store
from millpond.people.passkeys.values import Made, Passkey, Place
from millpond.storage.database import Transaction


def list_passkeys(
    tx: Transaction, actor: Actor, *, cursor: str | None, limit: int
) -> Page[Passkey]:
    """Give one's own passkeys, in the order they were made in."""
    require(tx, actor, "token.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_passkeys(tx, actor.user_id, after=after, limit=limit + 1)
    return make_page(found, limit, lambda one: [one.id])


def refuse_another(tx: Transaction, actor: Actor, name: str) -> None:
    """Refuse to make another passkey where one may not.

    Raises:
        InvalidError: the name is not good.
        NotAllowedError: the caller came with a token that is limited.
        ConflictError: there are very many.
    """
    require(tx, actor, "token.write")
    people_rules.refuse("The passkey", rules.faults_of_passkey_name(name))
    ways.refuse_another(
        tx,
        actor,
        count=store.count_passkeys(tx, actor.user_id),
        most=rules.PASSKEYS_MOST,
        act="make a passkey",
        them="passkeys",
        undo="Remove",
    )


def add_passkey(tx: Transaction, actor: Actor, name: str, place: Place, made: Made) -> Passkey:
    """Keep a passkey of one's own that a device has made.

    Raises:
        ConflictError: it is known already.
    """
    refuse_another(tx, actor, name)
    one = Passkey(new_id("passkey"), name, place.name, tx.now, None)
    if not store.add_passkey(tx, actor.user_id, one, made, digest_of_token(made.credential)):
        raise ConflictError(
            "This passkey is known already.", next_step="Use it to sign in, or make another."
        )
    after = {"name": name, "place": place.name}
    note(tx, actor, "passkey.added", f"passkey/{one.id}", after=after)
    return one


def remove_passkey(tx: Transaction, actor: Actor, passkey_id: str) -> None:
    """Remove one of one's own passkeys; nobody signs in with it any more.

    Raises:
        ConflictError: it is the last way in which they can sign in.
    """
    require(tx, actor, "token.write")
    name = store.remove_passkey(tx, actor.user_id, passkey_id)
    if name is None:
        raise NotFoundError(
            f"You have no passkey {passkey_id!r}.",
            next_step="List your passkeys with `millpond passkey list`.",
            passkey=passkey_id,
        )
    ways.refuse_no_way_in(tx, actor.user_id)
    note(tx, actor, "passkey.removed", f"passkey/{passkey_id}", before={"name": name})
