"""What can be done with jobs: put, look, requeue, cancel; and with their schedules."""

from datetime import datetime
from typing import Any

from millpond.ground.ids import new_id
from millpond.jobs import store
from millpond.jobs.bell import ring
from millpond.jobs.rules import check_job
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
