"""All SQL of runs, their steps and tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from millpond.ground.ids import first_id
from millpond.lake.values import decode_path, encode_path
from millpond.pipelines.runs.tables import run, step_run, task
from millpond.pipelines.runs.values import KeptStep, KeptTask, RunFilter, TaskOutputs
from millpond.pipelines.values import (
    Progress,
    Run,
    RunInput,
    StepRun,
    StoredObject,
    Task,
)
from millpond.storage.database import Transaction

_RUN_LEFT_OUT = ("spec", "code_key", "fence", "user_id", "pipeline")
_RUN_COLUMNS = tuple(column for column in run.c if column.name not in _RUN_LEFT_OUT)
_STEP_LEFT_OUT = ("run_id", "place", "cuts", "slots", "gpus")
_STEP_COLUMNS = tuple(column for column in step_run.c if column.name not in _STEP_LEFT_OUT)
_TASK_LEFT_OUT = ("run_id", "outcome", "fork", "rows", "outputs", "outputs_key", "number")
_TASK_COLUMNS = tuple(column for column in task.c if column.name not in _TASK_LEFT_OUT)
_CLOCKS_APART = timedelta(days=1)

_MOVE_STEP = (
    step_run.update()
    .where(
        step_run.c.run_id == sa.bindparam("b_run_id"),
        step_run.c.name == sa.bindparam("b_name"),
    )
    .values(
        {
            column: sa.bindparam(column.name)
            for column in step_run.c
            if column.name not in ("run_id", "name", "place", "kind", "needs", "slots", "gpus")
        }
    )
)


def add_run(tx: Transaction, values: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    """Write a run with its steps."""
    tx.execute(run.insert().values(**values))
    tx.execute(step_run.insert(), steps)


def find_run(tx: Transaction, project_id: str, run_id: str) -> Run | None:
    """Give a run of a project."""
    row = tx.one(sa.select(*_RUN_COLUMNS).where(run.c.id == run_id, run.c.project_id == project_id))
    return None if row is None else _to_run(row)


def find_own(tx: Transaction, run_id: str) -> tuple[Run, dict[str, Any]] | None:
    """Give a run with what only its driver needs: spec, code_key, user_id."""
    row = tx.one(sa.select(run).where(run.c.id == run_id))
    if row is None:
        return None
    return _to_run(row), {name: getattr(row, name) for name in _RUN_LEFT_OUT}


def list_runs(
    tx: Transaction, project_id: str, wanted: RunFilter, *, before: str | None, limit: int
) -> list[Run]:
    """List a project's runs, newest first."""
    query = list_query(project_id, wanted, before=before, limit=limit)
    return [_to_run(row) for row in tx.rows(query)]


def list_query(
    project_id: str, wanted: RunFilter, *, before: str | None, limit: int
) -> sa.Select[Any]:
    """Write the statement of ``list_runs``."""
    c = run.c
    query = sa.select(*_RUN_COLUMNS).where(c.project_id == project_id, *_asked(wanted))
    if before is not None:
        query = query.where(c.id < before)
    return query.order_by(c.id.desc()).limit(limit)


def _asked(wanted: RunFilter) -> Iterator[sa.ColumnElement[bool]]:
    c = run.c
    if len(wanted.states) == 1:  # An index gives these in order; of several it would not.
        yield c.state == wanted.states[0]
    elif wanted.states:
        yield c.state.in_(wanted.states)
    name, at, _ = wanted.pipeline.partition("@")
    if name:
        yield c.pipeline == name
    if at:
        yield c.what == wanted.pipeline
    if wanted.by:
        yield c.created_by == wanted.by
    # Ids are made in the order of time: they lead to the place, and the time itself decides.
    if wanted.since is not None:
        yield c.id > first_id("run", wanted.since - _CLOCKS_APART)
        yield c.created_at >= wanted.since
    if wanted.until is not None:
        yield c.id < first_id("run", wanted.until + _CLOCKS_APART)
        yield c.created_at < wanted.until
    if wanted.text:
        yield sa.or_(
            *(
                sa.func.lower(column).contains(wanted.text.lower(), autoescape=True)
                for column in (c.what, c.id, c.created_by)
            )
        )


def read_state(tx: Transaction, run_id: str) -> str | None:
    """Give a run's state."""
    state: str | None = tx.scalar(sa.select(run.c.state).where(run.c.id == run_id))
    return state


def move_run(tx: Transaction, run_id: str, before: tuple[str, ...], values: dict[str, Any]) -> bool:
    """Change a run that is in one of these states; say whether it was."""
    changed = tx.execute(
        run.update().where(run.c.id == run_id, run.c.state.in_(before)).values(**values)
    )
    return changed.rowcount == 1


def take_fence(tx: Transaction, run_id: str) -> int:
    """Give the next driver's number; whoever holds an older one writes no more."""
    raised = run.update().where(run.c.id == run_id).values(fence=run.c.fence + 1)
    return int(tx.execute(raised.returning(run.c.fence)).scalar_one())


def touch_run(tx: Transaction, run_id: str, fence: int, values: dict[str, Any]) -> str | None:
    """Change what a driver keeps of its run; give the run's state, None when the fence is old."""
    row = tx.execute(_touching(tuple(values)), {"b_id": run_id, "b_fence": fence, **values}).first()
    return None if row is None else str(row.state)


@cache
def _touching(names: tuple[str, ...]) -> sa.Executable:
    """Make the statement once: the driver uses it in every one of its transactions."""
    changed = run.update().where(
        run.c.id == sa.bindparam("b_id"), run.c.fence == sa.bindparam("b_fence")
    )
    given = {name: sa.bindparam(name, type_=run.c[name].type) for name in names}
    return changed.values({run.c[name]: each for name, each in given.items()}).returning(
        run.c.state
    )


def move_steps(tx: Transaction, rows: list[dict[str, Any]]) -> None:
    """Write steps as they are now; ``b_run_id`` and ``b_name`` name them."""
    tx.execute(_MOVE_STEP, rows)


def end_steps(tx: Transaction, run_id: str, state: str) -> None:
    """End every step of a run that has not ended."""
    tx.execute(
        step_run.update()
        .where(step_run.c.run_id == run_id, step_run.c.state.in_(("waiting", "running")))
        .values(state=state, ended_at=tx.now)
    )


def list_steps(tx: Transaction, run_id: str) -> list[StepRun]:
    """List a run's steps in the order of the pipeline."""
    query = sa.select(*_STEP_COLUMNS).where(step_run.c.run_id == run_id).order_by(step_run.c.place)
    steps = []
    for row in tx.rows(query):
        facts = dict(row._mapping)  # noqa: SLF001 - its public name.
        steps.append(StepRun(**{**facts, "needs": tuple(facts["needs"])}))
    return steps


def list_kept_steps(tx: Transaction, run_id: str) -> list[KeptStep]:
    """List a run's steps as its driver keeps them."""
    c = step_run.c
    query = sa.select(c.name, c.state, c.reason, c.cuts, c.started_at, c.ended_at)
    rows = tx.rows(query.where(c.run_id == run_id).order_by(c.place))
    return [KeptStep(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.


def list_tasks(
    tx: Transaction,
    run_id: str,
    *,
    after: tuple[int, int, int] | None = None,
    limit: int | None = None,
    step: str | None = None,
    state: str | None = None,
) -> list[tuple[int, Task]]:
    """List tasks by the place of their step, partition and attempt, each with that place."""
    c = task.c
    query = (
        sa.select(step_run.c.place.label("mark"), *_TASK_COLUMNS)
        .join(step_run, (step_run.c.run_id == c.run_id) & (step_run.c.name == c.step))
        .where(c.run_id == run_id)
        .order_by(step_run.c.place, c.partition, c.attempt)
    )
    if after is not None:
        place = sa.tuple_(step_run.c.place, c.partition, c.attempt)
        query = query.where(place > sa.tuple_(*(sa.literal(part) for part in after)))
    if step is not None:
        query = query.where(c.step == step)
    if state is not None:
        query = query.where(c.state == state)
    return _to_tasks(tx.rows(query if limit is None else query.limit(limit)))


def list_begun(
    tx: Transaction,
    run_id: str,
    *,
    step: str | None,
    partition: int | None,
    first: int = 0,
    last: int | None = None,
    limit: int,
    newest_first: bool = False,
) -> list[tuple[int, Task]]:
    """List tasks in the order they began, from one number to another, each with its number."""
    c = task.c
    query = sa.select(c.number.label("mark"), *_TASK_COLUMNS).where(
        c.run_id == run_id, c.number >= first
    )
    if last is not None:
        query = query.where(c.number <= last)
    if step is not None:
        query = query.where(c.step == step)
    if partition is not None:
        query = query.where(c.partition == partition)
    order = c.number.desc() if newest_first else c.number
    return _to_tasks(tx.rows(query.order_by(order).limit(limit)))


def count_tasks(tx: Transaction, run_id: str) -> dict[str, dict[str, int]]:
    """Count tasks by step and state."""
    c = task.c
    counted = sa.func.count(c.number).label("tasks")
    query = sa.select(c.step, c.state, counted).where(c.run_id == run_id)
    counts: dict[str, dict[str, int]] = {}
    for row in tx.rows(query.group_by(c.step, c.state)):
        counts.setdefault(row.step, {})[row.state] = row.tasks
    return counts


def first_running(
    tx: Transaction, run_id: str, step: str | None, partition: int | None
) -> int | None:
    """Give the number of the task that has run longest and still does."""
    c = task.c
    query = sa.select(sa.func.min(c.number)).where(c.run_id == run_id, c.state == "running")
    if step is not None:
        query = query.where(c.step == step)
    if partition is not None:
        query = query.where(c.partition == partition)
    number: int | None = tx.scalar(query)
    return number


def _to_tasks(rows: Sequence[sa.Row[Any]]) -> list[tuple[int, Task]]:
    found = []
    for row in rows:
        facts = dict(row._mapping)  # noqa: SLF001 - its public name.
        found.append((facts.pop("mark"), Task(**facts)))
    return found


def list_kept_tasks(tx: Transaction, run_id: str) -> list[KeptTask]:
    """List a run's tasks as its driver keeps them, oldest tries first."""
    c = task.c
    query = sa.select(task).where(c.run_id == run_id).order_by(c.step, c.partition, c.attempt)
    return [_to_kept(row) for row in tx.rows(query)]


def pack_outputs(objects: tuple[StoredObject, ...]) -> list[list[Any]]:
    """Write a task's files as JSON; paths keep their bytes."""
    return [
        [
            *encode_path(each.path.encode("utf-8", "surrogateescape")),
            each.key,
            each.size,
            each.digest,
        ]
        for each in objects
    ]


def unpack_outputs(rows: list[list[Any]]) -> tuple[StoredObject, ...]:
    """Read back what ``pack_outputs`` gave."""
    return tuple(
        StoredObject(decode_path(path, raw).decode("utf-8", "surrogateescape"), key, size, digest)
        for path, raw, key, size, digest in rows
    )


def _to_kept(row: sa.Row[Any]) -> KeptTask:
    outputs = None
    if row.state == "done" and not row.outputs_key:
        outputs = TaskOutputs(unpack_outputs(row.outputs or []), row.rows or {})
    elif row.state == "done":
        outputs = TaskOutputs((), row.rows or {})
    return KeptTask(
        step=row.step,
        partition=row.partition,
        attempt=row.attempt,
        state=row.state,
        outcome=row.outcome,
        fork=row.fork,
        cpu_seconds=row.cpu_seconds,
        memory_peak_bytes=row.memory_peak_bytes,
        outputs=outputs,
        outputs_key=row.outputs_key,
        node=row.node,
    )


def _to_run(row: sa.Row[Any]) -> Run:
    facts = {
        key: value
        for key, value in row._mapping.items()  # noqa: SLF001 - its public name.
        if key not in _RUN_LEFT_OUT
    }
    facts["inputs"] = tuple(RunInput(**each) for each in facts["inputs"])
    facts["progress"] = Progress(**facts["progress"])
    return Run(**facts)


def input_json(inputs: tuple[RunInput, ...]) -> list[dict[str, Any]]:
    """Give pinned inputs as a run keeps them."""
    return [asdict(each) for each in inputs]
