"""What can be done with schedules: set, look, switch, remove; and their ticks."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.jobs import timetable
from millpond.jobs.actions import put
from millpond.jobs.requests import ScheduleRequest
from millpond.jobs.rules import check_schedule, newest_tick, next_tick
from millpond.jobs.values import Schedule
from millpond.people.actions import require
from millpond.storage.database import Transaction


def ensure_schedule(
    tx: Transaction,
    name: str,
    kind: str,
    cron: str,
    *,
    facts: dict[str, Any] | None = None,
    time_zone: str = "UTC",
    max_tries: int = 3,
) -> None:
    """Make sure at start that a schedule of Millpond's own is there; one that is stays as it is."""
    check_schedule(name, kind, facts or {}, cron, time_zone, 0, max_tries)
    timetable.add(
        tx,
        {
            "id": new_id("sched"),
            "name": name,
            "kind": kind,
            "facts": facts or {},
            "cron": cron,
            "time_zone": time_zone,
            "is_enabled": True,
            "project_id": None,
            "priority": 0,
            "max_tries": max_tries,
            "next_at": next_tick(cron, time_zone, tx.now),
        },
    )


def set_schedule(
    tx: Transaction,
    actor: Actor,
    name: str,
    request: ScheduleRequest,
    *,
    kinds: Collection[str] | None = None,
) -> Schedule:
    """Make a schedule or change it; its next tick is the first one after now.

    Args:
        tx: the transaction.
        actor: who asks.
        name: of the schedule, unique on the site.
        request: what it shall be from now on.
        kinds: the kinds of job that there are, to refuse others; None allows any.

    Raises:
        InvalidError: a field is wrong; lists every one.
    """
    require(tx, actor, "job.write")
    values: dict[str, Any] = request.model_dump(exclude={"is_enabled"})
    check_schedule(name, **{key: value for key, value in values.items() if key != "project_id"})
    if kinds is not None and request.kind not in kinds:
        raise InvalidError(
            f"There are no jobs of kind {request.kind!r}.",
            next_step=f"Use one of {', '.join(sorted(kinds))}.",
            faults=[Fault("kind", f"{request.kind!r} is not one of {sorted(kinds)}")],
        )
    values["is_enabled"] = request.is_enabled
    values["next_at"] = (
        next_tick(request.cron, request.time_zone, tx.now) if request.is_enabled else None
    )
    before = timetable.find(tx, name, lock=True)
    if before is None:
        is_new = timetable.add(tx, {"id": new_id("sched"), "name": name, **values})
        before = None if is_new else timetable.find(tx, name, lock=True)
    if before is not None:
        timetable.change(tx, before.id, values)
    schedule = get_schedule(tx, actor, name)
    note(
        tx,
        actor,
        "schedule.set",
        f"schedule/{name}",
        before=None if before is None else _told(before),
        after=_told(schedule),
    )
    return schedule


def get_schedule(tx: Transaction, actor: Actor, name: str) -> Schedule:
    """Give a schedule.

    Raises:
        NotFoundError: there is none of this name.
    """
    require(tx, actor, "job.read")
    return _found(name, timetable.find(tx, name))


def kept_of(tx: Transaction, actor: Actor, name: str) -> dict[str, Any]:
    """Give of a schedule, if there is one, what a form that does not ask for it leaves as it is."""
    require(tx, actor, "job.read")
    found = timetable.find(tx, name)
    fields = ("facts", "is_enabled", "project_id", "priority", "max_tries")
    return {} if found is None else {field: getattr(found, field) for field in fields}


def list_schedules(
    tx: Transaction, actor: Actor, *, cursor: str | None = None, limit: int = 50
) -> Page[Schedule]:
    """List schedules by name."""
    require(tx, actor, "job.read")
    key = decode_cursor(cursor, str)
    found = timetable.list_all(tx, str(key[0]) if key else "", limit + 1)
    return make_page(found, limit, lambda schedule: (schedule.name,))


def remove_schedule(tx: Transaction, actor: Actor, name: str) -> None:
    """Delete a schedule; jobs that it has put stay.

    Raises:
        NotFoundError: there is none of this name.
    """
    require(tx, actor, "job.write")
    schedule = _found(name, timetable.find(tx, name, lock=True))
    timetable.remove(tx, schedule.id)
    note(tx, actor, "schedule.removed", f"schedule/{name}", before=_told(schedule))


def put_due(tx: Transaction) -> list[str]:
    """Put the jobs of every schedule whose tick has come; give the jobs' ids.

    A tick gives one job, also with several servers and when the clock is set back: the job's
    key is the schedule and the tick. Ticks that were missed, since no server ran, are caught up
    by one job, for the newest of them.
    """
    ids = []
    for schedule in timetable.lock_due(tx):
        tick = newest_tick(schedule.cron, schedule.time_zone, tx.now)
        if tick is not None and (schedule.last_at is None or tick > schedule.last_at):
            ids.append(
                put(
                    tx,
                    schedule.kind,
                    {**schedule.facts, "tick_at": tick.isoformat()},
                    key=f"{schedule.id}@{tick.isoformat()}",
                    priority=schedule.priority,
                    project_id=schedule.project_id,
                    max_tries=schedule.max_tries,
                )
            )
        values = {
            "next_at": next_tick(schedule.cron, schedule.time_zone, tx.now),
            "last_at": tick or schedule.last_at,
        }
        timetable.change(tx, schedule.id, values)
    return ids


def _found(name: str, schedule: Schedule | None) -> Schedule:
    if schedule is None:
        raise NotFoundError(
            f"There is no schedule {name!r}.",
            next_step="List them with GET /api/v1/schedules.",
            schedule=name,
        )
    return schedule


def _told(schedule: Schedule) -> dict[str, Any]:
    kept = ("next_at", "last_at")
    return {key: value for key, value in asdict(schedule).items() if key not in kept}
