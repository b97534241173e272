"""The server's side of the store on the nodes, with nodes that are well."""

import asyncio
import hashlib
import io
import os
import re
import time

import httpx
import pytest

from millpond.ground.errors import BusyError
from millpond.ground.settings import ClusterSettings, ObjectsSettings
from millpond.storage.looking import look_at_objects
from millpond.storage.nodes import copying
from millpond.storage.nodes import store as sql
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.counting import Copies, CopyCount
from millpond.storage.nodes.disk import Incoming, NodeDisk
from millpond.storage.opening import open_nodes
from millpond.storage.routes import routes
from millpond.web.frame import build_frame

MIB = 1 << 20
one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


class Counting(NodeClient):
    """Counts its calls."""

    calls = 0

    def _ask(self, *words, **rest):
        self.calls += 1
        return super()._ask(*words, **rest)


def test_the_bytes_lie_on_two_nodes_by_their_digest(nodes_store, three_nodes):
    data = os.urandom(5000)
    nodes_store.put("a/b", data)
    held = three_nodes.held(digest_of(data))
    assert len(held) == 2
    holds = nodes_store.holds(["a/b", "not/there"])
    assert holds == {"a/b": dict.fromkeys(held, 5000)}
    nodes_store.put("same", data)
    nodes_store.put_many([("again", data)])
    assert three_nodes.held(digest_of(data)) == held


@pytest.mark.slow
def test_many_small_files_take_few_calls(nodes_store, three_nodes):
    client = Counting(three_nodes.host)
    nodes_store._copier._client = client
    try:
        nodes_store.put_many((f"f/{number:05}", b"%d" % number) for number in range(4_000))
    finally:
        client.close()
    assert client.calls <= 4
    assert sum(1 for _ in nodes_store.list("f/")) == 4_000
    assert nodes_store.get("f/03999") == b"3999"


def test_logs_stay_on_the_host(nodes_store, three_nodes, tmp_path):
    nodes_store.put("runs/r1/t.log/00000000", b"line")
    nodes_store.put_many([("runs/r1/t.log/00000001", b"more")])
    assert (tmp_path / "host-objects/objects/runs/r1/t.log/00000001").read_bytes() == b"more"
    assert three_nodes.held(digest_of(b"line")) == []
    assert nodes_store.local_path("runs/r1/t.log/00000000").read_bytes() == b"line"
    assert [info.key for info in nodes_store.list("runs/r1/t.log/", "runs/r1/t.log/00000000")] == [
        "runs/r1/t.log/00000001"
    ]


def test_what_lay_on_the_host_before_is_still_there(nodes_store):
    nodes_store._host.put("old/one", b"old")
    nodes_store.put("new/one", b"new")
    assert nodes_store.get("old/one") == b"old"
    assert [info.key for info in nodes_store.list("")] == ["new/one", "old/one"]
    assert nodes_store.stat("old/one").size == 3
    nodes_store.put_many([("old/one", b"never")])
    nodes_store.put("old/one", b"newer", overwrite=True)
    assert nodes_store.get("old/one") == b"newer"
    assert [info.size for info in nodes_store.list("old/")] == [5]
    nodes_store.delete("old/one")
    assert not nodes_store.exists("old/one")


@one_database
def test_what_is_fetched_stays_on_the_host_within_bounds(three_nodes, database, tmp_path):
    store = three_nodes.store(database, tmp_path, cache=4 * MIB)
    try:
        data = {f"k{number}": os.urandom(MIB // 2) for number in range(12)}
        for key, value in data.items():
            store.put(key, value)
            assert store.local_path(key) is None
            assert store.get(key) == value
        folder = tmp_path / "host-cache"
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * MIB
        assert store.local_path("k0") is None  # Gave way.
        assert store.local_path("k11").read_bytes() == data["k11"]
        assert b"".join(store.stream("k11", 3, 4)) == data["k11"][3:7]
        large = os.urandom(12 * MIB)
        store.put("large", io.BytesIO(large))
        assert b"".join(store.stream("large")) == large
        assert store.local_path("large") is None  # More than its share.
    finally:
        store.close()


def test_a_cache_keeps_what_is_held_and_nothing_that_is_wrong(tmp_path):
    cache = HostCache(tmp_path / "cache", 40)
    first = digest_of(b"1" * 10)
    cache.put(first, b"1" * 10)
    held = cache.hold(first)
    for number in range(2, 9):
        data = b"%d" % number * 10
        cache.put(digest_of(data), data)
    assert held.read_bytes() == b"1" * 10
    with cache.adding("0" * 64) as filling:
        filling.write(b"other")
        filling.end()
    assert cache.open("0" * 64) is None
    assert not cache.takes(11)
    again = HostCache(tmp_path / "cache", 40)
    assert again.open(first) is None


@one_database
def test_signed_addresses_are_served_piece_by_piece(nodes_store, database):
    app = build_frame(database, lambda *_: None, streams=re.compile("^/objects/"))
    app.include_router(routes(nodes_store))

    def ask(method, url, **rest):
        async def go():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
                return await http.request(method, url, **rest)

        return asyncio.run(go())

    data = os.urandom(10 * MIB)
    nodes_store.put("big", io.BytesIO(data))
    url = nodes_store.sign("big", seconds=60)
    assert ask("GET", url).content == data
    for asked, start, end in (("2-4", 2, 5), (f"{9 * MIB}-", 9 * MIB, 10 * MIB), ("-3", -3, None)):
        part = ask("GET", url, headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, data[start:end])
    assert part.headers["content-range"] == f"bytes {len(data) - 3}-{len(data) - 1}/{len(data)}"
    head = ask("HEAD", url)
    assert head.headers["content-length"] == str(len(data))
    assert ask("GET", url, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    put = nodes_store.sign("left", method="PUT", seconds=60)
    assert ask("PUT", put, content=b"left").status_code == 200
    assert nodes_store.get("left") == b"left"
    assert ask("GET", nodes_store.sign("gone")).status_code == 404
    assert ask("GET", url.replace("/big?", "/left?")).status_code == 403


def test_without_nodes_nothing_is_taken_and_health_says_so(
    tmp_path, database, nodes_authority, three_nodes
):
    store = open_nodes(
        ObjectsSettings(kind="nodes"),
        ClusterSettings(),
        tmp_path,
        "http://m",
        database=database,
        identity=three_nodes.host,
    )
    try:
        with pytest.raises(BusyError, match="none has joined"):
            store.put("a", b"x")
        assert not store.exists("a")
        found = list(look_at_objects(store))
        assert [(one.name, one.state) for one in found] == [
            ("outputs", "warning"),
            ("copies", "ok"),
        ]
        assert "0 of 0 nodes up" in found[1].meaning
    finally:
        store.close()


def test_health_tells_what_is_at_risk(nodes_store, three_nodes):
    nodes_store.put("a", b"some bytes")
    for node in three_nodes.nodes.values():
        node.epoch(1000)  # They were used with a later database: ours looks like a restored one.
    three_nodes.beat(nodes_store)
    assert [one.name for one in look_at_objects(nodes_store)] == ["backup", "copies"]
    nodes_store.database.change(nodes_store.ledger.confirm)
    assert [one.state for one in look_at_objects(nodes_store)] == ["ok"]
    found = nodes_store.database.read(lambda tx: nodes_store.ledger.find(tx, ["a"]))["a"]
    drop = lambda node: nodes_store.database.change(  # noqa: E731
        lambda tx: sql.drop_replicas(tx, node, [found.digest])
    )
    now = [0.0]
    counting = CopyCount(nodes_store.ledger, lambda: now[0])
    count = lambda: nodes_store.database.read(counting.look)  # noqa: E731
    assert count() == Copies(few=0, none=0)
    drop(found.nodes[0])
    shown = next(iter(look_at_objects(nodes_store)))
    assert (shown.state, shown.meaning) == ("warning", "1 objects have one copy only")
    assert count() == Copies(few=0, none=0), "it is counted once a minute"
    now[0] += 60
    assert count() == Copies(few=1, none=0)
    drop(found.nodes[1])
    shown = next(iter(look_at_objects(nodes_store)))
    assert shown.state == "fault"
    assert shown.meaning.endswith(": a")
    now[0] += 60
    assert count().none == 1


class SlowDisk(NodeDisk):
    """As a disk that has much else to do."""

    def receive(self, size_most, digest=None):
        time.sleep(1.0)  # The fault itself.
        return super().receive(size_most, digest)


@one_database
def test_slow_nodes_are_waited_for_where_there_are_no_others(
    tmp_path, database, nodes_authority, data_nodes_module, monkeypatch
):
    monkeypatch.setattr(copying, "receipt_seconds", lambda size: 0.3)
    nodes = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    for name in ("n1", "n2", "n3"):
        nodes.add(name, SlowDisk)
    store = nodes.store(database, tmp_path)
    try:
        store.put("a", b"some bytes")
        assert store.get("a") == b"some bytes"
        assert len(nodes.held(digest_of(b"some bytes"))) >= 2
    finally:
        store.close()
        nodes.stop()


class FlippingIncoming(Incoming):
    """Changes a bit of what comes in."""

    def write(self, data):
        changed = bytearray(data)
        changed[0] ^= 1
        super().write(changed)


class FlippingDisk(NodeDisk):
    """In TLS nothing changes on the way; memory that flips a bit looks just like it."""

    def receive(self, size_most, digest=None):
        return FlippingIncoming(self, size_most, digest)


def test_bytes_that_change_on_the_way_are_noticed_and_left_elsewhere(
    tmp_path, database, nodes_authority, data_nodes_module
):
    nodes = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    try:
        nodes.add("n1", FlippingDisk)
        nodes.add("n2")
        nodes.add("n3")
        store = nodes.store(database, tmp_path)
        for number in range(6):
            data = os.urandom(500)
            store.put(f"k{number}", data)
            assert nodes.held(digest_of(data)) == ["n2", "n3"]
        large = os.urandom(10 * MIB)
        store.put("large", io.BytesIO(large))
        assert nodes.held(digest_of(large)) == ["n2", "n3"]
        store.close()
    finally:
        nodes.stop()
