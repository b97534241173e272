"""A server that holds one job until it is told to write; it is stopped past its lease meanwhile."""

import json
import sys
import threading

import sqlalchemy as sa

from millpond.jobs.pool import Pool
from millpond.jobs.port import LeaseLostError
from millpond.storage.database import Database

effect = sa.table("effect", sa.column("chain"), sa.column("link"), sa.column("fence"))
facts = json.loads(sys.argv[1])
database = Database(facts["url"])


def hold(lease):
    """Tell when the job is held, wait for a line, then write."""
    print("held", lease.fence, flush=True)
    if facts["waits"]:
        sys.stdin.readline()
    try:
        with database.transaction() as tx:
            tx.execute(sa.insert(effect).values(chain="s", link=0, fence=lease.fence))
            lease.finish(tx)
    except LeaseLostError:
        print("lost", flush=True)
        raise
    print("written", flush=True)


pool = Pool(database, {"hold": hold}, workers=1, lease_seconds=1.0, poll_seconds=0.1)
pool.start()
print("ready", flush=True)
threading.Event().wait()
