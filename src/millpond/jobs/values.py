"""What jobs are made of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

JobState = Literal["waiting", "running", "done", "dead", "cancelled"]
JOB_STATES: tuple[JobState, ...] = ("waiting", "running", "done", "dead", "cancelled")

FACTS_BYTES = 64 * 1024
"""A job's facts are at most this long as canonical JSON."""


@dataclass(frozen=True)
class Job:
    """Something that is to be done once, by whichever server gets to it first.

    Attributes:
        id: starts with ``job_``.
        kind: which handler does it, for example ``pipelines.run``.
        state: ``waiting`` (also between two tries), ``running``, ``done``, ``dead`` (given up,
            for a person to look at) or ``cancelled``.
        facts: what the handler has to know, small JSON.
        project_id: the project it is done for, if any.
        key: the idempotency key within its kind, if any.
        priority: higher goes first; equal ones go by age.
        tries: how often it was begun; a try that a stopping server gave back does not count.
        max_tries: dead after this many.
        run_at: not before this moment.
        put_at: when it was put.
        started_at: when the newest try began.
        ended_at: when it was done, died or was cancelled.
        reason: what became of the newest try, in words for people; empty when all is well.
        fence: rises each time it is claimed; a write under an older number loses.
        holder: the server that does it or last did it.
    """

    id: str
    kind: str
    state: JobState
    facts: dict[str, Any]
    project_id: str | None
    key: str | None
    priority: int
    tries: int
    max_tries: int
    run_at: datetime
    put_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: str
    fence: int
    holder: str


@dataclass(frozen=True)
class SeenLease:
    """Another server's lease, as one look at the table showed it.

    Attributes:
        job_id: the job.
        fence: the number it was claimed under.
        beats: how many heartbeats its holder has given.
        lease_seconds: how long its holder may stay silent.
        until: to when the holder last renewed it, by the database's clock.
    """

    job_id: str
    fence: int
    beats: int
    lease_seconds: float
    until: datetime


@dataclass(frozen=True)
class JobCounts:
    """How many jobs there are in each state; for the system page and for metrics."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0


@dataclass(frozen=True)
class Schedule:
    """A job that is put again and again, by the clock.

    Attributes:
        name: unique on the site, for example ``audit.seal``.
        kind: the kind of job it puts.
        facts: the job's facts; ``tick_at`` is added to them.
        cron: five fields as Debian's cron reads them, or six with seconds first.
        time_zone: where the fields are read, for example ``Europe/Berlin``.
        is_enabled: whether it puts jobs now.
        project_id: the project its jobs are done for, if any.
        priority: of its jobs.
        max_tries: of its jobs.
        next_at: the next tick; None while it is disabled.
        last_at: the newest tick for which a job was put.
    """

    id: str
    name: str
    kind: str
    facts: dict[str, Any]
    cron: str
    time_zone: str
    is_enabled: bool
    project_id: str | None
    priority: int
    max_tries: int
    next_at: datetime | None
    last_at: datetime | None
