"""Kill a server of jobs at every point: each job's effect is on record exactly once."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from millpond.jobs import actions
from millpond.storage.database import metadata

HERE = Path(__file__).parent
LINKS = 4
MODULES = (
    "millpond.jobs.pool",
    "psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
)
effect = sa.Table(
    "effect",
    sa.MetaData(naming_convention=metadata.naming_convention),
    sa.Column("chain", sa.String(20)),  # Without a unique key, so that a second one would show.
    sa.Column("link", sa.Integer),
    sa.Column("fence", sa.Integer),
)


def load(name):
    sys.path.insert(0, str(HERE))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def children():
    born = load("kill_points").Children(HERE / "jobs_chain.py", MODULES)
    yield born
    born.close()


def prepare(database):
    with database.transaction() as tx:
        effect.create(tx.connection)
    return database.engine.url.render_as_string(hide_password=False)


def step_through(database, children, every):
    """Kill a server at each n-th point, start it again, and look at what is on record."""
    url = prepare(database)
    whole = children.run(url=url, chain="whole", n=None)["points"]
    assert whole >= 4 * (1 + 2 * LINKS), "put, and for each link claim and settle"
    killed = 0
    for n in range(0, whole, every):
        first = children.run(url=url, chain=f"c{n}", n=n)
        killed += first == {"signal": signal.SIGKILL}
        children.run(url=url, chain=f"c{n}", n=None)
        query = sa.select(effect.c.link).where(effect.c.chain == f"c{n}").order_by(effect.c.link)
        found = database.read(lambda tx, query=query: tx.connection.scalars(query).all())
        assert list(found) == list(range(LINKS)), f"killed at point {n} of {whole}"
    counts = database.read(actions.count_jobs)
    assert (counts.waiting, counts.running, counts.dead) == (0, 0, 0)
    assert killed >= len(range(0, whole, every)) * 0.8, "threads may take a few points less"


def test_some_kill_points_leave_each_effect_once(database, children):
    step_through(database, children, every=7)


@pytest.mark.slow
def test_every_kill_point_leaves_each_effect_once(database, children):
    step_through(database, children, every=1)


@contextmanager
def server(url, *, waits):
    process = subprocess.Popen(
        [sys.executable, str(HERE / "jobs_stopped.py"), json.dumps({"url": url, "waits": waits})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_server_that_was_stopped_past_its_lease_writes_nothing(database):
    url = prepare(database)
    with server(url, waits=True) as stale:
        database.change(lambda tx: actions.put(tx, "hold", {}))
        assert stale.stdout.readline() == "held 1\n"
        os.kill(stale.pid, signal.SIGSTOP)
        with server(url, waits=False) as other:
            assert other.stdout.readline() == "held 2\n"
            assert other.stdout.readline() == "written\n"
            os.kill(stale.pid, signal.SIGCONT)
            stale.stdin.write("write\n")
            stale.stdin.flush()
            assert stale.stdout.readline() == "lost\n"
    fences = database.read(lambda tx: tx.connection.scalars(sa.select(effect.c.fence)).all())
    assert list(fences) == [2]
    assert database.read(actions.count_jobs).done == 1
