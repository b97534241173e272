"""All statements about forgotten passwords."""

from datetime import datetime

import sqlalchemy as sa

from millpond.people.accounts.resets.tables import password_reset
from millpond.people.tables import user_account
from millpond.storage.database import Transaction

_reset = password_reset.c


def made_at(tx: Transaction, user_id: str) -> datetime | None:
    """Give when a user's link was made, None when there is none."""
    found: datetime | None = tx.scalar(
        sa.select(_reset.made_at).where(_reset.user_id == user_id, _reset.expires_at > tx.now)
    )
    return found


def keep(tx: Transaction, user_id: str, digest: str, expires_at: datetime) -> None:
    """Keep a user's code instead of any before."""
    tx.one(sa.select(user_account.c.id).where(user_account.c.id == user_id).with_for_update())
    tx.execute(
        password_reset.delete().where((_reset.user_id == user_id) | (_reset.expires_at <= tx.now))
    )
    values = {"user_id": user_id, "digest": digest, "made_at": tx.now, "expires_at": expires_at}
    tx.execute(password_reset.insert().values(**values))


def find_user_id(tx: Transaction, digest: str) -> str | None:
    """Find whose code this is; None when it is none, or over."""
    found = tx.scalar(
        sa.select(_reset.user_id).where(_reset.digest == digest, _reset.expires_at > tx.now)
    )
    return None if found is None else str(found)


def use(tx: Transaction, digest: str) -> bool:
    """Use a code up; tell whether it was good."""
    good = (_reset.digest == digest) & (_reset.expires_at > tx.now)
    return bool(tx.execute(password_reset.delete().where(good)).rowcount)


def forget(tx: Transaction, user_id: str) -> None:
    """Forget a user's code, if there is one."""
    tx.execute(password_reset.delete().where(_reset.user_id == user_id))


def user_ids_with_address(tx: Transaction, email: str) -> list[str]:
    """Give the users with an address for mail, however its letters are written; at most two."""
    column = user_account.c
    query = sa.select(column.id).where(sa.func.lower(column.email) == email.lower()).limit(2)
    return [str(row.id) for row in tx.rows(query)]
