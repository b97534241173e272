"""What becomes of a job that was claimed; each function is one fenced transaction's work."""

from collections.abc import Mapping
from datetime import timedelta

from millpond.jobs import store
from millpond.jobs.port import Ending
from millpond.jobs.rules import retry_seconds
from millpond.jobs.values import Job, SeenLease
from millpond.storage.database import Transaction

REASON_LENGTH = 2000


def mark_done(tx: Transaction, job: Job) -> bool:
    """Mark a held job done; False when the lease has passed on."""
    values = {"state": "done", "ended_at": tx.now, "reason": "", "lease_until": None}
    return store.settle(tx, job.id, job.fence, values)


def give_back(tx: Transaction, job: Job) -> bool:
    """Let a held job wait again at once, as if this try had never begun."""
    values = {"state": "waiting", "run_at": tx.now, "tries": job.tries - 1, "lease_until": None}
    return store.settle(tx, job.id, job.fence, values)


def try_later(
    tx: Transaction,
    job: Job,
    reason: str,
    endings: Mapping[str, Ending],
    *,
    share: float,
    least_seconds: float = 0.0,
) -> bool:
    """Let a held job wait for its next try; without any left it dies.

    Args:
        tx: the transaction.
        job: the job as it was claimed.
        reason: what went wrong.
        endings: by kind, what to do when it dies.
        share: drawn from [0, 1), the jitter.
        least_seconds: what the fault itself asks to wait.
    """
    if job.tries >= job.max_tries:
        return give_up(tx, job, f"{reason} (try {job.tries} of {job.max_tries})", endings)
    pause = max(least_seconds, retry_seconds(job.tries, share))
    values = {
        "state": "waiting",
        "run_at": tx.now + timedelta(seconds=pause),
        "reason": reason[:REASON_LENGTH],
        "lease_until": None,
    }
    return store.settle(tx, job.id, job.fence, values)


def give_up(tx: Transaction, job: Job, reason: str, endings: Mapping[str, Ending]) -> bool:
    """Make a held job a dead letter; its room ends what hangs on it in the same transaction."""
    reason = reason[:REASON_LENGTH]
    values = {"state": "dead", "ended_at": tx.now, "reason": reason, "lease_until": None}
    if not store.settle(tx, job.id, job.fence, values):
        return False
    end(tx, job.id, endings)
    return True


def take_over(tx: Transaction, lease: SeenLease, endings: Mapping[str, Ending]) -> bool:
    """Take a job from a silent holder; False when that has given a sign of life after all."""
    job = store.lock_silent(tx, lease)
    if job is None:
        return False
    reason = f"Its server {job.holder} fell silent for {lease.lease_seconds:g} s."
    if job.tries >= job.max_tries:
        return give_up(tx, job, f"{reason} (try {job.tries} of {job.max_tries})", endings)
    values = {"state": "waiting", "run_at": tx.now, "reason": reason, "lease_until": None}
    return store.settle(tx, job.id, job.fence, values)


def end(tx: Transaction, job_id: str, endings: Mapping[str, Ending]) -> None:
    """Let the room do what it does when a job is given up or cancelled."""
    ended = store.find(tx, job_id)
    if ended is not None and ended.kind in endings:
        endings[ended.kind](tx, ended)
