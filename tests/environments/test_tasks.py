import threading
import time

import pytest
import sqlalchemy as sa

from millpond.audit.tables import audit_entry
from millpond.environments import actions, store
from millpond.environments.logs import log_prefix, read_log
from millpond.environments.tasks import give_up, make_build
from millpond.ground.actor import Actor
from millpond.ground.errors import BusyError, ConflictError
from millpond.jobs import store as job_store
from millpond.jobs.lease import HeldLease
from millpond.jobs.port import LeaseLostError
from millpond.storage import events

ANA = Actor("user_ana", "ana")
P = "prj_pond"


def ask(database, requirements, name="small", **rest):
    return database.change(lambda tx: actions.add_version(tx, ANA, P, name, requirements, **rest))


def show(database, address="small"):
    return database.read(lambda tx: actions.get_version(tx, P, address))


def claim(database):
    (job,) = database.change(
        lambda tx: job_store.claim(
            tx, [actions.BUILD_KIND], 1, holder="h", lease_seconds=30, limits={}
        )
    )
    return HeldLease(job, lease_seconds=30, monotonic=time.monotonic, stopping=threading.Event())


def wait_again(database, job_id):
    database.change(lambda tx: job_store.change(tx, job_id, {"state": "waiting"}))


def job_state(database, job_id):
    return database.read(lambda tx: job_store.find(tx, job_id)).state


def verbs(database):
    query = sa.select(audit_entry.c.verb).order_by(audit_entry.c.number)
    return [row.verb for row in database.read(lambda tx: tx.rows(query))]


def test_a_version_is_locked_then_built_with_a_log_events_and_entries(people, objects, builder):
    version = ask(people, "six==1.17.0\n")
    assert (version.state, version.number) == ("locking", 1)
    with pytest.raises(ConflictError, match="no lock"):
        people.read(lambda tx: actions.lock_text(tx, P, "small@1"))
    lease = claim(people)
    make_build(people, objects, builder)(lease)
    ready = show(people)
    assert (ready.state, ready.reason) == ("ready", "")
    assert [(one.name, one.version) for one in ready.packages] == [("six", "1.17.0")]
    assert ready.ready_at is not None
    assert job_state(people, lease.job.id) == "done"
    lock = people.read(lambda tx: actions.lock_text(tx, P, "small@1"))
    assert builder.find(lock) is not None
    log = read_log(objects, log_prefix(P, version.id), 0, has_ended=True)
    assert log.text.splitlines()[-1] == "Ready"
    assert log.is_complete
    assert read_log(objects, log_prefix(P, version.id), log.next, has_ended=True).text == ""
    told = people.read(lambda tx: events.after(tx, 0, project_id=P, topic="environment/small"))
    assert [one.facts["state"] for one in told] == ["locking", "building", "ready"]
    assert verbs(people) == [
        "environment.version.added",
        "environment.version.locked",
        "environment.version.ready",
    ]


def test_the_same_text_gives_the_same_version_unless_it_failed_or_is_upgraded(people):
    first = ask(people, "six")
    assert ask(people, "six").unchanged
    assert ask(people, "six\n").number == 2
    assert ask(people, "six\n", upgrade=True).number == 3
    people.change(
        lambda tx: store.move_state(
            tx, show(people).id, ("locking",), {"state": "failed", "reason": "x"}
        )
    )
    assert ask(people, "six\n").number == 4
    assert show(people, "small@1").id == first.id


def test_what_cannot_be_had_fails_in_words_and_is_no_dead_job(people, objects, builder):
    ask(people, "numpyy-no-such-thing==1\n")
    lease = claim(people)
    make_build(people, objects, builder)(lease)
    failed = show(people)
    assert failed.state == "failed"
    assert "numpyy-no-such-thing" in failed.reason
    assert job_state(people, lease.job.id) == "done"


def test_a_stale_worker_writes_nothing(people, objects, builder):
    ask(people, "")
    lease = claim(people)
    people.change(lambda tx: job_store.change(tx, lease.job.id, {"fence": lease.fence + 1}))
    with pytest.raises(LeaseLostError):
        make_build(people, objects, builder)(lease)
    assert show(people).state == "locking"


def test_an_index_that_is_away_is_tried_again_and_then_told(people, objects, make_builder):
    builder = make_builder(UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    ask(people, "millpond-never-seen")
    build = make_build(people, objects, builder)
    for _ in range(2):
        lease = claim(people)
        with pytest.raises(BusyError):
            build(lease)
        assert show(people).state == "locking"
        wait_again(people, lease.job.id)
    build(claim(people))
    assert show(people).state == "failed"
    assert "can't be reached" in show(people).reason


def test_a_server_that_died_after_locking_goes_on_with_that_lock(people, objects, builder):
    version = ask(people, "millpond-never-seen")
    lock = builder.lock("", print)
    values = {"state": "building", "lock": lock, "lock_digest": "d", "python_version": "3.11"}
    people.change(lambda tx: store.move_state(tx, version.id, ("locking",), values))
    make_build(people, objects, builder)(claim(people))
    assert show(people).state == "ready"


def test_a_job_that_is_given_up_fails_its_version(people):
    ask(people, "six")
    job = claim(people).job
    people.change(lambda tx: give_up(tx, job))
    assert show(people).state == "failed"
    assert "given up after 1 tries" in show(people).reason
