"""A server that does a chain of jobs: each writes its effect and puts the next in one commit."""

import threading

import kill_points
import sqlalchemy as sa

from millpond.jobs import actions
from millpond.jobs.pool import Pool
from millpond.storage.database import Database

LINKS = 4
effect = sa.table("effect", sa.column("chain"), sa.column("link"), sa.column("fence"))


def main(facts):
    """Run one chain to its end; give how many points were passed."""
    database = Database(facts["url"])
    points = kill_points.install(database, facts["n"])
    chain, ended = facts["chain"], threading.Event()

    def do_link(lease):
        number = lease.job.facts["link"]
        with database.transaction() as tx:
            lease.finish(tx)
            values = {"chain": chain, "link": number, "fence": lease.fence}
            tx.execute(sa.insert(effect).values(values))
            if number + 1 < LINKS:
                put_link(tx, number + 1)

    def put_link(tx, number):
        actions.put(tx, f"chain.{chain}", {"link": number}, key=str(number), max_tries=10)

    database.change(lambda tx: put_link(tx, 0))
    pool = Pool(database, {f"chain.{chain}": do_link}, workers=2, poll_seconds=0.05, is_alone=True)
    pool.start()
    count = sa.select(sa.func.count()).select_from(effect).where(effect.c.chain == chain)
    while database.read(lambda tx: tx.scalar(count)) < LINKS:
        ended.wait(0.005)
    pool.stop(5)
    database.close()
    return {"points": points.count}
