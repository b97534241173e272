"""What can be done with jobs: put, look, requeue, cancel."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import PAGE_LIMIT, Page, decode_cursor, make_page
from millpond.jobs import store
from millpond.jobs.bell import ring
from millpond.jobs.outcomes import end
from millpond.jobs.port import Ending
from millpond.jobs.rules import check_job
from millpond.jobs.values import Job, JobCounts, JobState
from millpond.people.actions import require
from millpond.storage.database import Transaction


def put(
    tx: Transaction,
    kind: str,
    facts: dict[str, Any],
    *,
    key: str | None = None,
    priority: int = 0,
    project_id: str | None = None,
    run_at: datetime | None = None,
    max_tries: int = 3,
) -> str:
    """Put a job into the queue; it exists when this transaction commits, and not before.

    Args:
        tx: the transaction of the change that asks for the work.
        kind: which handler does it.
        facts: what the handler has to know, a JSON object of at most 64 KiB; never a secret.
        key: two jobs of one kind never have the same key: a second put gives the first's id.
        priority: higher goes first.
        project_id: the project it is done for, if any.
        run_at: not before this moment; None for now.
        max_tries: dead after this many. A server that is killed costs a try, so give long work
            more of them.

    Returns:
        The id of the job.

    Raises:
        InvalidError: a field is wrong; lists every one.
    """
    check_job(kind, facts, key, priority, max_tries)
    ring(tx)
    now = tx.now
    return store.add(
        tx,
        {
            "id": new_id("job"),
            "kind": kind,
            "state": "waiting",
            "facts": facts,
            "project_id": project_id,
            "key": key,
            "rank": -priority,
            "tries": 0,
            "max_tries": max_tries,
            "run_at": run_at or now,
            "put_at": now,
            "reason": "",
            "fence": 0,
            "holder": "",
            "beats": 0,
            "lease_seconds": 0.0,
        },
    )


def get_job(tx: Transaction, actor: Actor, job_id: str) -> Job:
    """Give a job.

    Raises:
        NotFoundError: there is none with this id.
    """
    require(tx, actor, "job.read")
    return _found(job_id, store.find(tx, job_id))


def list_jobs(
    tx: Transaction,
    actor: Actor,
    *,
    state: JobState | None = None,
    kind: str | None = None,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
) -> Page[Job]:
    """List jobs, newest first."""
    require(tx, actor, "job.read")
    found = store.list_newest(tx, state, kind, decode_cursor(cursor, str), limit + 1)
    return make_page(found, limit, lambda job: (job.id,))


def count_jobs(tx: Transaction) -> JobCounts:
    """Count jobs by state, for the system page and for metrics."""
    return store.count(tx)


def longest_wait(tx: Transaction) -> float:
    """Give for how many seconds a job has been due that nobody takes; 0 when there is none."""
    since = store.oldest_due(tx)
    return 0.0 if since is None else max(0.0, (tx.now - since).total_seconds())


def requeue(tx: Transaction, actor: Actor, job_id: str) -> Job:
    """Let a dead or cancelled job wait again, with all its tries ahead of it.

    Raises:
        NotFoundError: there is none with this id.
        ConflictError: it has not ended, or was done.
    """
    require(tx, actor, "job.write")
    before = _found(job_id, store.find(tx, job_id, lock=True))
    if before.state not in ("dead", "cancelled"):
        raise ConflictError(
            f"Job {job_id} is {before.state}; only a dead or cancelled one can be requeued.",
            next_step="List the dead ones with GET /api/v1/jobs?state=dead.",
            job=job_id,
            state=before.state,
        )
    values = {"state": "waiting", "tries": 0, "reason": "", "run_at": tx.now, "ended_at": None}
    store.change(tx, job_id, values)
    ring(tx)
    note(tx, actor, "job.requeued", f"job/{job_id}", before=_told(before), after=values["state"])
    return get_job(tx, actor, job_id)


def cancel(
    tx: Transaction, actor: Actor, job_id: str, *, endings: Mapping[str, Ending] | None = None
) -> Job:
    """Cancel a job that has not ended; a handler that is at it loses its lease at once.

    Args:
        tx: the transaction.
        actor: who asks.
        job_id: the job.
        endings: by kind, what to do in the same transaction; the same that the pool has.

    Raises:
        NotFoundError: there is none with this id.
        ConflictError: it has ended already.
    """
    require(tx, actor, "job.write")
    before = _found(job_id, store.find(tx, job_id, lock=True))
    if before.state not in ("waiting", "running"):
        raise ConflictError(
            f"Job {job_id} is {before.state} already.",
            next_step="Nothing is left to cancel.",
            job=job_id,
            state=before.state,
        )
    reason = f"Cancelled by {actor.name}."
    values = {"state": "cancelled", "ended_at": tx.now, "reason": reason, "lease_until": None}
    store.change(tx, job_id, values)
    end(tx, job_id, endings or {})
    note(tx, actor, "job.cancelled", f"job/{job_id}", before=_told(before), after=values["state"])
    return get_job(tx, actor, job_id)


def forget_old(tx: Transaction, *, days: float = 30) -> int:
    """Delete jobs that were done or cancelled so long ago, with their keys; give how many.

    Dead ones stay until a person has looked.
    """
    return store.forget_ended(tx, tx.now - timedelta(days=days))


def _found(job_id: str, job: Job | None) -> Job:
    if job is None:
        raise NotFoundError(
            f"There is no job {job_id!r}.",
            next_step="List them with GET /api/v1/jobs; done ones are forgotten after a while.",
            job=job_id,
        )
    return job


def _told(job: Job) -> dict[str, Any]:
    return {"kind": job.kind, "state": job.state, "tries": job.tries, "reason": job.reason}
