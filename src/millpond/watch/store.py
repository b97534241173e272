"""All SQL of meters."""

import json
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from millpond.storage.database import Transaction
from millpond.watch.rules import Figures, write_figures
from millpond.watch.tables import meters
from millpond.watch.values import Level


def add(tx: Transaction, node: str, seconds: int, at: datetime, figures: Figures) -> None:
    """Write a row, unless there is one of that time."""
    values = {"node": node, "resolution": seconds, "at": at, "figures": write_figures(figures)}
    tx.insert_new(meters, values, meters.c.node)


def newest_at(tx: Transaction, level: Level) -> Mapping[str, datetime]:
    """Give by node when its newest row of a level begins."""
    query = sa.select(meters.c.node, sa.func.max(meters.c.at).label("newest"))
    query = query.where(meters.c.resolution == level.seconds).group_by(meters.c.node)
    return {row.node: row.newest for row in tx.rows(query)}


def newest(
    tx: Transaction, level: Level, node: str | None = None
) -> list[tuple[str, datetime, Figures]]:
    """Give the newest row of a level of each node."""
    last = sa.select(meters.c.node, sa.func.max(meters.c.at).label("at"))
    last = last.where(meters.c.resolution == level.seconds).group_by(meters.c.node)
    if node is not None:
        last = last.where(meters.c.node == node)
    found = last.subquery()
    query = sa.select(meters.c.node, meters.c.at, meters.c.figures).join(
        found, (meters.c.node == found.c.node) & (meters.c.at == found.c.at)
    )
    rows = tx.rows(query.where(meters.c.resolution == level.seconds))
    return [(row.node, row.at, json.loads(row.figures)) for row in rows]


def read(
    tx: Transaction, level: Level, since: datetime, until: datetime, node: str | None = None
) -> list[tuple[str, datetime, Figures]]:
    """Give rows of a level that begin in this time, by node, oldest first."""
    query = sa.select(meters.c.node, meters.c.at, meters.c.figures).where(
        meters.c.resolution == level.seconds, meters.c.at >= since, meters.c.at < until
    )
    if node is not None:
        query = query.where(meters.c.node == node)
    rows = tx.rows(query.order_by(meters.c.node, meters.c.at))
    return [(row.node, row.at, json.loads(row.figures)) for row in rows]


def forget(tx: Transaction, level: Level, before: datetime) -> int:
    """Delete rows of a level that began before this moment; give how many."""
    old = (meters.c.resolution == level.seconds) & (meters.c.at < before)
    return tx.execute(meters.delete().where(old)).rowcount


def size(tx: Transaction) -> tuple[int, int]:
    """Give how many rows there are, and how many letters their figures have."""
    letters = sa.func.coalesce(sa.func.sum(sa.func.length(meters.c.figures)), 0)
    row = tx.rows(sa.select(sa.func.count().label("rows"), letters.label("letters")))[0]
    return int(row.rows), int(row.letters)
