"""All statements about identities at other places, and visits there that are under way."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from millpond.people.oidc.tables import oidc_visit, user_identity
from millpond.people.oidc.values import Claims, Identity
from millpond.storage.database import Transaction

_own = user_identity.c
_FIELDS = (_own.id, _own.provider, _own.shown, _own.made_at, _own.last_used_at)


@dataclass(frozen=True)
class Found:
    """An identity, and whose it is here."""

    identity: Identity
    user_id: str


@dataclass(frozen=True)
class Away:
    """Somebody's visit at a provider.

    Attributes:
        browser: digest of the secret of the browser that went there.
        provider: where.
        user_id: who wants to link an account; None for signing in.
        next: the page to go to afterwards.
    """

    browser: str
    provider: str
    user_id: str | None
    next: str


def list_identities(tx: Transaction, user_id: str, *, after: str, limit: int) -> list[Identity]:
    """Give a user's identities in the order they were linked in."""
    query = sa.select(*_FIELDS).where(_own.user_id == user_id, _own.id > after)
    rows = tx.rows(query.order_by(_own.id).limit(limit))
    return [Identity(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.


def count_identities(tx: Transaction, user_id: str) -> int:
    """Tell at how many other places a user is known."""
    query = sa.select(sa.func.count()).select_from(user_identity).where(_own.user_id == user_id)
    return int(tx.scalar(query))


def find_identity(tx: Transaction, claims: Claims) -> Found | None:
    """Find the identity that a provider speaks of."""
    mine = (_own.issuer == claims.issuer) & (_own.subject == claims.subject)
    row = tx.one(sa.select(*_FIELDS, _own.user_id).where(mine))
    if row is None:
        return None
    facts = dict(row._mapping)  # noqa: SLF001 - its public name.
    user_id = facts.pop("user_id")
    return Found(Identity(**facts), user_id)


def add_identity(tx: Transaction, user_id: str, one: Identity, claims: Claims) -> None:
    """Write a new identity."""
    more = {"user_id": user_id, "issuer": claims.issuer, "subject": claims.subject}
    tx.execute(user_identity.insert().values(**vars(one), **more))


def mark_used(tx: Transaction, identity_id: str) -> None:
    """Keep that an identity has signed somebody in."""
    mine = _own.id == identity_id
    tx.execute(user_identity.update().where(mine).values(last_used_at=tx.now))


def remove_identity(tx: Transaction, user_id: str, identity_id: str) -> Identity | None:
    """Remove one identity of a user; give it, None when it was not there."""
    mine = (_own.user_id == user_id) & (_own.id == identity_id)
    row = tx.one(sa.select(*_FIELDS).where(mine))
    tx.execute(user_identity.delete().where(mine))
    return None if row is None else Identity(**row._mapping)  # noqa: SLF001 - its public name.


def add_visit(tx: Transaction, state: str, away: Away, address: str, expires_at: datetime) -> int:
    """Keep that somebody goes to a provider; tell how many of their address are away."""
    column = oidc_visit.c
    tx.execute(oidc_visit.delete().where(column.expires_at <= tx.now))
    values = vars(away) | {"state": state, "address": address, "expires_at": expires_at}
    tx.execute(oidc_visit.insert().values(**values))
    query = sa.select(sa.func.count()).select_from(oidc_visit).where(column.address == address)
    return int(tx.scalar(query))


def end_visit(tx: Transaction, state: str) -> Away | None:
    """End a visit; None when nobody is away by this name any more."""
    column = oidc_visit.c
    fresh = (column.state == state) & (column.expires_at > tx.now)
    query = sa.select(column.browser, column.provider, column.user_id, column.next)
    row = tx.one(query.where(fresh))
    # Whoever deletes it has it: of two requests at once only one does.
    if row is None or not tx.execute(oidc_visit.delete().where(fresh)).rowcount:
        return None
    return Away(**row._mapping)  # noqa: SLF001 - its public name.
