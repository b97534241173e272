"""All statements of the activity log."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from millpond.audit.tables import (
    audit_entry,
    audit_head,
)
from millpond.audit.values import Head
from millpond.storage.database import Transaction

_PAGE_ROWS = 1000


def lock_head(tx: Transaction, chain: str) -> Head | None:
    """Give a chain's head and keep others from moving it until the commit."""
    query = sa.select(audit_head).where(audit_head.c.chain == chain).with_for_update()
    row = tx.one(query)
    return None if row is None else Head(row.chain, row.number, row.hash)


def start_chain(tx: Transaction, chain: str, first_hash: str) -> Head:
    """Make the head of a new chain, or wait for the other transaction that is making it."""
    insert: Any
    if tx.is_sqlite:
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    row = {"chain": chain, "number": 0, "hash": first_hash}
    tx.execute(insert(audit_head).values(row).on_conflict_do_nothing())
    head = lock_head(tx, chain)
    assert head is not None  # noqa: S101 - the line above has put it there.
    return head


def add_entries(tx: Transaction, entries: Sequence[dict[str, Any]]) -> None:
    """Write entries whose hashes are made."""
    tx.execute(audit_entry.insert(), entries)


def move_head(tx: Transaction, chain: str, number: int, digest: str) -> None:
    """Let a chain end at another entry."""
    tx.execute(
        audit_head.update().where(audit_head.c.chain == chain).values(number=number, hash=digest)
    )
