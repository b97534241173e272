"""Fill a database and an object store with finished runs and log lines, through the tables alone.

``fill(database, objects, project_id, runs=10_000, lines=1_000_000)`` makes runs that ended over
the last months, the newest with tasks whose logs hold the lines. Used by the benches, and by tests
that want many runs without running any.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from millpond.engine.values import log_key
from millpond.ground.errors import ConflictError
from millpond.ground.ids import first_id
from millpond.pipelines.runs.staging import task_prefix
from millpond.pipelines.runs.tables import run, step_run, task
from millpond.pipelines.runs.values import Try
from millpond.storage.database import Database, Transaction
from millpond.storage.port import ObjectStore

STEPS = ("load", "score", "report")
STATES = ("succeeded", "succeeded", "succeeded", "failed", "succeeded", "cancelled", "succeeded")
_BATCH = 500
_CHUNK_BYTES = 256 << 10
_APART = timedelta(minutes=7)


@dataclass(frozen=True)
class Filled:
    """What was made: ids of the runs, newest first; the first of them has the log lines."""

    run_ids: list[str]
    lines: int


def fill(
    database: Database,
    objects: ObjectStore,
    project_id: str,
    *,
    runs: int = 10_000,
    lines: int = 0,
    tasks: int = 100,
    user: tuple[str, str] = ("user_bench", "bench"),
    until: datetime | None = None,
) -> Filled:
    """Make finished runs of three pipelines; the newest has ``tasks`` tasks with ``lines``."""
    end = until or datetime.now(UTC)
    made = [_run(project_id, number, end - number * _APART, user) for number in range(runs)]
    for start in range(0, runs, _BATCH):
        rows = made[start : start + _BATCH]
        database.change(lambda tx, rows=rows: _write(tx, rows))
    if lines and runs:
        newest = made[0]
        parts = _log(objects, project_id, newest["id"], lines, tasks)
        database.change(lambda tx: _write_tasks(tx, newest, parts))
    return Filled([each["id"] for each in made], lines)


def _run(project_id: str, number: int, at: datetime, user: tuple[str, str]) -> dict[str, Any]:
    noise = hashlib.sha256(f"{project_id}{number}".encode()).hexdigest()
    pipeline = ("birds", "filetypes", "wordcount")[number % 3]
    state = STATES[number % len(STATES)]
    return {
        "id": f"{first_id('run', at)}{noise[:11]}",
        "project_id": project_id,
        "what": f"{pipeline}@{1 + number % 4}",
        "pipeline": pipeline,
        "pipeline_version_id": None,
        "state": state,
        "reason": "Step score: it ended with the code 1." if state == "failed" else "",
        "spec": None,
        "spec_digest": noise,
        "parameters": {"threshold": number % 10 / 10, "title": f"Batch {number}"},
        "inputs": [
            {
                "name": "files",
                "dataset": "photos",
                "number": 1 + number % 5,
                "digest": noise,
                "kind": "files",
                "file_count": 20,
                "size_bytes": 123_456,
                "manifest_key": f"projects/{project_id}/manifests/{noise}",
            }
        ],
        "environment": "",
        "lock_digest": "",
        "code_digest": noise,
        "code_key": f"projects/{project_id}/manifests/{noise}",
        "seed": number,
        "fence": 1,
        "progress": {
            "steps_done": 3,
            "steps_total": 3,
            "items_done": 20,
            "items_total": 20,
            "unit": "files",
            "bytes_done": 123_456,
            "bytes_total": 123_456,
            "seconds_left": None,
        },
        "user_id": user[0],
        "created_at": at,
        "created_by": user[1],
        "started_at": at + timedelta(seconds=1),
        "ended_at": at + timedelta(seconds=30 + number % 90),
        "outputs_key": "",
        "outputs_digest": "",
        "output_files": 0,
        "output_bytes": 0,
        "cpu_seconds": 12.5 + number % 7,
        "isolated": True,
    }


def _write(tx: Transaction, rows: list[dict[str, Any]]) -> None:
    tx.execute(run.insert(), rows)
    tx.execute(step_run.insert(), [step for row in rows for step in _steps(row)])


def _steps(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for place, name in enumerate(STEPS):
        yield {
            "run_id": row["id"],
            "name": name,
            "place": place,
            "kind": "map" if name == "score" else "whole",
            "needs": list(STEPS[place - 1 : place]) if place else [],
            "state": row["state"] if name == "score" else "succeeded",
            "reason": "",
            "cuts": [0, 20],
            "partitions": 1,
            "partitions_done": 1,
            "cpu_seconds": 4.0,
            "memory_peak_bytes": 64 << 20,
            "started_at": row["started_at"],
            "ended_at": row["ended_at"],
        }


def log_lines(first: int, count: int) -> bytes:
    """Write numbered lines of about 80 bytes, as a program would."""
    return b"".join(
        b"2026-05-01 12:00:00,000 INFO line %08d read photo-%06d.jpg, score 0.%04d, kept\n"
        % (number, number % 999_983, number * 7919 % 10_000)
        for number in range(first, first + count)
    )


def _log(objects: ObjectStore, project_id: str, run_id: str, lines: int, tasks: int) -> list[int]:
    sizes, written = [], 0
    for partition in range(tasks):
        count = lines * (partition + 1) // tasks - written
        data = log_lines(written, count)
        written += count
        prefix = task_prefix(project_id, run_id, Try("score", partition, 1))
        chunks = [
            (log_key(prefix, number), data[start : start + _CHUNK_BYTES])
            for number, start in enumerate(range(0, len(data), _CHUNK_BYTES))
        ]
        with suppress(ConflictError):
            objects.put_many(chunks)
        sizes.append(len(data))
    return sizes


def _write_tasks(tx: Transaction, row: dict[str, Any], sizes: list[int]) -> None:
    whole = {"step": "score", "attempt": 1, "state": "done", "outcome": "done", "reason": ""}
    tx.execute(
        task.insert(),
        [
            {
                **whole,
                "run_id": row["id"],
                "partition": partition,
                "number": partition + 1,
                "fork": True,
                "node": "bench",
                "isolated": True,
                "exit_code": 0,
                "cpu_seconds": 0.5,
                "memory_peak_bytes": 64 << 20,
                "wall_seconds": 0.6,
                "log_bytes": size,
                "started_at": row["started_at"],
                "ended_at": row["ended_at"],
                "rows": None,
                "outputs": [],
                "outputs_key": "",
            }
            for partition, size in enumerate(sizes)
        ],
    )
    tx.execute(
        step_run.update()
        .where(step_run.c.run_id == row["id"], step_run.c.name == "score")
        .values(partitions=len(sizes), partitions_done=len(sizes))
    )
