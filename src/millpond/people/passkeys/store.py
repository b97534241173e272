"""All statements about passkeys and their challenges."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from millpond.people.passkeys.tables import passkey, passkey_challenge
from millpond.people.passkeys.values import Kept, Made, Passkey
from millpond.storage.database import Transaction

_own = passkey.c
_FIELDS = (_own.id, _own.name, _own.place, _own.made_at, _own.last_used_at)


@dataclass(frozen=True)
class Challenge:
    """What was given out: its digest, and who it was given to if anybody was signed in."""

    digest: str
    user_id: str | None


def list_passkeys(tx: Transaction, user_id: str, *, after: str, limit: int) -> list[Passkey]:
    """Give a user's passkeys in the order they were made in."""
    query = sa.select(*_FIELDS).where(_own.user_id == user_id, _own.id > after)
    rows = tx.rows(query.order_by(_own.id).limit(limit))
    return [Passkey(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.


def credentials_of(tx: Transaction, user_id: str, place: str) -> list[str]:
    """Give the devices' own names for a user's passkeys that are good at a place."""
    query = sa.select(_own.credential).where(_own.user_id == user_id, _own.place == place)
    return [row.credential for row in tx.rows(query)]


def count_passkeys(tx: Transaction, user_id: str) -> int:
    """Tell how many passkeys a user has."""
    query = sa.select(sa.func.count()).select_from(passkey).where(_own.user_id == user_id)
    return int(tx.scalar(query))


def find_passkey(tx: Transaction, digest: str) -> Kept | None:
    """Find a passkey by the digest of its device's name for it."""
    query = sa.select(*_FIELDS, _own.user_id, _own.public_key, _own.sign_count)
    row = tx.one(query.where(_own.digest == digest))
    if row is None:
        return None
    facts = dict(row._mapping)  # noqa: SLF001 - its public name.
    more = {name: facts.pop(name) for name in ("user_id", "public_key", "sign_count")}
    return Kept(Passkey(**facts), **more)


def add_passkey(tx: Transaction, user_id: str, one: Passkey, made: Made, digest: str) -> bool:
    """Write a new passkey; tell whether it was not there yet."""
    if find_passkey(tx, digest) is not None:
        return False
    tx.execute(passkey.insert().values(**vars(one), **vars(made), user_id=user_id, digest=digest))
    return True


def mark_used(tx: Transaction, kept: Kept, count: int, at: datetime) -> bool:
    """Keep that a passkey has signed; tell whether nobody else was quicker."""
    same = (_own.id == kept.passkey.id) & (_own.sign_count == kept.sign_count)
    done = tx.execute(passkey.update().where(same).values(sign_count=count, last_used_at=at))
    return bool(done.rowcount)


def remove_passkey(tx: Transaction, user_id: str, passkey_id: str) -> str | None:
    """Remove one passkey of a user; give its name, None when it was not there."""
    mine = (_own.user_id == user_id) & (_own.id == passkey_id)
    name = tx.scalar(sa.select(_own.name).where(mine))
    tx.execute(passkey.delete().where(mine))
    return None if name is None else str(name)


def add_challenge(
    tx: Transaction, browser: str, challenge: Challenge, address: str, expires_at: datetime
) -> int:
    """Keep a challenge for one browser; tell how many are open to its address."""
    column = passkey_challenge.c
    tx.execute(passkey_challenge.delete().where(column.expires_at <= tx.now))
    values = vars(challenge) | {"browser": browser, "address": address, "expires_at": expires_at}
    tx.execute(passkey_challenge.insert().values(**values))
    query = sa.select(sa.func.count()).select_from(passkey_challenge)
    return int(tx.scalar(query.where(column.address == address)))


def use_challenge(tx: Transaction, browser: str) -> Challenge | None:
    """Use a browser's challenge up; None when it has none that is open."""
    column = passkey_challenge.c
    fresh = (column.browser == browser) & (column.expires_at > tx.now)
    row = tx.one(sa.select(column.digest, column.user_id).where(fresh))
    # Whoever deletes it has it: of two requests at once only one does.
    if row is None or not tx.execute(passkey_challenge.delete().where(fresh)).rowcount:
        return None
    return Challenge(row.digest, row.user_id)
