"""Tasks' bytes on a node while objects lie on the nodes' disks: real disks, real data routes."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_door_transfer import DIGEST, PREFIX, Host, Node, make_task
from tests.storage.data_nodes import DataNodes

from millpond.engine.cluster.spool import Spool
from millpond.engine.cluster.transfer import DoorTransfer
from millpond.engine.values import StagedInput, log_key
from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotAllowedError
from millpond.machines.authority import Authority
from millpond.machines.door.desks import NodesDesk
from millpond.storage.database import Database
from millpond.storage.nodes.client import NodeClient

KEY = "projects/p1/data/one"


class Farm:
    """A host and three nodes with data disks; tasks run on ``a``."""

    def __init__(self, database: Database, folder: Path) -> None:
        now = datetime.now(UTC)
        self.nodes = DataNodes(folder, Authority(folder / "authority", now))
        for name in ("a", "b", "c"):
            self.nodes.add(name)
        self.store = self.nodes.store(database, folder)
        self.host = Host(self.store, NodesDesk(self.store), self.nodes.host)
        self.node = Node("a", self.host, self.nodes.nodes["a"].identity, folder / "work")
        self.node.transfer.close()
        self.client = NodeClient(self.nodes.nodes["a"].identity)
        self.node.transfer = DoorTransfer(
            self.node.door,
            self.node.cache,
            lambda send: Spool(folder / "work" / "spool", send, pause_seconds=0.05),
            self.client,
            disk=self.nodes.nodes["a"].disk,
            settle_seconds=20,
        )

    def close(self) -> None:
        self.node.close()
        self.client.close()
        self.host.close()
        self.store.close()
        self.nodes.stop()

    def begin(self, *names: str) -> None:
        inputs = [StagedInput(f"in/{n}", f"object:{n}", 3, DIGEST) for n in names]
        self.node.begin(make_task(*inputs), *names)

    def fetch(self, target: Path, key: str = KEY) -> bytes:
        self.node.transfer.fetch(f"object:{key}", os.fsencode(target), 3)
        return target.read_bytes()

    def publish(self, folder: Path, path: str, content: bytes) -> Any:
        (folder / "out").write_bytes(content)
        with (folder / "out").open("rb") as file:
            return self.node.transfer.publish(PREFIX, path, file.fileno(), len(content))


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """Open one kind of database: what is asked here is where bytes go."""
    shutil.copy(sqlite_template, tmp_path / "millpond.db")
    opened = Database(f"sqlite:///{tmp_path / 'millpond.db'}")
    yield opened
    opened.close()


@pytest.fixture
def farm(database: Database, tmp_path: Path) -> Iterator[Farm]:
    made = Farm(database, tmp_path)
    yield made
    made.close()


def test_what_lies_on_the_own_disk_is_linked_and_nobody_is_asked(
    farm: Farm, tmp_path: Path
) -> None:
    farm.store.put(KEY, b"one")
    farm.nodes.nodes["a"].disk.put(b"one")
    farm.begin(KEY)
    farm.host.is_away = True
    assert farm.fetch(tmp_path / "first") == b"one"
    assert (tmp_path / "first").stat().st_nlink == 2
    assert farm.node.cache.held_bytes == 0


def test_the_next_copy_is_taken_when_a_node_is_gone_and_when_one_is_damaged(
    farm: Farm, tmp_path: Path
) -> None:
    farm.nodes.silent.add("a")  # So that both copies lie elsewhere.
    farm.nodes.hear(farm.store, 20)
    farm.store.put(KEY, b"one")
    first, second = farm.nodes.held(DIGEST)
    assert (first, second) == ("b", "c")
    path = farm.nodes.file(first, DIGEST)
    path.chmod(0o644)
    path.write_bytes(b"two")
    other = "projects/p1/data/other"
    farm.store.put(other, b"six")
    farm.node.begin(make_task(), KEY, other)
    assert farm.fetch(tmp_path / "damaged") == b"one"
    farm.nodes.nodes[first].stop()
    assert farm.fetch(tmp_path / "gone", other) == b"six"


def test_no_good_copy_is_told(farm: Farm, tmp_path: Path) -> None:
    farm.store.put(KEY, b"one")
    for name in farm.nodes.held(DIGEST):
        path = farm.nodes.file(name, DIGEST)
        path.chmod(0o644)
        path.write_bytes(b"two")
        if name == "a":
            path.unlink()
    farm.begin(KEY)
    with pytest.raises(BusyError, match="No copy of the object"):
        farm.fetch(tmp_path / "first")
    assert not (tmp_path / "first").exists()


def test_an_output_lies_on_the_own_disk_and_on_another_before_it_has_a_name(
    farm: Farm, tmp_path: Path
) -> None:
    farm.begin()
    stored = farm.publish(tmp_path, "scores.csv", b"one")
    held = farm.nodes.held(DIGEST)
    assert len(held) == 2
    assert "a" in held
    assert farm.store.get(stored.key) == b"one"
    assert farm.publish(tmp_path, "again.csv", b"one").digest == DIGEST
    with pytest.raises(ConflictError):
        farm.publish(tmp_path, "scores.csv", b"two")


def test_the_spare_takes_the_copy_of_a_node_that_is_gone(farm: Farm, tmp_path: Path) -> None:
    farm.begin()
    farm.publish(tmp_path, "first", b"one")
    (other,) = set(farm.nodes.held(DIGEST)) - {"a"}
    farm.nodes.nodes[other].stop()
    for number in range(8):  # Some of these would have gone to the one that is gone.
        content = b"%d" % number
        stored = farm.publish(tmp_path, f"more{number}", content)
        digest = hashlib.sha256(content).hexdigest()
        assert set(farm.nodes.held(digest)) == {"a", "b", "c"} - {other}
        assert farm.store.stat(stored.key).size == 1


def small(count: int) -> list[tuple[str, bytes]]:
    return [(f"part/{number}", b"%d" % number) for number in range(count)]


def check_small(farm: Farm, stored: list[Any], files: list[tuple[str, bytes]]) -> None:
    """All have names, in their order, and lie on the own disk and on one more."""
    assert [(each.path, each.size) for each in stored] == [(p, len(data)) for p, data in files]
    for each, (_, data) in zip(stored, files, strict=True):
        assert each.digest == hashlib.sha256(data).hexdigest()
        assert farm.store.get(each.key) == data
        assert len(farm.nodes.held(each.digest)) == 2


def test_small_outputs_go_in_one_call_to_each_of_two_nodes(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.begin()
    asked: list[str] = []
    ask = farm.node.door.ask

    def count(path: str, *more: Any) -> Any:
        asked.append(path)
        return ask(path, *more)

    monkeypatch.setattr(farm.node.door, "ask", count)
    files = [*small(300), ("same", b"7")]
    check_small(farm, farm.node.transfer.publish_small(PREFIX, files), files)
    assert asked == ["objects/place", "objects/commit"]
    again = farm.node.transfer.publish_small(PREFIX, files[:2])
    assert [each.path for each in again] == ["part/0", "part/1"]
    with pytest.raises(ConflictError):
        farm.node.transfer.publish_small(PREFIX, [("part/0", b"0"), ("part/1", b"other")])


def test_small_outputs_find_their_places_when_a_node_is_gone(farm: Farm) -> None:
    farm.begin()
    farm.nodes.nodes["b"].stop()
    for lead in ("x", "y", "z"):  # Some of these would have gone to the one that is gone.
        files = [(f"{lead}/{path}", data) for path, data in small(3)]
        check_small(farm, farm.node.transfer.publish_small(PREFIX, files), files)


def test_an_output_waits_while_there_is_one_node_only(farm: Farm, tmp_path: Path) -> None:
    farm.begin()
    farm.nodes.silent |= {"b", "c"}
    farm.nodes.hear(farm.store, 20)
    with pytest.raises(BusyError):
        farm.node.door.post(
            "objects/place",
            {
                "task": farm.node.transfer.token_of("r1/score/0/1"),
                "objects": [{"key": f"{PREFIX}/x", "size": 3, "digest": DIGEST}],
            },
        )
    assert not farm.store.exists(f"{PREFIX}/x")


def test_a_name_without_two_good_receipts_is_refused(farm: Farm) -> None:
    farm.begin()
    token = farm.node.transfer.token_of("r1/score/0/1")
    receipt = farm.nodes.nodes["a"].disk.put(b"one").to_json()
    new = {"key": f"{PREFIX}/x", "size": 3, "digest": DIGEST}
    facts = {"task": token, "objects": [new]}
    for receipts in ([], [receipt], [receipt, receipt], [receipt, {**receipt, "node": "b"}], [{}]):
        with pytest.raises(InvalidError):
            farm.node.door.post("objects/commit", {**facts, "receipts": receipts})
    both = [farm.nodes.nodes[name].disk.put(b"one").to_json() for name in ("a", "b")]
    other = {"key": f"{PREFIX}/y", "size": 3, "digest": hashlib.sha256(b"two").hexdigest()}
    with pytest.raises(InvalidError):  # They hold the first of the two only.
        farm.node.door.post("objects/commit", {**facts, "objects": [new, other], "receipts": both})
    assert not farm.store.exists(f"{PREFIX}/x")


def test_a_token_for_one_object_opens_no_other(farm: Farm, tmp_path: Path) -> None:
    farm.store.put(KEY, b"one")
    farm.store.put("projects/p2/secret", b"two")
    farm.begin(KEY)
    token, signature = farm.node.transfer.right_to(KEY)
    asked = {"task": token, "keys": [[KEY, signature]]}
    found = farm.node.door.post("objects/find", asked)["found"][KEY]
    secret = hashlib.sha256(b"two").hexdigest()
    for source in found["sources"]:
        target = farm.nodes.target(source["node"], "GET", DIGEST)
        stolen = type(target)(source["node"], source["url"], source["token"])
        with pytest.raises(NotAllowedError), farm.client.reading(stolen, secret) as pieces:
            list(pieces)


class Publishing:
    """Publishes from a thread, as a task does, and keeps what came of it."""

    def __init__(self, farm: Farm, folder: Path, content: bytes) -> None:
        self.fault: Exception | None = None
        self._thread = threading.Thread(target=self._publish, args=(farm, folder, content))
        self._thread.start()

    def _publish(self, farm: Farm, folder: Path, content: bytes) -> None:
        try:
            farm.publish(folder, "made", content)
        except BusyError as fault:
            self.fault = fault

    def ends(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def lose_two(farm: Farm) -> None:
    for name in ("b", "c"):
        farm.nodes.silent.add(name)
    farm.nodes.hear(farm.store, farm.store.ledger.pace.lost)
    farm.node.door._patience = 0.0  # So that only what waits for nodes goes on.


def test_outputs_wait_for_a_second_node_and_go_on_by_themselves(farm: Farm, tmp_path: Path) -> None:
    farm.begin()
    lose_two(farm)
    assert "one copy only: waiting for a second node with a data disk" in farm.store.shortage()
    publishing = Publishing(farm, tmp_path, b"one")
    assert not publishing.ends(1.5)  # It waits, although the door's patience is over.
    farm.nodes.silent.remove("b")
    farm.nodes.beat(farm.store)
    assert publishing.ends(20)
    assert publishing.fault is None
    assert farm.store.get(f"{PREFIX}/made") == b"one"
    assert farm.nodes.held(DIGEST) == ["a", "b"]


def test_a_task_that_is_stopped_waits_no_longer_and_leaves_nothing(
    farm: Farm, tmp_path: Path
) -> None:
    farm.begin()
    lose_two(farm)
    publishing = Publishing(farm, tmp_path, b"one")
    assert not publishing.ends(0.5)
    farm.node.transfer.stop(make_task().key)
    assert publishing.ends(10)
    assert publishing.fault is not None
    assert not farm.store.exists(f"{PREFIX}/made")
    with pytest.raises(BusyError, match="the host counts on it no more"):
        farm.publish(tmp_path, "made", b"one")


def test_nothing_is_taken_of_a_task_that_was_called_lost(farm: Farm, tmp_path: Path) -> None:
    """Also when its node has not heard of that."""
    farm.begin()
    farm.host.over.add(make_task().key)
    with pytest.raises(NotAllowedError, match="it was called lost there"):
        farm.publish(tmp_path, "made", b"one")
    assert not farm.store.exists(f"{PREFIX}/made")
    farm.node.transfer.append_log(PREFIX, 0, b"its last words")
    farm.node.transfer.end(make_task())
    assert farm.store.get(log_key(PREFIX, 0)) == b"its last words"
