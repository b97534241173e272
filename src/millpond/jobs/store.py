"""All SQL of jobs; that of schedules is in ``timetable.py``."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from millpond.jobs.tables import job
from millpond.jobs.values import Job, JobCounts, SeenLease
from millpond.storage.database import Transaction

_LIMITS_LOCK = 7_301_006  # An advisory lock of PostgreSQL: one claim at a time counts by kind.
_HIDDEN = ("rank", "beats", "lease_seconds", "lease_until")
_COLUMNS = (*(column for column in job.c if column.name not in _HIDDEN), job.c.rank)


def add(tx: Transaction, values: dict[str, Any]) -> str:
    """Write a job unless its kind has one with this key; give the id of the one that is there."""
    added = tx.insert_new(job, values, job.c.id)
    if added is not None:
        return str(added.id)
    found = sa.select(job.c.id).where(job.c.kind == values["kind"], job.c.key == values["key"])
    return str(tx.scalar(found))


def find(tx: Transaction, job_id: str, *, lock: bool = False) -> Job | None:
    """Give a job; ``lock`` keeps it as it is until the end of the transaction."""
    query = sa.select(*_COLUMNS).where(job.c.id == job_id)
    row = tx.one(query.with_for_update() if lock else query)
    return None if row is None else _to_job(row)


def list_newest(
    tx: Transaction,
    state: str | None,
    kind: str | None,
    before: tuple[str | int, ...] | None,
    limit: int,
) -> list[Job]:
    """Give jobs, newest id first."""
    query = sa.select(*_COLUMNS).order_by(job.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(job.c.state == state)
    if kind is not None:
        query = query.where(job.c.kind == kind)
    if before is not None:
        query = query.where(job.c.id < before[0])
    return [_to_job(row) for row in tx.rows(query)]


def count(tx: Transaction) -> JobCounts:
    """Count jobs by state."""
    rows = tx.rows(sa.select(job.c.state, sa.func.count().label("number")).group_by(job.c.state))
    return JobCounts(**{row.state: row.number for row in rows})


def next_due(tx: Transaction, kinds: Collection[str]) -> datetime | None:
    """Give the moment at which the first waiting job of these kinds may run."""
    query = sa.select(job.c.run_at).where(job.c.state == "waiting", job.c.kind.in_(kinds))
    found: datetime | None = tx.scalar(query.order_by(job.c.run_at).limit(1))
    return found


def oldest_due(tx: Transaction) -> datetime | None:
    """Give the moment since which a waiting job could have begun, of the one that waits longest."""
    waiting = sa.select(sa.func.min(job.c.run_at)).where(
        job.c.state == "waiting", job.c.run_at <= tx.now
    )
    found: datetime | None = tx.scalar(waiting)
    return found


# Claiming and leases --------------------------------------------------------------------------


def claim(
    tx: Transaction,
    kinds: Collection[str],
    most: int,
    *,
    holder: str,
    lease_seconds: float,
    limits: Mapping[str, int],
) -> list[Job]:
    """Take jobs that are due, highest priority first, then oldest; at most so many.

    Args:
        tx: a transaction that does nothing else, to be short.
        kinds: those that the holder can do.
        most: how many.
        holder: who takes them.
        lease_seconds: how long the holder may stay silent.
        limits: by kind, how many may run at a time on all servers together.
    """
    if limits and not tx.is_sqlite:
        tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LIMITS_LOCK})"))
    room = _room(tx, limits)
    claimed: list[Job] = []
    while len(claimed) < most:
        open_kinds = [kind for kind in kinds if room.get(kind, 1) > 0]
        chosen = []
        for row in tx.rows(_due(open_kinds, tx.now, most - len(claimed))):
            if room.get(row.kind, 1) > 0:
                chosen.append(row.id)
                if row.kind in room:
                    room[row.kind] -= 1
        if not chosen:
            break
        claimed += _begin(tx, chosen, holder, lease_seconds)
    return claimed


def _room(tx: Transaction, limits: Mapping[str, int]) -> dict[str, int]:
    if not limits:
        return {}
    running = sa.select(job.c.kind, sa.func.count().label("number")).where(job.c.state == "running")
    rows = tx.rows(running.where(job.c.kind.in_(list(limits))).group_by(job.c.kind))
    counted = {row.kind: row.number for row in rows}
    return {kind: limit - counted.get(kind, 0) for kind, limit in limits.items()}


def _due(kinds: list[str], now: datetime, most: int) -> sa.Select[Any]:
    query = sa.select(job.c.id, job.c.kind).where(
        job.c.state == "waiting", job.c.run_at <= now, job.c.kind.in_(kinds)
    )
    query = query.order_by(job.c.rank, job.c.put_at, job.c.id).limit(most)
    return query.with_for_update(skip_locked=True)  # SQLite: left out, it has one writer.


def _begin(tx: Transaction, ids: list[str], holder: str, lease_seconds: float) -> list[Job]:
    begun = tx.execute(
        job.update()
        .where(job.c.id.in_(ids), job.c.state == "waiting")
        .values(
            state="running",
            fence=job.c.fence + 1,
            tries=job.c.tries + 1,
            holder=holder,
            beats=0,
            lease_seconds=lease_seconds,
            lease_until=tx.now + timedelta(seconds=lease_seconds),
            started_at=tx.now,
        )
        .returning(*_COLUMNS)
    ).all()
    return sorted((_to_job(row) for row in begun), key=lambda taken: ids.index(taken.id))


def beat(
    tx: Transaction, ids: Collection[str], *, holder: str, lease_seconds: float
) -> set[tuple[str, int]]:
    """Renew these leases of a holder in one statement; give those that there still are."""
    rows = tx.execute(
        job.update()
        .where(job.c.id.in_(ids), job.c.state == "running", job.c.holder == holder)
        .values(beats=job.c.beats + 1, lease_until=tx.now + timedelta(seconds=lease_seconds))
        .returning(job.c.id, job.c.fence)
    )
    return {(row.id, row.fence) for row in rows}


def list_leases(tx: Transaction) -> list[SeenLease]:
    """Look at every lease that there is."""
    query = sa.select(
        job.c.id.label("job_id"),
        job.c.fence,
        job.c.beats,
        job.c.lease_seconds,
        job.c.lease_until.label("until"),
    ).where(job.c.state == "running")
    return [SeenLease(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def lock_silent(tx: Transaction, lease: SeenLease) -> Job | None:
    """Lock the job of this lease, if its holder has not given a sign of life since."""
    query = sa.select(*_COLUMNS).where(
        job.c.id == lease.job_id,
        job.c.state == "running",
        job.c.fence == lease.fence,
        job.c.beats == lease.beats,
    )
    row = tx.one(query.with_for_update())
    return None if row is None else _to_job(row)


# Made once: a run's driver asks this in every one of its transactions.
_LOCK_HELD = (
    sa.select(job.c.id)
    .where(
        job.c.id == sa.bindparam("b_id"),
        job.c.fence == sa.bindparam("b_fence"),
        job.c.state == "running",
    )
    .with_for_update(key_share=True)
)


def lock_held(tx: Transaction, job_id: str, fence: int) -> bool:
    """Keep a lease as it is until the end of the transaction; False when it is no longer held."""
    return tx.execute(_LOCK_HELD, {"b_id": job_id, "b_fence": fence}).first() is not None


def settle(tx: Transaction, job_id: str, fence: int, values: dict[str, Any]) -> bool:
    """Change a job that is still held under this fence; False when it is not."""
    return tx.execute(job.update().where(_held(job_id, fence)).values(**values)).rowcount == 1


def change(tx: Transaction, job_id: str, values: dict[str, Any]) -> None:
    """Change a job that this transaction has locked."""
    tx.execute(job.update().where(job.c.id == job_id).values(**values))


def forget_ended(tx: Transaction, before: datetime) -> int:
    """Delete jobs that were done or cancelled before this moment; give how many."""
    ended = job.c.state.in_(("done", "cancelled")) & (job.c.ended_at < before)
    return tx.execute(job.delete().where(ended)).rowcount


def _held(job_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(job.c.id == job_id, job.c.fence == fence, job.c.state == "running")


def _to_job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)  # noqa: SLF001 - its public name.
    return Job(priority=-values.pop("rank"), **values)
