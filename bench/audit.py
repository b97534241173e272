"""What the log costs: inserts with and without it, many projects at once, and a check.

``.venv/bin/python bench/audit.py [postgresql://...]``
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from millpond.audit import actions
from millpond.audit.keys import open_seal_key
from millpond.audit.proof import verify_export
from millpond.audit.values import ProjectRef
from millpond.ground.actor import Actor
from millpond.storage.database import Database, Transaction, metadata

ANN = Actor(user_id="user_1", name="ann")
WRITES, THREADS, ROUNDS, ENTRIES = 200, 20, 5, 10_000
row = sa.Table(
    "bench_row",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(200), nullable=False),
)


def plain(tx: Transaction, project: str) -> None:
    tx.execute(row.insert().values(text=f"a line of {project}"))


def logged(tx: Transaction, project: str) -> None:
    plain(tx, project)
    actions.note(tx, ANN, "bench.written", "row/1", project_id=project, after={"text": project})


def alone(database: Database, write: Callable[[Transaction, str], None]) -> float:
    begun = time.perf_counter()
    for _ in range(WRITES):
        database.change(lambda tx: write(tx, "project_0"))
    return (time.perf_counter() - begun) / WRITES


def together(database: Database, write: Callable[[Transaction, str], None]) -> float:
    def work(worker: int) -> None:
        for _ in range(WRITES // THREADS):
            database.change(lambda tx: write(tx, f"project_{worker}"))

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return (time.perf_counter() - begun) / WRITES


def compare(name: str, database: Database) -> None:
    with database.transaction() as tx:
        metadata.create_all(tx.connection)
    for what, measure in (("one writer", alone), (f"{THREADS} writers", together)):
        measure(database, logged)  # Warm.
        pairs = [(measure(database, plain), measure(database, logged)) for _ in range(ROUNDS)]
        without, with_log = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
        ratio = statistics.median(logged_ / plain_ for plain_, logged_ in pairs)
        print(f"{name:12} {what:12} {without:8.2f} {with_log:8.2f} {ratio:7.2f}")


def check(database: Database, folder: Path) -> None:
    key = open_seal_key(folder / "keys")
    with database.transaction() as tx:
        for number in range(ENTRIES):
            actions.note(tx, ANN, "bench.written", f"row/{number}", project_id="project_check")
    project = ProjectRef("project_check", "check")
    started = database.change(lambda tx: actions.start_export(tx, key, project))
    begun = time.perf_counter()
    lines = list(actions.export_lines(database.read, started))
    exported = time.perf_counter()
    verdict = verify_export(lines, {key.key_id: key.public_key})
    ended = time.perf_counter()
    assert verdict.is_ok, verdict
    took = f"export {exported - begun:.2f} s, check {ended - exported:.2f} s"
    print(f"{verdict.entries} entries: {took}")


def run() -> None:
    print(f"{'database':12} {'who':12} {'ms plain':>8} {'ms log':>8} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embedded = Database(f"sqlite:///{folder / 'bench.db'}")
        compare("sqlite", embedded)
        for url in sys.argv[1:]:
            grown = Database(url)
            compare("postgresql", grown)
            grown.close()
        check(embedded, folder)
        embedded.close()


if __name__ == "__main__":
    run()
