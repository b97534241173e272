import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from millpond.ground.actor import Actor
from millpond.ground.errors import BusyError, ConflictError
from millpond.jobs import actions, schedules, store
from millpond.jobs.pool import Pool
from millpond.jobs.port import LeaseLostError, StoppingError
from millpond.jobs.requests import ScheduleRequest

ADMIN = Actor("user_root", "root", is_admin=True)
WAIT = 20  # Seconds; only a test that fails waits so long.


class Monotonic:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def pools(database):
    made = []

    def make(handlers, **options):
        pool = Pool(database, handlers, **options)
        made.append(pool)
        return pool

    yield make
    for pool in made:
        if pool._claimer.is_alive():
            pool.stop(1)


def put(database, kind="count", **options):
    return database.change(lambda tx: actions.put(tx, kind, {}, **options))


def get(database, job_id):
    return database.read(lambda tx: actions.get_job(tx, ADMIN, job_id))


def finish(pool):
    """Let every handler of a pool that was driven by hand come to its end."""
    with pool._idle:
        assert pool._idle.wait_for(lambda: not pool._held, WAIT)


def attempt(database, pools, handler, endings=None, **options):
    pool = pools({"count": handler}, endings=endings)
    job_id = put(database, **options)
    assert pool.claim_due() == 1
    finish(pool)
    return get(database, job_id)


def raising(fault):
    def handler(lease):
        raise fault

    return handler


def test_job_is_done_with_its_facts(database, pools):
    ran = []
    done = attempt(database, pools, lambda lease: ran.append(lease.job.id))
    assert (done.state, done.tries, done.reason) == ("done", 1, "")
    assert ran == [done.id]
    assert done.ended_at >= done.started_at


def test_fault_is_tried_later_and_the_last_try_makes_a_dead_letter(database, pools):
    told = []
    endings = {"count": lambda tx, job: told.append((job.id, job.state))}
    failed = attempt(database, pools, raising(ValueError("odd")), endings, max_tries=2)
    assert (failed.state, failed.reason) == ("waiting", "ValueError: odd")
    assert failed.run_at > failed.started_at
    assert told == []
    with database.transaction() as tx:
        store.change(tx, failed.id, {"run_at": tx.now})
    pool = pools({"count": raising(ValueError("odd"))}, endings=endings)
    assert pool.claim_due() == 1
    finish(pool)
    dead = get(database, failed.id)
    assert (dead.state, dead.reason) == ("dead", "ValueError: odd (try 2 of 2)")
    assert told == [(dead.id, "dead")]


def test_fault_of_the_callers_is_a_dead_letter_at_once(database, pools):
    fault = ConflictError("It is archived.", next_step="Bring it back.")
    dead = attempt(database, pools, raising(fault))
    assert (dead.state, dead.tries) == ("dead", 1)
    assert dead.reason == "It is archived. Bring it back."


def test_fault_that_says_later_is_tried_later(database, pools):
    fault = BusyError("Full.", next_step="Wait.", retry_after_seconds=60)
    failed = attempt(database, pools, raising(fault))
    assert (failed.state, failed.reason) == ("waiting", "Full.")
    assert failed.run_at - failed.started_at >= timedelta(seconds=60)


def test_job_that_is_given_back_does_not_count_the_try(database, pools):
    back = attempt(database, pools, raising(StoppingError()))
    assert (back.state, back.tries, back.fence) == ("waiting", 0, 1)


def test_put_wakes_the_pool_at_once(database, pools):
    ran = threading.Event()
    pool = pools({"count": lambda lease: ran.set()}, poll_seconds=3600)
    pool.start()
    put(database)
    assert ran.wait(WAIT)


def test_many_jobs_run_each_once(database, pools):
    ran, lock, all_done = [], threading.Lock(), threading.Event()

    def handler(lease):
        with lock:
            ran.append(lease.job.id)
            if len(ran) == 40:
                all_done.set()

    with database.transaction() as tx:
        ids = [actions.put(tx, "count", {}) for _ in range(40)]
    pools({"count": handler}, workers=4).start()
    pools({"count": handler}, workers=4).start()
    assert all_done.wait(WAIT)
    assert sorted(ran) == sorted(ids)


def test_pool_ticks_schedules(database, pools):
    ran = threading.Event()
    pool = pools({"sweep": lambda lease: ran.set()})
    each = ScheduleRequest(kind="sweep", cron="* * * * * *")
    database.change(lambda tx: schedules.set_schedule(tx, ADMIN, "each", each))
    pool.start()
    assert ran.wait(WAIT)


def test_stop_gives_back_what_does_not_end_and_its_writes_lose(database, pools):
    began, go_on, lost = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def handler(lease):
        began.set()
        go_on.wait(WAIT)
        seen.extend([lease.stopping(), lease.lost()])
        try:
            with database.transaction() as tx:
                lease.hold(tx)
        except LeaseLostError:
            lost.set()
            raise

    pool = pools({"count": handler})
    pool.start()
    job_id = put(database)
    assert began.wait(WAIT)
    pool.stop(0)
    back = get(database, job_id)
    assert (back.state, back.tries) == ("waiting", 0)
    go_on.set()
    assert lost.wait(WAIT)
    assert seen == [True, True]
    assert get(database, job_id).state == "waiting"


def test_pool_can_be_stopped_twice_and_before_it_began(database, pools):
    pool = pools({})
    pool.stop(0)
    pool.stop(0)
    began = pools({})
    began.start()
    began.stop(0)
    began.stop(0)
    assert not began._claimer.is_alive()
    assert not began._keeper.is_alive()


def test_silent_server_loses_its_job_and_its_late_writes(database, pools):
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    late = []

    def slow(lease):
        began.set()
        go_on.wait(WAIT)
        with database.transaction() as tx:
            try:
                lease.finish(tx)
            except LeaseLostError:
                late.append("lost")
                raise
            finally:
                ended.set()

    clock = Monotonic()
    silent = pools({"count": slow}, lease_seconds=30)
    other = pools(
        {"count": lambda lease: late.append(lease.fence)}, lease_seconds=30, monotonic=clock
    )
    job_id = put(database)
    assert silent.claim_due() == 1
    assert began.wait(WAIT)
    with database.transaction() as tx:  # As if the database's clock had jumped an hour ahead.
        store.change(tx, job_id, {"lease_until": tx.now - timedelta(hours=1)})
    for clock.now in (0, 10, 20):
        assert other.take_over_silent() == 0
    clock.now = 30
    assert other.take_over_silent() == 1
    assert "fell silent" in get(database, job_id).reason
    assert other.claim_due() == 1
    finish(other)
    silent.beat()
    (lease,) = silent._held.values()
    assert lease.lost()
    go_on.set()
    assert ended.wait(WAIT)
    finish(silent)
    assert late == [2, "lost"]
    done = get(database, job_id)
    assert (done.state, done.fence, done.tries) == ("done", 2, 2)


def test_jumping_clock_takes_nothing_from_a_server_that_beats(database, pools):
    began, go_on = threading.Event(), threading.Event()

    def slow(lease):
        began.set()
        go_on.wait(WAIT)

    clock = Monotonic()
    beating = pools({"count": slow})
    other = pools({"count": slow}, monotonic=clock)
    job_id = put(database)
    assert beating.claim_due() == 1
    for clock.now in range(0, 120, 10):
        beating.beat()
        with database.transaction() as tx:
            store.change(tx, job_id, {"lease_until": tx.now - timedelta(days=1)})
        assert other.take_over_silent() == 0
    go_on.set()
    finish(beating)
    assert get(database, job_id).state == "done"


def test_server_that_is_alone_takes_over_at_start_what_the_dead_one_held(database, pools):
    ran = threading.Event()
    job_id = put(database)
    database.change(
        lambda tx: store.claim(tx, ["count"], 1, holder="dead", lease_seconds=30, limits={})
    )
    pools({"count": lambda lease: ran.set()}, is_alone=True).start()
    assert ran.wait(WAIT)
    assert get(database, job_id).fence == 2


def test_job_that_kills_its_servers_dies_itself(database, pools):
    told = []
    job_id = put(database, max_tries=1)
    database.change(
        lambda tx: store.claim(tx, ["count"], 1, holder="dead", lease_seconds=30, limits={})
    )
    endings = {"count": lambda tx, job: told.append(job.state)}
    assert pools({}, endings=endings).take_over_all() == 1
    assert get(database, job_id).state == "dead"
    assert told == ["dead"]


def test_lease_that_cannot_be_renewed_is_lost_to_its_holder(database, pools):
    clock, began, go_on, seen = Monotonic(), threading.Event(), threading.Event(), []

    def slow(lease):
        seen.append(lease.lost())
        began.set()
        go_on.wait(WAIT)
        seen.append(lease.lost())

    pool = pools({"count": slow}, monotonic=clock, lease_seconds=30)
    put(database)
    pool.claim_due()
    assert began.wait(WAIT)
    clock.now = 31
    go_on.set()
    finish(pool)
    assert seen == [False, True]


SERVER = """
import json, sys, threading
from millpond.jobs import actions, store
from millpond.jobs.pool import Pool
from millpond.storage.database import Database
database, done = Database(json.loads(sys.argv[1])["url"]), []
def count(lease):
    done.append(lease.job.id)
def meet(lease):  # Two servers of two workers each: the four meet only when both take part.
    while any(j.state == "waiting" for j in database.read(lambda tx: store.list_newest(tx, None, "meet", None, 9))):
        threading.Event().wait(0.02)
    done.append(lease.job.id)
pool = Pool(database, {"count": count, "meet": meet}, workers=2, poll_seconds=0.1)
pool.start()
print("ready", flush=True)
sys.stdin.readline()
pool.stop(10)
print(json.dumps(done), flush=True)
"""


def test_two_servers_share_the_work_of_one_database(database, tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    url = database.engine.url.render_as_string(hide_password=False)
    servers = [
        subprocess.Popen(
            [sys.executable, str(script), json.dumps({"url": url})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for server in servers:
            assert server.stdout.readline() == "ready\n"
        ids = [put(database, "meet") for _ in range(4)] + [put(database) for _ in range(50)]
        ended = threading.Event()
        while database.read(actions.count_jobs).done < len(ids):
            assert all(server.poll() is None for server in servers)
            ended.wait(0.05)
        shares = [json.loads(server.communicate("stop\n", WAIT)[0]) for server in servers]
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    assert sorted(shares[0] + shares[1]) == sorted(ids)
    assert [len(set(ids[:4]) & set(share)) for share in shares] == [2, 2]
