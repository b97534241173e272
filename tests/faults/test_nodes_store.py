"""What may happen to nodes' data disks and to the server between them; nothing is lost or doubled."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from millpond.ground.errors import BusyError, ConflictError, MillpondError
from millpond.storage.database import Database
from millpond.storage.looking import look_at_objects
from millpond.storage.nodes import store as sql
from millpond.storage.nodes.removal import forget, why_not_removed
from millpond.storage.nodes.repair import Repairer
from millpond.storage.nodes.scrubbing import Scrubber
from millpond.storage.nodes.values import COPIES, Pace

pytestmark = pytest.mark.slow  # Each starts and kills programs.

NAMES = ("a", "b", "c", "d")
PACE = Pace()
HOUR, DAY = 3600, 86_400
MIB = 1 << 20


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def programs(tmp_path_factory, nodes_authority, data_nodes_module):
    """Four nodes that are processes of their own."""
    made = data_nodes_module.DataNodes(tmp_path_factory.mktemp("programs"), nodes_authority)
    made.launch(*NAMES)
    yield made
    made.stop()


@pytest.fixture
def nodes(programs):
    programs.renew()
    return programs


@pytest.fixture
def store(nodes, database, tmp_path):
    opened = nodes.store(database, tmp_path, pace=PACE, cache=0)
    yield opened
    opened.close()


@pytest.fixture
def repairer(store):
    made = Repairer(store)
    made.work_once()  # The first inventories.
    yield made
    made.stop()


def states(store):
    return store.database.read(store.ledger.standing).states


def holders(store, key):
    found = store.database.read(lambda tx: store.ledger.find(tx, [key]))[key]
    return sorted(found.nodes)


def pieces_that(action, at: int, size: int):
    """A file of so many bytes that does something when so many were read."""

    class Pieces(io.RawIOBase):
        def __init__(self):
            self.data, self.place, self.is_done = os.urandom(size), 0, False

        def readable(self):
            return True

        def read(self, wanted=-1):
            if self.place >= at and not self.is_done:
                self.is_done = True
                action()
            piece = self.data[self.place : self.place + (wanted if wanted >= 0 else MIB)]
            self.place += len(piece)
            return piece

    return Pieces()


def uploading(nodes):
    """Give the nodes that have a half-written file now."""
    return [
        name
        for name in NAMES
        if any(path.stat().st_size > MIB for path in (nodes.folder / name / "disk/tmp").iterdir())
    ]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_node_that_dies_in_the_middle_of_an_upload_is_replaced(nodes, store):
    def kill():
        deadline = time.monotonic() + 20
        while not (busy := uploading(nodes)):
            assert time.monotonic() < deadline
        nodes.nodes[busy[0]].kill()
        killed.append(busy[0])

    killed = []
    file = pieces_that(kill, 40 * MIB, 64 * MIB)
    assert store.put("large", file) == 64 * MIB
    held = nodes.held(digest_of(file.data))
    assert len(set(held) - set(killed)) == COPIES
    assert set(holders(store, "large")) == set(held) - set(killed)
    assert b"".join(store.stream("large")) == file.data


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_when_both_nodes_die_in_the_middle_nothing_is_stored_and_it_is_said(nodes, store):
    def kill():
        deadline = time.monotonic() + 20
        while len(busy := uploading(nodes)) < COPIES:
            assert time.monotonic() < deadline
        for name in busy:
            nodes.nodes[name].kill()

    with pytest.raises(BusyError, match="nothing was stored"):
        store.put("large", pieces_that(kill, 40 * MIB, 64 * MIB))
    assert not store.exists("large")
    assert list(store.list("")) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_sender_that_breaks_off_leaves_nothing(nodes, store, tools):
    def fail():
        raise RuntimeError("the sender hung up")

    with pytest.raises(RuntimeError):
        store.put("large", pieces_that(fail, 40 * MIB, 64 * MIB))
    assert not store.exists("large")
    tools.until(
        lambda: not [p for n in NAMES for p in (nodes.folder / n / "disk/tmp").iterdir()], 20
    )
    assert not [
        p for n in NAMES for p in (nodes.folder / n / "disk/objects").rglob("*") if p.is_file()
    ]


def test_a_commit_with_a_node_that_is_lost_since_is_refused_and_then_made_with_another(
    nodes, store
):
    """B dies between its receipt and the commit."""
    data = b"between" * 1000
    digest = digest_of(data)
    targets = store.database.read(lambda tx: store.ledger.place(tx, "a", digest, len(data)))
    assert targets[0].node == "a"
    receipts = [store.client.put(target, data) for target in targets[:2]]
    gone = targets[1].node
    nodes.nodes[gone].kill()
    nodes.hear(store, PACE.lost)
    assert states(store)[gone] == "lost"

    def commit(receipts):
        store.database.change(
            lambda tx: store.ledger.commit(tx, {"t/out": (digest, len(data))}, receipts)
        )

    with pytest.raises(MillpondError, match="1 of 2 nodes") as told:
        commit(receipts)
    assert "lost since" in told.value.faults[0].message
    assert not store.exists("t/out")
    receipts.append(store.client.put(targets[2], data))
    commit(receipts)
    commit(receipts)  # The answer was lost on the way: the same again is fine.
    assert store.get("t/out") == data
    digest, data = digest_of(b"other"), b"other"
    targets = store.database.read(lambda tx: store.ledger.place(tx, "", digest, 5))
    receipts = [store.client.put(target, data) for target in targets[:2]]
    with pytest.raises(ConflictError):
        commit(receipts)
    data = b"between" * 1000
    assert store.get("t/out") == data


def test_a_put_whose_node_died_unnoticed_finds_another(nodes, store):
    for name in ("a", "b"):
        nodes.nodes[name].kill()  # The server has not heard of it yet.
    for number in range(4):
        assert store.put(f"key{number}", os.urandom(1000)) == 1000
        assert set(holders(store, f"key{number}")) == {"c", "d"}


def test_a_frozen_node_is_passed_over_when_reading(nodes, store):
    data = os.urandom(200_000)
    store.put("k", data)
    frozen = nodes.nodes[holders(store, "k")[0]]
    frozen.freeze()
    try:
        begun = time.monotonic()
        assert store.get("k") == data
        assert time.monotonic() - begun < 10
    finally:
        frozen.thaw()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_reading_goes_on_with_another_node_from_where_the_first_broke_off(nodes, store):
    data = os.urandom(96 * MIB)
    store.put("large", io.BytesIO(data))
    stream = store.stream("large")
    got = [next(stream)]
    first = holders(store, "large")
    served = [name for name in first if _reads(nodes, name, digest_of(data))]
    assert served
    nodes.nodes[served[0]].kill()
    got += stream
    assert b"".join(got) == data
    part = store.get("large", 50 * MIB, 10)
    assert part == data[50 * MIB : 50 * MIB + 10]


def _reads(nodes, name, digest):
    """Tell whether a node's program has the file open."""
    process = nodes.nodes[name].process
    return any(one.path.endswith(digest) for one in psutil.Process(process.pid).open_files())


def test_a_lost_node_is_noticed_and_its_copies_are_made_again(nodes, store, repairer):
    data = {f"k{number}": os.urandom(2000) for number in range(40)}
    store.put_many(data.items())
    store.put("single", b"s" * 5000)
    data["single"] = b"s" * 5000
    gone = holders(store, "single")[0]
    nodes.nodes[gone].kill()
    nodes.hear(store, PACE.suspect)
    assert states(store)[gone] == "suspect"
    assert repairer.work_once() == 0  # Merely suspect: nothing is copied yet.
    nodes.hear(store, PACE.lost)
    assert states(store)[gone] == "lost"
    affected = [key for key in data if gone in holders(store, key)]
    assert affected
    assert repairer.work_once() == len({digest_of(data[key]) for key in affected})
    for key, value in data.items():
        living = set(nodes.held(digest_of(value))) - {gone}
        assert len(living) == COPIES
        assert store.get(key) == value
    assert repairer.work_once() == 0


def test_a_node_that_is_refused_for_its_version_is_waited_for_but_not_for_ever(
    nodes, database, tmp_path
):
    """Its disk is there: an upgrade brings it back sooner than its copies are made again."""
    refused = set()
    pace = replace(PACE, other_version=PACE.lost + 60)
    store = nodes.store(
        database, tmp_path, pace=pace, cache=0, is_other_version=refused.__contains__
    )
    repairer = Repairer(store)
    try:
        repairer.work_once()
        store.put("k", b"k" * 5000)
        gone = holders(store, "k")[0]
        nodes.nodes[gone].kill()
        refused.add(gone)
        nodes.hear(store, PACE.lost + 5)
        assert states(store)[gone] == "suspect"
        assert repairer.work_once() == 0
        nodes.hear(store, 60)
        assert states(store)[gone] == "lost"
        assert repairer.work_once() == 1
    finally:
        repairer.stop()
        store.close()


def test_a_node_that_comes_back_keeps_what_is_known_and_loses_what_is_over(nodes, store, repairer):
    data = os.urandom(3000)
    store.put("k", data)
    digest = digest_of(data)
    gone = holders(store, "k")[0]
    nodes.nodes[gone].kill()
    nodes.hear(store, PACE.lost)
    assert states(store)[gone] == "lost"
    assert repairer.work_once() == 1
    # While it was away something else was left on its disk that nobody knows.
    stray = digest_of(b"stray")
    path = nodes.file(gone, stray)
    path.write_bytes(b"stray")
    nodes.nodes[gone].start()
    nodes.beat(store)
    assert states(store)[gone] == "up"
    assert len(nodes.held(digest)) == COPIES + 1

    repairer.work_once()
    assert len(nodes.held(digest)) == COPIES + 1  # Not before its time.
    assert path.exists()
    nodes.age(store, HOUR + 1)
    repairer.work_once()
    assert len(nodes.held(digest)) == COPIES
    assert path.exists()
    nodes.age(store, DAY)
    repairer.work_once()
    assert not path.exists()
    assert holders(store, "k") == nodes.held(digest)
    assert store.get("k") == data


def test_surplus_is_dropped_only_when_two_others_are_sound(nodes, store, repairer):
    data = os.urandom(3000)
    store.put("k", data)
    digest = digest_of(data)
    first, second = holders(store, "k")
    nodes.nodes[first].kill()
    nodes.hear(store, PACE.lost)
    repairer.work_once()
    third = next(name for name in holders(store, "k") if name not in (first, second))
    nodes.file(second, digest).write_bytes(b"rotten".ljust(3000))
    nodes.nodes[first].start()
    nodes.beat(store)
    repairer.work_once()
    nodes.age(store, HOUR + 1)
    repairer.work_once()  # Hashes two of them, and finds one damaged.
    assert second not in nodes.held(digest)
    nodes.age(store, HOUR + 1)
    repairer.work_once()
    good = [name for name in nodes.held(digest) if nodes.file(name, digest).read_bytes() == data]
    assert len(good) == COPIES
    assert {first, third} == set(good)


def test_bytes_that_rot_are_found_by_the_reader_and_made_again(nodes, store, repairer):
    data = os.urandom(50_000)
    store.put("k", data)
    digest = digest_of(data)
    for name in holders(store, "k")[:1]:
        rotten = bytearray(data)
        rotten[7] ^= 1
        nodes.file(name, digest).write_bytes(rotten)
    for _ in range(4):  # Whichever copy is read first.
        assert store.get("k") == data
    assert holders(store, "k") != nodes.held(digest)
    assert repairer.work_once() == 1
    for name in holders(store, "k"):
        assert nodes.file(name, digest).read_bytes() == data
    aside = [path for name in NAMES for path in (nodes.folder / name / "disk/bad").iterdir()]
    assert [path.name[:64] for path in aside] == [digest]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_large_object_that_rots_on_the_way_out_never_ends_well(nodes, store):
    data = os.urandom(20 * MIB)
    store.put("large", io.BytesIO(data))
    for name in holders(store, "large"):
        with nodes.file(name, digest_of(data)).open("r+b") as file:
            file.seek(9 * MIB)
            file.write(b"rot")
    got = []
    pieces = store.stream("large")
    with pytest.raises(BusyError, match="damaged"):
        got.extend(pieces)
    assert 0 < sum(map(len, got)) < len(data)


def test_scrubbing_finds_rot_before_anybody_reads(nodes, store, repairer, data_nodes_module):
    data = os.urandom(4000)
    store.put("k", data)
    digest = digest_of(data)
    name = holders(store, "k")[0]
    nodes.file(name, digest).write_bytes(b"?" * 4000)
    disk = data_nodes_module.open_disk(nodes.folder / name, name)
    found = Scrubber(disk, least_bytes_per_second=1 << 40).work_once()
    assert (found.objects, found.bad) == (1, 1)
    nodes.beat(store)
    assert repairer.work_once() == 1  # Told by the heartbeat, then by the inventory.
    assert len(nodes.held(digest)) == COPIES
    assert store.get("k") == data


def test_an_unmounted_disk_is_lost_at_once_and_not_taken_for_an_empty_one(nodes, store, repairer):
    data = os.urandom(3000)
    store.put("k", data)
    name = holders(store, "k")[0]
    disk = nodes.folder / name / "disk"
    disk.rename(disk.with_name("unmounted"))
    disk.mkdir()
    nodes.beat(store)
    standing = store.database.read(store.ledger.standing)
    assert standing.states[name] == "lost"
    reason = next(place.reason for place in standing.places if place.node == name)
    assert "no id file" in reason
    assert repairer.work_once() == 1
    assert store.get("k") == data
    nodes.nodes[name].kill()
    nodes.nodes[name].start()  # A restart does not make a new disk of the empty folder either.
    assert nodes.nodes[name].look().is_ok is False
    assert list(disk.iterdir()) == []
    disk.rmdir()
    disk.with_name("unmounted").rename(disk)
    nodes.beat(store)
    assert states(store)[name] == "up"
    repairer.work_once()
    nodes.age(store, HOUR + 1)
    repairer.work_once()
    assert len(nodes.held(digest_of(data))) == COPIES


def test_all_but_one_node_lost_takes_nothing_new_and_gives_everything(nodes, store, repairer):
    data = {f"k{number}": os.urandom(1000) for number in range(10)}
    store.put_many(data.items())
    both = holders(store, "k0")
    for name in set(NAMES) - {both[0]}:
        nodes.nodes[name].kill()
    nodes.hear(store, PACE.lost)
    assert sorted(states(store).values()) == ["lost", "lost", "lost", "up"]
    with pytest.raises(BusyError, match="Only one copy or none") as told:
        store.put("new", b"new")
    assert "is lost" in told.value.message
    assert told.value.retry_after_seconds > 0
    assert not store.exists("new")
    repairer.work_once()
    assert store.get("k0") == data["k0"]
    health = store.database.read(store.ledger.health)
    assert health.at_risk == len(data)
    assert health.missing == 0
    words = "one copy only: waiting for a second node with a data disk"
    assert words in health.shortage
    assert any(words in each.meaning for each in look_at_objects(store))


def test_one_copy_is_taken_when_the_administrator_allows_it_and_shown_as_at_risk(
    nodes, database, tmp_path
):
    store = nodes.store(database, tmp_path / "one", pace=PACE, cache=0, allow_one_copy=True)
    repairer = Repairer(store)
    try:
        for name in NAMES[1:]:
            nodes.nodes[name].kill()

        nodes.hear(store, PACE.lost)
        store.put("k", b"one copy")
        health = store.database.read(store.ledger.health)
        assert (health.at_risk, health.missing, health.shortage) == (1, 0, "")
        nodes.nodes["b"].start()
        nodes.beat(store)
        repairer.work_once()
        assert holders(store, "k") == ["a", "b"]
        assert store.database.read(store.ledger.health).at_risk == 0
    finally:
        repairer.stop()
        store.close()


def test_when_both_holders_are_lost_it_is_said_by_name_and_mends_itself_when_one_is_back(
    nodes, store, repairer
):
    store.put("reports/final.csv", b"precious")
    both = holders(store, "reports/final.csv")
    for name in both:
        nodes.nodes[name].kill()
    nodes.hear(store, PACE.lost)
    repairer.work_once()
    health = store.database.read(store.ledger.health)
    assert (health.missing, list(health.missing_keys)) == (1, ["reports/final.csv"])
    with pytest.raises(BusyError, match=r"reports/final\.csv") as told:
        store.get("reports/final.csv")
    assert all(name in told.value.message for name in both)
    # The run that produced it runs again: the same bytes, other nodes.
    store.put("again", b"precious")
    assert store.get("reports/final.csv") == b"precious"
    assert store.database.read(store.ledger.health).missing == 0


def test_two_writers_of_the_same_bytes_get_a_name_each_and_one_set_of_copies(nodes, store):
    data, faults = os.urandom(300_000), []
    barrier = threading.Barrier(6)

    def write(number):
        barrier.wait()
        try:
            store.put(f"w{number}", data)
        except MillpondError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert [info.key for info in store.list("")] == [f"w{number}" for number in range(6)]
    assert holders(store, "w0") == nodes.held(digest_of(data))
    assert len(holders(store, "w0")) >= COPIES


def test_what_nobody_names_goes_and_what_is_named_again_in_time_stays(nodes, store, repairer):
    store.put("gone", b"gone" * 100)
    store.put("kept", b"kept" * 100)
    store.delete("gone")
    store.delete("kept")
    repairer.work_once()
    nodes.age(store, DAY + 1)
    repairer.work_once()  # Both are doomed now.
    assert len(nodes.held(digest_of(b"gone" * 100))) == COPIES
    store.put("again", b"kept" * 100)
    nodes.age(store, HOUR + 1)
    repairer.work_once()
    assert nodes.held(digest_of(b"gone" * 100)) == []
    assert len(nodes.held(digest_of(b"kept" * 100))) == COPIES
    assert store.get("again") == b"kept" * 100
    assert not store.database.read(lambda tx: sql.sizes_of(tx, [digest_of(b"gone" * 100)]))
    store.put("gone", b"gone" * 100)
    assert store.get("gone") == b"gone" * 100


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_database_from_an_older_backup_deletes_nothing_until_somebody_confirms(
    nodes, store, database, tmp_path
):
    store.put("old", b"old" * 50)
    backup = tmp_path / "backup.db"
    database.close()
    shutil.copy(database.engine.url.database, backup)
    for _ in range(3):
        nodes.beat(store)
    store.put("new", b"new" * 50)
    digest = digest_of(b"new" * 50)
    nodes.beat(store)
    restored = Database(f"sqlite:///{backup}")
    other = nodes.store(restored, tmp_path / "other", pace=PACE, cache=0)
    repairer = Repairer(other)
    try:
        repairer.work_once()
        nodes.age(other, DAY + 1)
        repairer.work_once()
        health = restored.read(other.ledger.health)
        assert "remembers" in health.guard
        assert not other.exists("new")
        assert len(nodes.held(digest)) == COPIES
        other.delete("old")
        for _ in range(3):
            nodes.age(other, DAY + HOUR + 1)
            repairer.work_once()
        assert len(nodes.held(digest_of(b"old" * 50))) == COPIES
        restored.change(other.ledger.confirm)
        for _ in range(2):
            repairer.work_once()
            nodes.age(other, DAY + HOUR + 1)
        repairer.work_once()
        assert nodes.held(digest) == []
        assert nodes.held(digest_of(b"old" * 50)) == []
    finally:
        repairer.stop()
        other.close()
        restored.close()


def test_a_node_that_is_emptied_gives_its_copies_to_others_before_it_goes(nodes, store, repairer):
    data = {f"k{number}": os.urandom(1000) for number in range(12)}
    for key, value in data.items():
        store.put(key, value)
    leaving = holders(store, "k0")[0]
    store.database.change(lambda tx: store.ledger.note_draining(tx, leaving, is_draining=True))

    before = store.database.read(lambda tx: why_not_removed(tx, leaving))
    assert "fewer than 2 copies" in before
    assert repairer.work_once() > 0
    nodes.age(store, HOUR + 1)
    repairer.work_once()
    assert not list((nodes.folder / leaving / "disk/objects").rglob("?" * 64))
    for key, value in data.items():
        assert len(nodes.held(digest_of(value))) == COPIES
        assert store.get(key) == value
    store.put("after", b"after")
    assert leaving not in holders(store, "after")
    assert store.database.read(lambda tx: why_not_removed(tx, leaving)) == ""
    store.database.change(lambda tx: forget(tx, leaving))
    assert store.get("k0") == data["k0"]


def test_a_full_disk_refuses_and_another_node_takes_the_bytes(
    tmp_path, nodes_authority, data_nodes_module, database
):
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a small disk needs mount, as root: run the tests as root")
    nodes = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    mounted = []
    try:
        for name in ("a", "b"):
            disk = nodes.prepare(name) / "disk"
            disk.mkdir()
            code = os.system(f"mount -t tmpfs -o size=4m tmpfs {disk}")
            if code:
                pytest.skip("tmpfs cannot be mounted here")
            mounted.append(disk)
        nodes.launch("a", "b", "c", "d")
        store = nodes.store(database, tmp_path, pace=PACE, cache=0)
        try:
            data = os.urandom(12 * MIB)
            # It does not fit on the small ones, which nobody knows before it has come.
            assert store.put("large", io.BytesIO(data)) == len(data)
            assert set(holders(store, "large")) == {"c", "d"}
            assert store.get("large") == data
            for number in range(12):
                store.put(f"k{number}", os.urandom(MIB))
                assert len(holders(store, f"k{number}")) == COPIES
            free = {
                place.node: place.free_bytes
                for place in store.database.read(store.ledger.standing).places
            }
            assert free["a"] < 4 * MIB < free["c"]
            assert nodes.nodes["a"].look().is_ok
            assert [p for n in ("a", "b") for p in (nodes.folder / n / "disk/tmp").iterdir()] == []
        finally:
            store.close()
    finally:
        nodes.stop()
        for disk in mounted:
            os.system(f"umount {disk}")


def test_the_server_may_die_at_any_point_and_the_client_puts_again(nodes, store, database):
    """Before the commit nothing is there; after it the same put is told that it is."""
    url = database.engine.url.render_as_string(hide_password=False)
    script, authority = Path(__file__).with_name("nodes_puts.py"), nodes.authority.path
    for point in ("before", "after"):
        words = [point, url, nodes.folder, authority, f"key-{point}", f"bytes of {point}"]
        ended = subprocess.run([sys.executable, script, *map(str, words)], check=False)
        assert ended.returncode == -signal.SIGKILL
    assert not store.exists("key-before")
    assert store.put("key-before", b"bytes of before") == 15
    assert store.get("key-before") == b"bytes of before"
    assert store.get("key-after") == b"bytes of after"
    with pytest.raises(ConflictError):
        store.put("key-after", b"bytes of after")
