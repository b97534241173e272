"""All SQL of the store on the nodes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
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
_START = datetime(1970, 1, 1, tzinfo=UTC)


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
        # Of two who remove the last two names at once, one has to see what the other did.
        lock_living(tx, [gone.digest])
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


def sizes_of(
    tx: Transaction, digests: Iterable[str], states: Sequence[str] = ("live", "doomed")
) -> dict[str, int]:
    """Give the sizes of those digests that the database knows and does not delete."""
    found: dict[str, int] = {}
    for some in _slices(digests):
        query = sa.select(object_digest.c.digest, object_digest.c.size).where(
            object_digest.c.digest.in_(some), object_digest.c.state.in_(states)
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


def _unnamed(state: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Find by an index what is in a state that only bytes without a name can be in."""
    return object_digest.c.unnamed_at > _START, object_digest.c.state == state


def forget_deleted(tx: Transaction) -> None:
    """Remove digests that were deleted, once no copy of them is left."""
    held = sa.exists().where(object_replica.c.digest == object_digest.c.digest)
    tx.execute(object_digest.delete().where(*_unnamed("deleting"), ~held))


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
    tx: Transaction, state: str, *, node: str = "", before: datetime | None = None, limit: int
) -> list[tuple[str, str]]:
    """Give digest and node of copies in a state, of one node or noted before a moment."""
    query = sa.select(object_replica.c.digest, object_replica.c.node).where(
        object_replica.c.state == state
    )
    if node:
        query = query.where(object_replica.c.node == node)
    if before is not None:
        query = query.where(object_replica.c.checked_at < before)
    return [(row.digest, row.node) for row in tx.rows(query.limit(limit))]


def _on(nodes: Collection[str]) -> sa.ColumnElement[int]:
    return sa.func.count(sa.case((object_replica.c.node.in_(nodes), 1)))


def _held(nodes: Collection[str]) -> sa.Select[tuple[str]]:
    """Give each digest that has a good copy on one of these nodes.

    Everything that is asked of it besides lies in one index: a million digests take a second.
    """
    return (
        sa.select(object_replica.c.digest)
        .where(object_replica.c.state == "ok", object_replica.c.node.in_(nodes))
        .group_by(object_replica.c.digest)
    )


def count_few(tx: Transaction, living: Collection[str], least: int) -> tuple[int, int]:
    """Count digests with fewer good copies on living nodes, and those with none."""
    is_over = (object_digest.c.unnamed_at > _START, object_digest.c.state != "live")
    over = sa.select(object_digest.c.digest).where(*is_over)
    held = (
        _held(living)
        .add_columns(sa.func.count().label("copies"))
        .where(object_replica.c.digest.not_in(over))
        .subquery()
    )
    enough = sa.func.count(sa.case((held.c.copies >= least, 1)))
    row = tx.one(sa.select(sa.func.count().label("some"), enough.label("enough")).select_from(held))
    everything = sa.select(sa.func.count()).select_from(object_digest)
    live = int(tx.scalar(everything) or 0) - int(tx.scalar(everything.where(*is_over)) or 0)
    return (live, live) if row is None else (live - int(row.enough), live - int(row.some))


def count_only_on(
    tx: Transaction, node: str, others: Collection[str], enough: int
) -> tuple[int, int]:
    """Count what has a good copy on a node and too few on these others; give their bytes too."""
    held = _held({node, *others}).having(_on([node]) > 0, _on(others) < enough).subquery()
    query = (
        sa.select(
            sa.func.count().label("number"),
            sa.func.coalesce(sa.func.sum(object_digest.c.size), 0).label("bytes"),
        )
        .select_from(object_digest.join(held, held.c.digest == object_digest.c.digest))
        .where(object_digest.c.state == "live")
    )
    row = tx.one(query)
    return (0, 0) if row is None else (int(row.number), int(row.bytes))


def list_missing(tx: Transaction, living: Collection[str], limit: int) -> list[str]:
    """Give digests without any good copy on a living node."""
    good = sa.exists().where(
        object_replica.c.digest == object_digest.c.digest,
        object_replica.c.state == "ok",
        object_replica.c.node.in_(living),
    )
    query = sa.select(object_digest.c.digest).where(object_digest.c.state == "live", ~good)
    return [row.digest for row in tx.rows(query.order_by(object_digest.c.digest).limit(limit))]


def list_few(
    tx: Transaction, living: Collection[str], kept: Collection[str], least: int,
    after: str, limit: int,
) -> list[str]:  # fmt: skip
    """Give the next digests, in order, that can be copied and have too few copies on these."""
    query = _held(living).where(object_replica.c.digest > after).having(_on(kept) < least)
    return [row.digest for row in tx.rows(query.order_by(object_replica.c.digest).limit(limit))]


def list_many(
    tx: Transaction, living: Collection[str], kept: Collection[str], enough: int,
    before: datetime, limit: int,
) -> list[str]:  # fmt: skip
    """Give digests with enough copies that are kept and more, the newest from before a moment."""
    many = _held(living).having(sa.func.count() > enough, _on(kept) >= enough).subquery()
    other = object_replica.alias()
    is_new = sa.exists().where(
        other.c.digest == many.c.digest,
        other.c.state == "ok",
        other.c.node.in_(living),
        other.c.checked_at >= before,
    )
    return [row.digest for row in tx.rows(sa.select(many.c.digest).where(~is_new).limit(limit))]


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
