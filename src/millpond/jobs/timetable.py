"""All SQL of schedules."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.jobs.tables import schedule
from millpond.jobs.values import Schedule
from millpond.storage.database import Transaction


def find(tx: Transaction, name: str, *, lock: bool = False) -> Schedule | None:
    """Give a schedule by its name; ``lock`` keeps it as it is until the end."""
    query = sa.select(schedule).where(schedule.c.name == name)
    row = tx.one(query.with_for_update() if lock else query)
    return None if row is None else _to_schedule(row)


def list_all(tx: Transaction, after: str, limit: int) -> list[Schedule]:
    """Give schedules by name."""
    query = sa.select(schedule).where(schedule.c.name > after).order_by(schedule.c.name)
    return [_to_schedule(row) for row in tx.rows(query.limit(limit))]


def add(tx: Transaction, values: dict[str, Any]) -> bool:
    """Write a schedule unless there is one of this name; tell whether it was written."""
    return tx.insert_new(schedule, values, schedule.c.id) is not None


def change(tx: Transaction, schedule_id: str, values: dict[str, Any]) -> None:
    """Change a schedule."""
    tx.execute(schedule.update().where(schedule.c.id == schedule_id).values(**values))


def remove(tx: Transaction, schedule_id: str) -> None:
    """Delete a schedule."""
    tx.execute(schedule.delete().where(schedule.c.id == schedule_id))


def next_tick(tx: Transaction) -> datetime | None:
    """Give the moment of the first tick that is to come."""
    query = sa.select(schedule.c.next_at).where(schedule.c.next_at.is_not(None))
    found: datetime | None = tx.scalar(query.order_by(schedule.c.next_at).limit(1))
    return found


def lock_due(tx: Transaction) -> list[Schedule]:
    """Lock the schedules whose tick has come, but for those that another server works on."""
    query = sa.select(schedule).where(schedule.c.next_at <= tx.now).order_by(schedule.c.name)
    return [_to_schedule(row) for row in tx.rows(query.with_for_update(skip_locked=True))]


def _to_schedule(row: sa.Row[Any]) -> Schedule:
    return Schedule(**row._mapping)  # noqa: SLF001 - its public name.
