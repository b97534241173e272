"""All SQL of the store on the nodes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from millpond.storage.database import Transaction
from millpond.storage.nodes.tables import (
    object_digest,
    object_fact,
    object_name,
    object_place,
    object_replica,
)
from millpond.storage.nodes.values import Place
from millpond.storage.port import ObjectInfo

_KEYS_AT_ONCE = 500


def _insert(tx: Transaction, table: sa.Table) -> Any:
    # Loaded when first used: the PostgreSQL one costs a tenth of a second of every start.
    if tx.is_sqlite:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        return insert_sqlite(table)
    from sqlalchemy.dialects.postgresql import insert as insert_postgresql

    return insert_postgresql(table)


def _slices(values: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(values)
    for start in range(0, len(listed), _KEYS_AT_ONCE):
        yield listed[start : start + _KEYS_AT_ONCE]


# Names -----------------------------------------------------------------------------------------


def find_names(tx: Transaction, keys: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Give digest and size of those keys that are there."""
    found: dict[str, tuple[str, int]] = {}
    columns = (object_name.c.key, object_name.c.digest, object_name.c.size)
    for some in _slices(keys):
        for row in tx.rows(sa.select(*columns).where(object_name.c.key.in_(some))):
            found[row.key] = (row.digest, row.size)
    return found


def list_names(tx: Transaction, prefix: str, after: str, limit: int) -> list[ObjectInfo]:
    """Give the next keys of a prefix, in order."""
    columns = (object_name.c.key, object_name.c.size, object_name.c.digest)
    query = sa.select(*columns).order_by(object_name.c.key)
    if prefix:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        query = query.where(object_name.c.key >= prefix, object_name.c.key < end)
    if after:
        query = query.where(object_name.c.key > after)
    return [ObjectInfo(row.key, row.size, row.digest) for row in tx.rows(query.limit(limit))]


def add_names(tx: Transaction, entries: Mapping[str, tuple[str, int]]) -> set[str]:
    """Add keys; give those that were new. On PostgreSQL it waits for others adding the same."""
    rows = [
        {"key": key, "digest": digest, "size": size, "made_at": tx.now}
        for key, (digest, size) in sorted(entries.items())
    ]
    if not rows:
        return set()
    statement = _insert(tx, object_name).on_conflict_do_nothing().returning(object_name.c.key)
    return {row.key for row in tx.execute(statement, rows)}


def drop_name(tx: Transaction, key: str) -> None:
    """Remove a key; its bytes are unnamed from now on when it was the last."""
    gone = tx.one(
        object_name.delete().where(object_name.c.key == key).returning(object_name.c.digest)
    )
    if gone is not None:
        others = sa.exists().where(object_name.c.digest == object_digest.c.digest)
        tx.execute(
            object_digest.update()
            .where(object_digest.c.digest == gone.digest, ~others)
            .values(unnamed_at=tx.now)
        )


def keys_of(tx: Transaction, digests: Sequence[str], limit: int) -> list[str]:
    """Give keys that name these bytes."""
    query = sa.select(object_name.c.key).where(object_name.c.digest.in_(digests))
    return [row.key for row in tx.rows(query.order_by(object_name.c.key).limit(limit))]


# Digests ---------------------------------------------------------------------------------------


def keep_digests(tx: Transaction, sizes: Mapping[str, int]) -> None:
    """Let these digests live: new ones, and those that were doomed."""
    rows = [
        {"digest": digest, "size": size, "state": "live", "made_at": tx.now, "unnamed_at": None}
        for digest, size in sorted(sizes.items())
    ]
    statement = _insert(tx, object_digest).on_conflict_do_update(
        index_elements=["digest"], set_={"state": "live", "unnamed_at": None}
    )
    if rows:
        tx.execute(statement, rows)


def lock_living(tx: Transaction, digests: Iterable[str]) -> set[str]:
    """Give those of the digests that live or can be named again; none is deleted meanwhile."""
    living: set[str] = set()
    for some in _slices(sorted(digests)):
        query = (
            sa.select(object_digest.c.digest)
            .where(object_digest.c.digest.in_(some), object_digest.c.state != "deleting")
            .order_by(object_digest.c.digest)
            .with_for_update()
        )
        living.update(row.digest for row in tx.rows(query))
    return living


def sizes_of(tx: Transaction, digests: Iterable[str]) -> dict[str, int]:
    """Give the sizes of those digests that the database knows and does not delete."""
    found: dict[str, int] = {}
    for some in _slices(digests):
        query = sa.select(object_digest.c.digest, object_digest.c.size).where(
            object_digest.c.digest.in_(some), object_digest.c.state != "deleting"
        )
        found.update((row.digest, row.size) for row in tx.rows(query))
    return found


def doom(tx: Transaction, before: datetime) -> int:
    """Doom bytes that no key has named since before a moment; give how many."""
    named = sa.exists().where(object_name.c.digest == object_digest.c.digest)
    old = object_digest.c.unnamed_at < before
    tx.execute(object_digest.update().where(old, named).values(unnamed_at=None))
    doomed = object_digest.update().where(old, ~named, object_digest.c.state == "live")
    return tx.execute(doomed.values(state="doomed")).rowcount


def begin_deleting(tx: Transaction, before: datetime, limit: int) -> int:
    """Choose doomed bytes that no key has named again, with all their copies; give how many."""
    named = sa.exists().where(object_name.c.digest == object_digest.c.digest)
    chosen = sa.select(object_digest.c.digest).where(
        object_digest.c.state == "doomed", object_digest.c.unnamed_at < before, ~named
    )
    digests = [row.digest for row in tx.rows(chosen.limit(limit).with_for_update())]
    for some in _slices(digests):
        of_digest, of_replica = object_digest.c.digest.in_(some), object_replica.c.digest.in_(some)
        tx.execute(object_digest.update().where(of_digest).values(state="deleting"))
        tx.execute(object_replica.update().where(of_replica).values(state="deleting"))
    return len(digests)


def count_unnamed(tx: Transaction) -> int:
    """Count bytes that no key names."""
    query = sa.select(sa.func.count()).where(object_digest.c.unnamed_at.is_not(None))
    return int(tx.scalar(query) or 0)


def forget_deleted(tx: Transaction) -> None:
    """Remove digests that were deleted, once no copy of them is left."""
    held = sa.exists().where(object_replica.c.digest == object_digest.c.digest)
    tx.execute(object_digest.delete().where(object_digest.c.state == "deleting", ~held))


# Copies ----------------------------------------------------------------------------------------


def replicas_of(tx: Transaction, digests: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Give node and state of each copy, by digest."""
    found: dict[str, list[tuple[str, str]]] = {}
    columns = (object_replica.c.digest, object_replica.c.node, object_replica.c.state)
    for some in _slices(digests):
        query = sa.select(*columns).where(object_replica.c.digest.in_(some))
        for row in tx.rows(query.order_by(object_replica.c.node)):
            found.setdefault(row.digest, []).append((row.node, row.state))
    return found


def put_replicas(tx: Transaction, copies: Iterable[tuple[str, str]], state: str) -> None:
    """Note copies by digest and node, in place of what was known of them."""
    rows = [
        {"digest": digest, "node": node, "state": state, "checked_at": tx.now}
        for digest, node in sorted(set(copies))
    ]
    statement = _insert(tx, object_replica).on_conflict_do_update(
        index_elements=["digest", "node"], set_={"state": state, "checked_at": tx.now}
    )
    if rows:
        tx.execute(statement, rows)


def mark_replica(tx: Transaction, digest: str, node: str, state: str, since: str) -> None:
    """Change a copy's state if it is still what it was."""
    tx.execute(
        object_replica.update()
        .where(
            object_replica.c.digest == digest,
            object_replica.c.node == node,
            object_replica.c.state == since,
        )
        .values(state=state, checked_at=tx.now)
    )


def drop_replicas(
    tx: Transaction, node: str, digests: Iterable[str], states: Sequence[str] = ()
) -> None:
    """Forget copies on a node; only those in one of the states, when some are given."""
    for some in _slices(digests):
        statement = object_replica.delete().where(
            object_replica.c.node == node, object_replica.c.digest.in_(some)
        )
        if states:
            statement = statement.where(object_replica.c.state.in_(states))
        tx.execute(statement)


def replicas_on(
    tx: Transaction, node: str, first: str, last: str | None
) -> dict[str, tuple[str, datetime]]:
    """Give state and time of the copies on a node whose digests lie between two, inclusively."""
    columns = (object_replica.c.digest, object_replica.c.state, object_replica.c.checked_at)
    query = sa.select(*columns).where(
        object_replica.c.node == node, object_replica.c.digest > first
    )
    if last is not None:
        query = query.where(object_replica.c.digest <= last)
    return {row.digest: (row.state, row.checked_at) for row in tx.rows(query)}


def replicas_in(
    tx: Transaction, state: str, *, before: datetime | None = None, limit: int
) -> list[tuple[str, str]]:
    """Give digest and node of copies in a state, noted before a moment when one is given."""
    query = sa.select(object_replica.c.digest, object_replica.c.node).where(
        object_replica.c.state == state
    )
    if before is not None:
        query = query.where(object_replica.c.checked_at < before)
    return [(row.digest, row.node) for row in tx.rows(query.limit(limit))]


def _good_on(living: Collection[str], kept: Collection[str]) -> sa.Subquery:
    """Count good copies on living nodes, and of these on nodes that are not being emptied."""
    return (
        sa.select(
            object_replica.c.digest,
            sa.func.count().label("living"),
            sa.func.count(sa.case((object_replica.c.node.in_(kept), 1))).label("kept"),
            sa.func.max(object_replica.c.checked_at).label("newest"),
        )
        .where(object_replica.c.state == "ok", object_replica.c.node.in_(living))
        .group_by(object_replica.c.digest)
        .subquery()
    )


def count_few(tx: Transaction, living: Collection[str], least: int) -> tuple[int, int]:
    """Count digests with fewer good copies on living nodes, and those with none."""
    good = _good_on(living, living)
    copies = sa.func.coalesce(good.c.living, 0)
    query = (
        sa.select(
            sa.func.count().label("few"), sa.func.count(sa.case((copies == 0, 1))).label("none")
        )
        .select_from(object_digest.outerjoin(good, good.c.digest == object_digest.c.digest))
        .where(object_digest.c.state == "live", copies < least)
    )
    row = tx.one(query)
    return (0, 0) if row is None else (int(row.few), int(row.none))


def count_only_on(
    tx: Transaction, node: str, others: Collection[str], enough: int
) -> tuple[int, int]:
    """Count what has a good copy on a node and too few on these others; give their bytes too."""
    good = _good_on(others, others)
    query = (
        sa.select(
            sa.func.count().label("number"),
            sa.func.coalesce(sa.func.sum(object_digest.c.size), 0).label("bytes"),
        )
        .select_from(
            object_digest.join(
                object_replica, object_replica.c.digest == object_digest.c.digest
            ).outerjoin(good, good.c.digest == object_digest.c.digest)
        )
        .where(
            object_digest.c.state == "live",
            object_replica.c.node == node,
            object_replica.c.state == "ok",
            sa.func.coalesce(good.c.living, 0) < enough,
        )
    )
    row = tx.one(query)
    return (0, 0) if row is None else (int(row.number), int(row.bytes))


def list_missing(tx: Transaction, living: Collection[str], limit: int) -> list[str]:
    """Give digests without any good copy on a living node."""
    good = _good_on(living, living)
    query = (
        sa.select(object_digest.c.digest)
        .select_from(object_digest.outerjoin(good, good.c.digest == object_digest.c.digest))
        .where(object_digest.c.state == "live", good.c.digest.is_(None))
        .order_by(object_digest.c.digest)
    )
    return [row.digest for row in tx.rows(query.limit(limit))]


def list_few(
    tx: Transaction, living: Collection[str], kept: Collection[str], least: int, limit: int
) -> dict[str, int]:
    """Give digest and size of what can be copied and has too few good copies that are kept."""
    good = _good_on(living, kept)
    query = (
        sa.select(object_digest.c.digest, object_digest.c.size)
        .join(good, good.c.digest == object_digest.c.digest)
        .where(object_digest.c.state == "live", good.c.kept < least)
        .order_by(good.c.living, good.c.kept, object_digest.c.digest)
    )
    return {row.digest: row.size for row in tx.rows(query.limit(limit))}


def list_many(
    tx: Transaction, living: Collection[str], kept: Collection[str], enough: int,
    before: datetime, limit: int,
) -> list[str]:  # fmt: skip
    """Give digests with enough copies that are kept and more, the newest from before a moment."""
    good = _good_on(living, kept)
    query = sa.select(good.c.digest).where(
        good.c.living > enough, good.c.kept >= enough, good.c.newest < before
    )
    return [row.digest for row in tx.rows(query.limit(limit))]


# Places and facts ------------------------------------------------------------------------------


def list_places(tx: Transaction) -> list[Place]:
    """Give every node's disk, by name."""
    rows = tx.rows(sa.select(object_place).order_by(object_place.c.node))
    return [Place(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.


def put_place(tx: Transaction, place: Place) -> None:
    """Write what is known of a node's disk."""
    values = asdict(place)
    statement = _insert(tx, object_place).values(values)
    tx.execute(statement.on_conflict_do_update(index_elements=["node"], set_=values))


def update_place(tx: Transaction, node: str, **values: Any) -> None:
    """Change some of what is known of a node's disk."""
    tx.execute(object_place.update().where(object_place.c.node == node).values(values))


def drop_place(tx: Transaction, node: str) -> None:
    """Forget a node's disk and the copies on it."""
    tx.execute(object_replica.delete().where(object_replica.c.node == node))
    tx.execute(object_place.delete().where(object_place.c.node == node))


def find_fact(tx: Transaction, name: str) -> str | None:
    """Give what was found out under a name."""
    found = tx.scalar(sa.select(object_fact.c.value).where(object_fact.c.name == name))
    return None if found is None else str(found)


def put_fact(tx: Transaction, name: str, value: str) -> None:
    """Keep what was found out, in place of what was before."""
    values = {"name": name, "value": value[:1000], "at": tx.now}
    statement = _insert(tx, object_fact).values(values)
    tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def drop_fact(tx: Transaction, name: str) -> None:
    """Forget it."""
    tx.execute(object_fact.delete().where(object_fact.c.name == name))


def ago(tx: Transaction, seconds: float) -> datetime:
    """Give the moment so many seconds before now, by the database's clock."""
    return tx.now - timedelta(seconds=seconds)
