"""All SQL of what tasks have used."""

from datetime import UTC, datetime

import sqlalchemy as sa

from millpond.pipelines.runs.tables import run, step_run, task
from millpond.pipelines.usage.values import DayUse, TaskSpan
from millpond.storage.database import Transaction

_DAY_MICROSECONDS = 86_400_000_000
_DAY_SECONDS = 86_400
_IS_ITS_STEP = (step_run.c.run_id == task.c.run_id) & (step_run.c.name == task.c.step)
_SLOTS = sa.func.coalesce(step_run.c.slots, 1.0).label("slots")
_GPUS = sa.func.coalesce(step_run.c.gpus, 0).label("gpus")


def sum_by_day(
    tx: Transaction, project_id: str | None, since: datetime, until: datetime
) -> list[DayUse]:
    """Sum up what tasks used that ended from ``since`` on and before ``until``."""
    ended = sa.type_coerce(task.c.ended_at, sa.BigInteger)
    keys = [
        (ended // _DAY_MICROSECONDS).label("day"),
        run.c.project_id,
        run.c.created_by,
        run.c.pipeline,
        task.c.node,
        _SLOTS,
        _GPUS,
    ]
    sums = {
        "tasks": sa.func.count(),
        "cpu_seconds": sa.func.sum(task.c.cpu_seconds),
        "wall_seconds": sa.func.sum(task.c.wall_seconds),
        "memory": sa.func.sum(task.c.memory_peak_bytes * task.c.wall_seconds),
    }
    query = (
        sa.select(*keys, *(each.label(name) for name, each in sums.items()))
        .join(run, run.c.id == task.c.run_id)
        .outerjoin(step_run, _IS_ITS_STEP)
        .where(task.c.ended_at >= since, task.c.ended_at < until)
        .group_by(*keys)
        .order_by("day")
    )
    if project_id is not None:
        query = query.where(run.c.project_id == project_id)
    return [
        DayUse(
            day=datetime.fromtimestamp(int(row.day) * _DAY_SECONDS, UTC).date(),
            project_id=row.project_id,
            user=row.created_by,
            pipeline=row.pipeline,
            node=row.node,
            tasks=row.tasks,
            cpu_seconds=float(row.cpu_seconds),
            wall_seconds=float(row.wall_seconds),
            memory_byte_seconds=float(row.memory),
            slots=float(row.slots),
            gpus=int(row.gpus),
        )
        for row in tx.rows(query)
    ]


def list_spans(tx: Transaction, run_id: str) -> list[TaskSpan]:
    """Give when and where each task of a run ran, in the order in which they began."""
    names = (
        "step", "node", "state", "started_at", "ended_at", "cpu_seconds", "memory_peak_bytes",
        "wall_seconds",
    )  # fmt: skip
    query = (
        sa.select(*(task.c[name] for name in names), _SLOTS, _GPUS)
        .outerjoin(step_run, _IS_ITS_STEP)
        .where(task.c.run_id == run_id, task.c.started_at.is_not(None))
    )
    rows = tx.rows(query.order_by(task.c.number))
    return [TaskSpan(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.
