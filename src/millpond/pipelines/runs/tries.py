"""All SQL of tries, as their driver writes them: begun, on a node, begun anew, ended."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from millpond.pipelines.runs.store import pack_outputs
from millpond.pipelines.runs.tables import run, task
from millpond.pipelines.runs.values import Ended, Try
from millpond.storage.database import Transaction

_KEY_PARTS = 4
_AT_ONCE = 500
_THIS_TRY = (
    task.c.run_id == sa.bindparam("b_run_id"),
    task.c.step == sa.bindparam("b_step"),
    task.c.partition == sa.bindparam("b_partition"),
    task.c.attempt == sa.bindparam("b_attempt"),
    task.c.state == "running",
)
_END_TASK = (
    task.update()
    .where(*_THIS_TRY)
    .values(
        {
            column: sa.bindparam(column.name)
            for column in task.c
            if column.name not in ("run_id", "step", "partition", "attempt", "fork", "number")
        }
    )
)
_PLACE_TASK = task.update().where(*_THIS_TRY).values(node=sa.bindparam("b_node"))
_BEGIN_ANEW = (
    task.update()
    .where(*_THIS_TRY)
    .values(
        attempt=sa.bindparam("b_next"),
        fork=sa.bindparam("b_fork"),
        node="",
        started_at=sa.bindparam("b_now", type_=task.c.started_at.type),
    )
)


def start_tasks(tx: Transaction, run_id: str, tries: list[Try], begun: int) -> None:
    """Write tasks that are about to be handed over; ``begun`` tasks were before them."""
    now = tx.now
    empty = {
        "state": "running",
        "outcome": "",
        "reason": "",
        "node": "",
        "isolated": True,
        "exit_code": None,
        "cpu_seconds": 0.0,
        "memory_peak_bytes": 0,
        "wall_seconds": 0.0,
        "log_bytes": -1,
        "started_at": now,
        "ended_at": None,
        "rows": None,
        "outputs": None,
        "outputs_key": "",
    }
    rows = [
        {
            **empty,
            "run_id": run_id,
            "step": each.step,
            "partition": each.partition,
            "attempt": each.attempt,
            "fork": each.fork,
            "number": number,
        }
        for number, each in enumerate(tries, start=begun + 1)
    ]
    tx.execute(task.insert(), rows)


def end_tasks(tx: Transaction, run_id: str, ended: Collection[Ended]) -> None:
    """Write how tasks ended."""
    tx.execute(_END_TASK, [_task_row(run_id, each) for each in ended])


def end_running(tx: Transaction, run_id: str, state: str, reason: str) -> None:
    """End every task of a run that still counts as running."""
    tx.execute(
        task.update()
        .where(task.c.run_id == run_id, task.c.state == "running")
        .values(state=state, outcome="lost", reason=reason, ended_at=tx.now)
    )


def place_tasks(tx: Transaction, run_id: str, nodes: Mapping[Try, str]) -> None:
    """Write on which node tasks are that run."""
    tx.execute(_PLACE_TASK, [{**_named(run_id, each), "b_node": nodes[each]} for each in nodes])


def begin_anew(tx: Transaction, run_id: str, moved: Collection[tuple[Try, Try]]) -> None:
    """Let tries that nobody began be the next tries of their partitions."""
    rows = [
        {
            **_named(run_id, old),
            "b_next": new.attempt,
            "b_fork": new.fork,
            "b_now": tx.now,
        }
        for old, new in moved
    ]
    tx.execute(_BEGIN_ANEW, rows)


def find_over(tx: Transaction, keys: Collection[str]) -> set[str]:
    """Give those keys of tasks whose try is over, or was begun anew under another number.

    What is no try of a run that we know is not among them.
    """
    runs = {
        key: parts[0] for key in keys if len(parts := key.rsplit("/", 3)) == _KEY_PARTS and parts[0]
    }
    known: set[str] = set()
    running: set[str] = set()
    ids = sorted(set(runs.values()))
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        known |= {row.id for row in tx.rows(sa.select(run.c.id).where(run.c.id.in_(some)))}
        c = task.c
        query = sa.select(c.run_id, c.step, c.partition, c.attempt)
        for row in tx.rows(query.where(c.run_id.in_(some), c.state == "running")):
            running.add(f"{row.run_id}/{row.step}/{row.partition}/{row.attempt}")
    return {key for key, run_id in runs.items() if run_id in known} - running


def _named(run_id: str, tried: Try) -> dict[str, Any]:
    return {
        "b_run_id": run_id,
        "b_step": tried.step,
        "b_partition": tried.partition,
        "b_attempt": tried.attempt,
    }


def _task_row(run_id: str, ended: Ended) -> dict[str, Any]:
    tried, report, outputs = ended.tried, ended.report, ended.outputs
    packed = None
    if outputs is not None and not ended.outputs_key:
        packed = pack_outputs(outputs.objects)
    return {
        **_named(run_id, tried),
        "state": ended.state,
        "outcome": report.outcome,
        "reason": report.reason[:4000].replace("\0", "\ufffd"),  # PostgreSQL keeps no NUL.
        "node": report.node,
        # What never ran, or of which nobody told how, has not run outside of a sandbox.
        "isolated": report.isolated or not report.node or report.outcome == "lost",
        "exit_code": report.exit_code,
        "cpu_seconds": report.cpu_seconds,
        "memory_peak_bytes": report.memory_peak_bytes,
        "wall_seconds": report.wall_seconds,
        "log_bytes": report.log_bytes,
        "started_at": report.started_at,
        "ended_at": datetime.now(UTC),
        "rows": dict(outputs.rows) if outputs is not None else None,
        "outputs": packed,
        "outputs_key": ended.outputs_key,
    }
