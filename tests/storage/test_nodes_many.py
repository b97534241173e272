"""What the store on the nodes does with very many objects, and with some that stand in the way."""

import hashlib
import os
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from millpond.storage.nodes import repair
from millpond.storage.nodes import store as sql
from millpond.storage.nodes.counting import CopyCount
from millpond.storage.nodes.removal import why_not_removed
from millpond.storage.nodes.repair import Repairer
from millpond.storage.nodes.tables import object_digest

one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def repairer(nodes_store):
    nodes_store.database.change(
        nodes_store.ledger.confirm
    )  # The nodes are older than the database.
    made = Repairer(nodes_store)
    made.work_once()
    yield made
    made.stop()


def put_by_digest(store, sizes):
    """Put an object of each size, so that their digests come in this order."""
    found = []
    for size in sizes:
        while True:
            data = os.urandom(size)
            first = len(found) * 256 // len(sizes)
            if first <= int(digest_of(data)[:2], 16) < first + 256 // len(sizes):
                break
        store.put(f"k{len(found)}", data)
        found.append(digest_of(data))
    return found


@one_database
def test_no_round_reads_a_whole_table(nodes_store, repairer, database, three_nodes):
    """At a million objects each such query takes seconds, and a round comes every five."""
    nodes_store.put_many((f"k{number}", b"%d" % number) for number in range(50))
    seen = {}

    def note(connection, cursor, statement, parameters, *_):
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            seen[statement] = parameters

    three_nodes.age(nodes_store, 90_000)
    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        repairer.wake()
        repairer.work_once()
        database.read(CopyCount(nodes_store.ledger).look)
        database.read(lambda tx: why_not_removed(tx, "n1"))
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    plans = []
    with database.engine.connect() as connection:
        for statement, parameters in seen.items():
            if isinstance(parameters, tuple):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans += [(row[3], statement) for row in rows]
    assert any("ix_object_replica_state_digest_node" in plan for plan, _ in plans)
    for plan, statement in plans:
        words = plan.split()
        is_large = words[1] in ("object_name", "object_digest", "object_replica")
        is_whole = words[0] == "SCAN" and "COVERING INDEX" not in plan
        assert not (is_large and is_whole), (plan, statement)


def test_what_fits_nowhere_keeps_nothing_else_from_being_copied(
    nodes_store, repairer, three_nodes, monkeypatch
):
    monkeypatch.setattr(repair, "_BATCH", 2)
    *large, small = put_by_digest(nodes_store, [5000, 5000, 5000, 5000, 100])
    tell = nodes_store.ledger.note_node
    for digest in (*large, small):
        for node in three_nodes.held(digest)[1:]:
            three_nodes.file(node, digest).unlink()
            nodes_store.database.change(
                lambda tx, node=node, digest=digest: sql.drop_replicas(tx, node, [digest])
            )
    for name, node in three_nodes.nodes.items():
        facts = replace(node.look(), free_bytes=1000)
        nodes_store.database.change(
            lambda tx, name=name, node=node, facts=facts: tell(tx, name, node.url, facts)
        )
    repairer.wake()
    assert repairer.work_once() == 1
    assert len(three_nodes.held(small)) == 2
    three_nodes.beat(nodes_store)
    repairer.wake()
    assert repairer.work_once() == 4


def test_a_node_that_refuses_to_delete_costs_the_others_nothing(
    nodes_store, repairer, three_nodes, monkeypatch
):
    monkeypatch.setattr(repair, "_BATCH", 3)
    refusing = three_nodes.nodes["n1"].disk
    monkeypatch.setattr(refusing, "_lease", 1e9)
    digests = []
    for number in range(12):
        data = os.urandom(20)
        nodes_store.put(f"k{number}", data)
        nodes_store.delete(f"k{number}")
        digests.append(digest_of(data))
    three_nodes.age(nodes_store, 100_000)
    for _ in range(12):
        repairer.work_once()
    held = {node for digest in digests for node in three_nodes.held(digest)}
    assert held == {"n1"}
    monkeypatch.setattr(refusing, "_lease", 0.0)
    left = sa.select(sa.func.count()).select_from(object_digest)
    for _ in range(100):  # What earlier tests have left on the disk goes too.
        repairer.work_once()
        if not nodes_store.database.read(lambda tx: tx.scalar(left)):
            break
    assert not any(three_nodes.held(digest) for digest in digests)
    assert not nodes_store.database.read(lambda tx: tx.scalar(left))


def test_bytes_whose_last_two_names_go_at_once_are_not_kept_for_ever(nodes_store, database):
    nodes_store.put("one", b"same")
    nodes_store.put("other", b"same")
    second = threading.Thread(target=lambda: nodes_store.delete("other"))
    with database.transaction() as tx:
        sql.drop_name(tx, "one")
        second.start()
        second.join(0.5)  # It waits for the first, or has not seen it.
    second.join()
    assert database.read(sql.count_unnamed) == 1
