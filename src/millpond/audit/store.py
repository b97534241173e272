"""All statements of the activity log."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.audit.tables import (
    audit_entry,
    audit_head,
    audit_key,
    audit_seal,
    audit_sealed_head,
)
from millpond.audit.values import Entry, EntryFilter, Head, PublicKey, Seal, SealedHead
from millpond.storage.database import Transaction

PAGE_ROWS = 1000
_SEAL_LOCK = 7_301_005  # An advisory lock of PostgreSQL; another one keeps the live events.


def lock_head(tx: Transaction, chain: str) -> Head | None:
    """Give a chain's head and keep others from moving it until the commit."""
    query = sa.select(audit_head).where(audit_head.c.chain == chain).with_for_update()
    row = tx.one(query)
    return None if row is None else Head(row.chain, row.number, row.hash)


def start_chain(tx: Transaction, chain: str, first_hash: str) -> Head:
    """Make the head of a new chain, or wait for the other transaction that is making it."""
    tx.insert_new(audit_head, {"chain": chain, "number": 0, "hash": first_hash}, audit_head.c.chain)
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


def list_entries(
    tx: Transaction, chain: str, *, before: int | None, limit: int, asked: EntryFilter
) -> list[Entry]:
    """Give entries of a chain, newest first."""
    table = audit_entry.c
    query = sa.select(audit_entry).where(table.chain == chain)
    if before is not None:
        query = query.where(table.number < before)
    for column, wanted in ((table.verb, asked.verb), (table.target, asked.target)):
        if wanted and wanted.endswith("*"):
            query = query.where(column.startswith(wanted[:-1], autoescape=True))
        elif wanted:
            query = query.where(column == wanted)
    if asked.actor:
        query = query.where(table.actor_name == asked.actor)
    if asked.since:
        query = query.where(table.at >= asked.since)
    if asked.until:
        query = query.where(table.at < asked.until)
    if asked.text:
        searched = (table.verb, table.target, table.actor_name)
        query = query.where(
            sa.or_(*(column.icontains(asked.text, autoescape=True) for column in searched))
        )
    return [_entry(row) for row in tx.rows(query.order_by(table.number.desc()).limit(limit))]


def find_entry(tx: Transaction, chain: str, number: int) -> Entry | None:
    """Give one entry of a chain."""
    table = audit_entry.c
    row = tx.one(sa.select(audit_entry).where(table.chain == chain, table.number == number))
    return None if row is None else _entry(row)


def newest_number(tx: Transaction, chain: str) -> int:
    """Give the number of a chain's newest entry; 0 when it has none."""
    return int(tx.scalar(sa.select(audit_head.c.number).where(audit_head.c.chain == chain)) or 0)


def last_changes(tx: Transaction, chains: Sequence[str]) -> dict[str, datetime]:
    """Give the time of the newest entry of each of these chains that has one."""
    query = sa.select(audit_head.c.chain, audit_entry.c.at).join(
        audit_entry,
        (audit_entry.c.chain == audit_head.c.chain) & (audit_entry.c.number == audit_head.c.number),
    )
    return {row.chain: row.at for row in tx.rows(query.where(audit_head.c.chain.in_(chains)))}


def entries_after(tx: Transaction, chain: str, number: int, until: int) -> list[dict[str, Any]]:
    """Give a page of a chain's entries, oldest first."""
    table = audit_entry.c
    query = (
        sa.select(audit_entry)
        .where(table.chain == chain, table.number > number, table.number <= until)
        .order_by(table.number)
        .limit(PAGE_ROWS)
    )
    return [dict(row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(**row._mapping)  # noqa: SLF001 - its public name.


# Seals -----------------------------------------------------------------------------------------


def lock_seals(tx: Transaction) -> None:
    """Let one transaction at a time make a seal; on SQLite there is only one anyway."""
    if not tx.is_sqlite:
        tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_SEAL_LOCK})"))


def heads(tx: Transaction) -> list[Head]:
    """Give the heads of all chains, in one reading, sorted by chain."""
    rows = tx.rows(sa.select(audit_head).where(audit_head.c.number > 0))
    # Sorted here: the databases' collations differ.
    return sorted((Head(**row._mapping) for row in rows), key=lambda head: head.chain)  # noqa: SLF001 - its public name.


def has_unsealed(tx: Transaction) -> bool:
    """Tell whether a chain's head moved since the newest seal."""
    moved = audit_head.c.number != audit_head.c.sealed_number
    return tx.one(sa.select(audit_head.c.chain).where(moved).limit(1)) is not None


def oldest_unsealed(tx: Transaction) -> datetime | None:
    """Give when the oldest entry was noted that no seal holds yet."""
    first = (audit_entry.c.chain == audit_head.c.chain) & (
        audit_entry.c.number == audit_head.c.sealed_number + 1
    )
    found: datetime | None = tx.scalar(
        sa.select(sa.func.min(audit_entry.c.at)).join(audit_head, first)
    )
    return found


def sealed_until(tx: Transaction, chain: str, seal_number: int) -> int:
    """Tell up to which entry the seals up to a number hold a chain."""
    table = audit_sealed_head.c
    query = sa.select(sa.func.max(table.number))
    query = query.where(table.chain == chain, table.seal_number <= seal_number)
    return int(tx.scalar(query) or 0)


def newest_seal(tx: Transaction, *, complete: bool = False) -> Seal | None:
    """Give the newest seal, or the newest that keeps a proof for every chain."""
    query = sa.select(audit_seal).order_by(audit_seal.c.number.desc()).limit(1)
    if complete:
        query = query.where(audit_seal.c.is_complete.is_(True))
    row = tx.one(query)
    return None if row is None else Seal(**row._mapping)  # noqa: SLF001 - its public name.


def add_seal(tx: Transaction, seal: Seal, sealed: Sequence[SealedHead]) -> None:
    """Write a seal with the heads it keeps a proof for, and mark the heads sealed."""
    tx.execute(audit_seal.insert().values(asdict(seal)))
    if not sealed:
        return
    tx.execute(audit_sealed_head.insert(), [asdict(head) for head in sealed])
    mark = (
        audit_head.update()
        .where(audit_head.c.chain == sa.bindparam("of"))
        .values(sealed_number=sa.bindparam("at"), sealed_hash=sa.bindparam("with"))
    )
    values = [{"of": head.chain, "at": head.number, "with": head.hash} for head in sealed]
    tx.execute(mark, values)


def sealed_count(tx: Transaction, chain: str, until: int) -> int:
    """Tell how many seals up to a number keep a proof for a chain."""
    table = audit_sealed_head.c
    query = sa.select(sa.func.count()).where(table.chain == chain, table.seal_number <= until)
    return int(tx.scalar(query))


def sealed_after(
    tx: Transaction, chain: str, number: int, until: int
) -> list[tuple[Seal, SealedHead]]:
    """Give a page of the seals that keep a proof for a chain, oldest first."""
    table = audit_sealed_head.c
    held = (
        sa.select(audit_sealed_head)
        .where(table.chain == chain, table.seal_number > number, table.seal_number <= until)
        .order_by(table.seal_number)
        .limit(PAGE_ROWS)
    )
    proofs = [SealedHead(**row._mapping) for row in tx.rows(held)]  # noqa: SLF001 - its public name.
    numbers = [proof.seal_number for proof in proofs]
    query = sa.select(audit_seal).where(audit_seal.c.number.in_(numbers))
    seals = {row.number: Seal(**row._mapping) for row in tx.rows(query)}  # noqa: SLF001 - its public name.
    return [(seals[proof.seal_number], proof) for proof in proofs if proof.seal_number in seals]


def first_seal_over(tx: Transaction, chain: str, number: int) -> tuple[Seal, SealedHead] | None:
    """Give the first seal that covers an entry, with the chain's head and its proof in it."""
    table = audit_sealed_head.c
    query = (
        sa.select(table.seal_number)
        .where(table.chain == chain, table.number >= number)
        .order_by(table.seal_number)
        .limit(1)
    )
    found = tx.scalar(query)
    held = [] if found is None else sealed_after(tx, chain, found - 1, found)
    return held[0] if held else None


# Keys ------------------------------------------------------------------------------------------


def add_key(tx: Transaction, key_id: str, public_key: str) -> bool:
    """Keep a public key; tell whether it is new."""
    if tx.one(sa.select(audit_key.c.key_id).where(audit_key.c.key_id == key_id)) is not None:
        return False
    tx.execute(audit_key.insert().values(key_id=key_id, public_key=public_key, made_at=tx.now))
    return True


def public_keys(tx: Transaction) -> list[PublicKey]:
    """Give all public keys, newest first."""
    query = sa.select(audit_key).order_by(audit_key.c.made_at.desc(), audit_key.c.key_id)
    return [PublicKey(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.
