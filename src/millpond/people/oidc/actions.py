"""What can be done with identities at other places."""

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, NotAllowedError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import store as account_store
from millpond.people.actions import require
from millpond.people.oidc import rules, store
from millpond.people.oidc.provider import Provider
from millpond.people.oidc.values import Claims, Identity
from millpond.people.values import Device, NewToken, User
from millpond.people.ways import refuse_another, refuse_no_way_in
from millpond.storage.database import Transaction

_IDENTITIES_MOST = 20


def list_identities(
    tx: Transaction, actor: Actor, *, cursor: str | None, limit: int
) -> Page[Identity]:
    """Give one's own identities, in the order they were linked in."""
    require(tx, actor, "token.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_identities(tx, actor.user_id, after=after, limit=limit + 1)
    return make_page(found, limit, lambda one: [one.id])


def refuse_link(tx: Transaction, actor: Actor) -> None:
    """Refuse to link another identity where one may not.

    Raises:
        NotAllowedError: the caller came with a token that is limited.
        ConflictError: there are very many.
    """
    refuse_another(
        tx,
        actor,
        count=store.count_identities(tx, actor.user_id),
        most=_IDENTITIES_MOST,
        act="link an account",
        them="linked accounts",
        undo="Unlink",
    )


def link(tx: Transaction, actor: Actor, provider: Provider, claims: Claims) -> Identity:
    """Link an identity to oneself.

    Raises:
        ConflictError: it is linked to somebody, here or there.
    """
    refuse_link(tx, actor)
    found = store.find_identity(tx, claims)
    if found is not None:
        whose = "you" if found.user_id == actor.user_id else "another account"
        raise ConflictError(
            f"{claims.shown} at {provider.label} is linked to {whose} already.",
            next_step="Sign in with it, or unlink it there first.",
        )
    return _add(tx, actor, actor.user_id, provider, claims)


def unlink(tx: Transaction, actor: Actor, identity_id: str) -> None:
    """Unlink one of one's own identities; nobody signs in with it any more.

    Raises:
        ConflictError: it is the last way in which they can sign in.
    """
    require(tx, actor, "token.write")
    one = store.remove_identity(tx, actor.user_id, identity_id)
    if one is None:
        raise NotFoundError(
            f"You have no linked account {identity_id!r}.",
            next_step="List them with `millpond identity list`.",
            identity=identity_id,
        )
    refuse_no_way_in(tx, actor.user_id)
    before = {"provider": one.provider, "shown": one.shown}
    note(tx, actor, "identity.unlinked", f"identity/{identity_id}", before=before)


def sign_in(tx: Transaction, provider: Provider, claims: Claims, device: Device) -> NewToken:
    """Give a session to whom a provider has named.

    Nobody is found by their address for mail, which providers let people choose.

    Raises:
        NotAllowedError: nobody here is linked, and none may be made; or they are disabled.
    """
    found = store.find_identity(tx, claims)
    if found is not None:
        user = account_store.find_user(tx, user_id=found.user_id)
        store.mark_used(tx, found.identity.id)
    else:
        user = _make_user(tx, provider, claims)
    if user is None or user.is_disabled:
        raise NotAllowedError(
            "The account is disabled.", next_step="Ask an administrator to let you in again."
        )
    return accounts.add_session(tx, user, provider.name, device)


def _make_user(tx: Transaction, provider: Provider, claims: Claims) -> User:
    if not provider.settings.sign_up:
        raise NotAllowedError(
            f"Nobody here is linked to {claims.shown} at {provider.label}.",
            next_step="If you have an account here, sign in another way and link it in your"
            " profile, at /profile/identities; else ask an administrator for an account.",
        )
    number = 1
    while account_store.find_user(tx, name=rules.name_for(claims, number)) is not None:
        number += 1
    name = rules.name_for(claims, number)
    user = accounts.add_user(tx, SYSTEM, name, email=claims.email)
    store.mark_used(tx, _add(tx, SYSTEM, user.id, provider, claims).id)
    return user


def _add(
    tx: Transaction, actor: Actor, user_id: str, provider: Provider, claims: Claims
) -> Identity:
    one = Identity(new_id("identity"), provider.name, claims.shown, tx.now, None)
    store.add_identity(tx, user_id, one, claims)
    facts = {"provider": provider.name, "issuer": claims.issuer, "subject": claims.subject}
    after = facts | {"shown": claims.shown, "user": user_id}
    note(tx, actor, "identity.linked", f"identity/{one.id}", after=after)
    return one
