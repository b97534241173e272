from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa

from millpond.audit.tables import audit_entry
from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, InvalidError, NotAllowedError, NotFoundError
from millpond.jobs import actions, schedules, store
from millpond.jobs.requests import ScheduleRequest
from millpond.jobs.tables import job, schedule

ADMIN = Actor("user_root", "root", is_admin=True)
ANA = Actor("user_ana", "ana")
HOURLY = ScheduleRequest(kind="sweep", cron="0 * * * *")


def put(database, kind="count", **options):
    return database.change(lambda tx: actions.put(tx, kind, options.pop("facts", {}), **options))


def claim(database, most=1, kinds=("count",), holder="a", limits=None):
    return database.change(
        lambda tx: store.claim(
            tx, kinds, most, holder=holder, lease_seconds=30, limits=limits or {}
        )
    )


def get(database, job_id):
    return database.read(lambda tx: actions.get_job(tx, ADMIN, job_id))


def verbs(database):
    return list(
        database.read(lambda tx: tx.connection.scalars(sa.select(audit_entry.c.verb)).all())
    )


def test_job_of_a_rolled_back_transaction_does_not_exist(database):
    def put_and_break(tx):
        actions.put(tx, "count", {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.change(put_and_break)
    assert database.read(actions.count_jobs).waiting == 0


def test_second_put_with_the_same_key_gives_the_first_job(database):
    first = put(database, key="7", facts={"n": 1})
    assert put(database, key="7", facts={"n": 2}) == first
    assert put(database, "other", key="7") != first
    assert put(database) != put(database)
    assert get(database, first).facts == {"n": 1}


def test_bad_job_is_refused_and_nothing_is_kept(database):
    with pytest.raises(InvalidError):
        put(database, max_tries=0)
    assert database.read(actions.count_jobs).waiting == 0


def test_claim_goes_by_priority_then_age_and_raises_the_fence(database):
    low, high, low2 = put(database), put(database, priority=5), put(database)
    assert [taken.id for taken in claim(database, 2)] == [high, low]
    (last,) = claim(database, 2)
    assert (last.id, last.fence, last.tries, last.state) == (low2, 1, 1, "running")
    assert claim(database) == []


def test_job_waits_for_its_hour_and_for_a_holder_of_its_kind(database):
    later = database.read(lambda tx: tx.now) + timedelta(hours=1)
    put(database, run_at=later)
    put(database, "other")
    assert claim(database) == []
    assert database.read(lambda tx: store.next_due(tx, ["count"])) == later


def test_limit_of_a_kind_counts_all_servers(database):
    for _ in range(3):
        put(database)
        put(database, "other", priority=-1)
    kinds, limits = ("count", "other"), {"count": 2}
    assert [j.kind for j in claim(database, 1, kinds, "a", limits)] == ["count"]
    taken = claim(database, 4, kinds, "b", limits)
    assert sorted(j.kind for j in taken) == ["count", "other", "other", "other"]
    assert claim(database, 4, kinds, "c", limits) == []


def test_dead_letter_can_be_seen_and_requeued(database):
    job_id = put(database)
    with pytest.raises(ConflictError):
        database.change(lambda tx: actions.requeue(tx, ADMIN, job_id))
    database.change(
        lambda tx: store.change(tx, job_id, {"state": "dead", "reason": "no", "tries": 3})
    )
    page = database.read(lambda tx: actions.list_jobs(tx, ADMIN, state="dead"))
    assert [(found.id, found.reason) for found in page.items] == [(job_id, "no")]
    again = database.change(lambda tx: actions.requeue(tx, ADMIN, job_id))
    assert (again.state, again.tries, again.reason) == ("waiting", 0, "")
    assert verbs(database) == ["job.requeued"]


def test_cancelled_job_fences_its_holder_off_and_tells_its_room(database):
    job_id = put(database)
    (held,) = claim(database)
    told = []
    endings = {"count": lambda tx, ended: told.append((ended.state, ended.reason))}
    database.change(lambda tx: actions.cancel(tx, ADMIN, job_id, endings=endings))
    assert told == [("cancelled", "Cancelled by root.")]
    assert not database.change(lambda tx: store.lock_held(tx, job_id, held.fence))
    with pytest.raises(ConflictError):
        database.change(lambda tx: actions.cancel(tx, ADMIN, job_id))
    assert verbs(database) == ["job.cancelled"]


def test_only_an_administrator_sees_or_moves_jobs(database):
    job_id = put(database)
    for action in (actions.get_job, actions.requeue, actions.cancel):
        with pytest.raises(NotAllowedError):
            database.change(lambda tx, action=action: action(tx, ANA, job_id))
    for action in (actions.list_jobs, schedules.list_schedules):
        with pytest.raises(NotAllowedError):
            database.read(lambda tx, action=action: action(tx, ANA))
    with pytest.raises(NotAllowedError):
        database.change(lambda tx: schedules.set_schedule(tx, ANA, "s", HOURLY))
    with pytest.raises(NotFoundError):
        get(database, "job_none")


def test_pages_of_jobs_follow_on_each_other(database):
    ids = {put(database) for _ in range(5)}
    found, cursor = [], None
    while True:
        page = database.read(
            lambda tx, cursor=cursor: actions.list_jobs(tx, ADMIN, cursor=cursor, limit=2)
        )
        found += [one.id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(ids, reverse=True) == found


def test_old_ended_jobs_are_forgotten_and_dead_ones_kept(database):
    states = {state: put(database) for state in ("done", "cancelled", "dead", "waiting")}
    old = database.read(lambda tx: tx.now) - timedelta(days=31)
    with database.transaction() as tx:
        for state, job_id in states.items():
            store.change(tx, job_id, {"state": state, "ended_at": old})
    assert database.change(actions.forget_old) == 2
    assert {
        one.id for one in database.read(lambda tx: store.list_newest(tx, None, None, None, 9))
    } == {
        states["dead"],
        states["waiting"],
    }


def shift(database, name, **delta):
    with database.transaction() as tx:
        moved = tx.now - timedelta(**delta)
        tx.execute(schedule.update().where(schedule.c.name == name).values(next_at=moved))


def test_schedule_that_missed_many_ticks_puts_one_job(database):
    database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "hourly", HOURLY))
    assert database.change(schedules.put_due) == []
    shift(database, "hourly", days=10)
    (job_id,) = database.change(schedules.put_due)
    assert database.change(schedules.put_due) == []
    made = get(database, job_id)
    now = database.read(lambda tx: tx.now)
    kept = database.read(lambda tx: schedules.get_schedule(tx, ADMIN, "hourly"))
    assert made.facts == {"tick_at": kept.last_at.isoformat()}
    assert kept.last_at <= now < kept.next_at == kept.last_at + timedelta(hours=1)


def test_tick_gives_no_second_job_when_the_clock_was_set_back(database):
    database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "hourly", HOURLY))
    shift(database, "hourly", hours=2)
    assert len(database.change(schedules.put_due)) == 1
    shift(database, "hourly", hours=2)
    assert database.change(schedules.put_due) == []
    shift(database, "hourly", hours=2)
    with database.transaction() as tx:
        tx.execute(schedule.update().values(last_at=None))
    database.change(schedules.put_due)
    assert database.read(actions.count_jobs).waiting == 1


def test_disabled_schedule_rests_until_it_is_enabled(database):
    off = HOURLY.model_copy(update={"is_enabled": False})
    database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "hourly", HOURLY))
    assert (
        database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "hourly", off)).next_at is None
    )
    assert database.change(schedules.put_due) == []
    on = database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "hourly", HOURLY))
    assert on.next_at.tzinfo == UTC
    database.change(lambda tx: schedules.remove_schedule(tx, ADMIN, "hourly"))
    with pytest.raises(NotFoundError):
        database.change(lambda tx: schedules.remove_schedule(tx, ADMIN, "hourly"))
    assert verbs(database) == ["schedule.set"] * 3 + ["schedule.removed"]


def test_own_schedule_keeps_what_a_person_has_set(database):
    def ensure(tx):
        schedules.ensure_schedule(tx, "seal", "audit.seal", "0 3 * * *")

    database.change(ensure)
    mine = ScheduleRequest(kind="audit.seal", cron="0 4 * * *", time_zone="Europe/Berlin")
    database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "seal", mine))
    database.change(ensure)
    (kept,) = database.read(lambda tx: schedules.list_schedules(tx, ADMIN)).items
    assert (kept.cron, kept.time_zone) == ("0 4 * * *", "Europe/Berlin")


def test_schedule_of_an_unknown_kind_is_refused(database):
    with pytest.raises(InvalidError, match="sweep"):
        database.change(
            lambda tx: schedules.set_schedule(tx, ADMIN, "s", HOURLY, kinds=["audit.seal"])
        )


def test_beat_renews_what_is_still_held_in_one_statement(database):
    put(database)
    put(database)
    first, second = claim(database, 2)
    ids = [first.id, second.id]
    database.change(lambda tx: actions.cancel(tx, ADMIN, second.id))
    alive = database.change(lambda tx: store.beat(tx, ids, holder="a", lease_seconds=30))
    assert alive == {(first.id, 1)}
    assert not database.change(lambda tx: store.beat(tx, ids, holder="b", lease_seconds=30))
    assert (
        database.read(lambda tx: tx.scalar(sa.select(job.c.beats).where(job.c.id == first.id))) == 1
    )
