"""What somebody with root on one node tries with the objects of all: lies, floods, others' copies."""

import asyncio
import hashlib
import os
import socket

import pytest
import sqlalchemy as sa

from millpond.ground.errors import InvalidError, MillpondError, NotAllowedError, NotFoundError
from millpond.storage.nodes import store as sql
from millpond.storage.nodes.client import NodeClient, NodeSilentError, read_inventory
from millpond.storage.nodes.disk import NodeDisk
from millpond.storage.nodes.receipts import ReceiptSigner
from millpond.storage.nodes.repair import Repairer
from millpond.storage.nodes.serving import DataServer
from millpond.storage.nodes.values import Held, Pace, Receipt, Target

DAY = 86_400


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


class LyingDisk(NodeDisk):
    """Says that it holds whatever it was asked to, and that all is well; gives what it likes."""

    claims: tuple[Held, ...] = ()

    def inventory(self, after=""):
        real = {each.digest: each for each in super().inventory(after)}
        yield from sorted({**real, **{each.digest: each for each in self.claims}}.values(), key=str)

    def check(self, digest):
        return True


@pytest.fixture
def nodes(tmp_path, nodes_authority, data_nodes_module):
    made = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    for name in ("n1", "n2"):
        made.add(name)
    made.add("liar", LyingDisk)
    yield made
    made.stop()


@pytest.fixture
def store(nodes, database, tmp_path):
    opened = nodes.store(database, tmp_path, pace=Pace(suspect=600, lost=900), cache=0)
    yield opened
    opened.close()


def find(store, key):
    return store.database.read(lambda tx: store.ledger.find(tx, [key]))[key]


def put_on(nodes, store, key, data):
    """Store an object while the liar is away, so that both copies are honest ones."""
    store.database.change(lambda tx: sql.update_place(tx, "liar", is_ok=False))
    store.put(key, data)
    nodes.beat(store)


@pytest.mark.parametrize("size", [3000, 9 << 20, 0])
def test_a_copy_that_a_node_only_claims_costs_no_honest_one(nodes, store, size):
    data = os.urandom(size)
    put_on(nodes, store, "k", data)
    nodes.nodes["liar"].disk.claims = (Held(digest_of(data), size),)
    repairer = Repairer(store)
    try:
        for _ in range(4):
            repairer.work_once()
            nodes.age(store, DAY)
        honest = [name for name in ("n1", "n2") if digest_of(data) in _names(nodes, name)]
        assert size == 0 or honest == ["n1", "n2"]
        nodes.nodes["liar"].stop()
        nodes.silent.add("liar")
        assert store.get("k") == data
    finally:
        repairer.stop()


def _names(nodes, name):
    return [each.digest for each in nodes.nodes[name].disk.inventory()]


def test_an_inventory_of_lies_fills_no_database(nodes, store, monkeypatch):
    monkeypatch.setattr("millpond.storage.nodes.repair._STRANGE_MOST", 2000)
    nodes.nodes["liar"].disk.claims = tuple(Held(f"{number:064x}", 1) for number in range(9000))
    repairer = Repairer(store)
    try:
        repairer.work_once()
        count = sa.text("SELECT count(*) FROM object_replica")
        assert store.database.read(lambda tx: tx.scalar(count)) <= 3000
    finally:
        repairer.stop()


@pytest.mark.parametrize(
    "said",
    [
        [b"x" * 200],
        [b"a" * 64],
        [b"a" * 64 + b" 1\n", b"a" * 64 + b" 1\n"],
        [b"b" * 64 + b" 1\n" + b"a" * 64 + b" 1\n"],
        [b"a" * 64 + b" " + b"9" * 5000 + b"\n"],
        [b"../../etc/passwd 1\n"],
        [b"\xff\xfe\n"],
    ],
)
def test_what_is_no_inventory_is_refused(said):
    with pytest.raises(NodeSilentError):
        list(read_inventory("liar", said))


def test_an_inventory_may_come_in_any_pieces():
    text = b"".join(f"{number:064x} {number}\n".encode() for number in range(50))
    for length in (1, 7, 65, 5000):
        said = [text[at : at + length] for at in range(0, len(text), length)]
        assert [each.size for each in read_inventory("n1", said)] == list(range(50))


class Endless:
    """A data route that answers every call with more than anybody can hold."""

    def __init__(self):
        self.was_heard_out = False

    async def __call__(self, scope, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"].endswith(("batch", "push")):
            start["headers"] = [(b"content-encoding", b"gzip")]
        await send(start)
        gone = asyncio.create_task(_until_gone(receive))
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"9" * (1 << 20), "more_body": True})
            await asyncio.sleep(0.001)
            if gone.done():
                return
        gone.cancel()
        self.was_heard_out = True


async def _until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def endless(nodes):
    app = Endless()
    listening = socket.create_server(("127.0.0.1", 0))
    server = DataServer(app, nodes.nodes["liar"].identity, listening)
    server.start()
    app.url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    yield app
    server.stop()
    listening.close()


@pytest.mark.parametrize("call", ["put", "put_many", "push", "inventory", "check"])
def test_an_answer_without_end_is_broken_off(nodes, endless, call):
    target = Target("liar", endless.url, "x")
    client = NodeClient(nodes.host)
    calls = {
        "put": lambda: client.put(target, b"x"),
        "put_many": lambda: client.put_many(target, [b"x"]),
        "push": lambda: client.push(target, "0" * 64, target),
        "inventory": lambda: list(client.inventory(target)),
        "check": lambda: client.check(target, "0" * 64),
    }
    try:
        with pytest.raises(NodeSilentError):
            calls[call]()
    finally:
        client.close()
    assert not endless.was_heard_out


@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_bytes_without_end_are_no_object(nodes, store, endless, size):
    data = os.urandom(size)
    put_on(nodes, store, "k", data)
    for name in ("n1", "n2"):
        nodes.silent.add(name)
    store.database.change(lambda tx: _claim(tx, digest_of(data), endless.url))
    with pytest.raises(MillpondError):
        b"".join(store.stream("k", 0, size))
    assert not endless.was_heard_out


def _claim(tx, digest, url):
    for name in ("n1", "n2"):
        sql.drop_replicas(tx, name, [digest])
    sql.put_replicas(tx, [(digest, "liar")], "ok")
    sql.update_place(tx, "liar", url=url)


# Receipts and tokens -------------------------------------------------------------------------------


def signer_of(nodes, certificate, name):
    return ReceiptSigner(nodes.nodes[certificate].identity, name)


def test_receipts_of_others_cannot_be_made(nodes, store):
    digest = digest_of(b"never sent")
    own = signer_of(nodes, "liar", "liar").sign([(digest, 10)])
    forged = signer_of(nodes, "liar", "n1").sign([(digest, 10)])
    real = nodes.nodes["n1"].disk
    other = ReceiptSigner(nodes.nodes["n1"].identity, "n1").sign([(digest_of(b""), 0)])
    changed = Receipt(other.node, ((digest, 10),), other.at, other.certificate, other.signature)
    swapped = Receipt("n1", own.objects, own.at, other.certificate, own.signature)
    assert real.node == "n1"
    for second in (own, forged, changed, swapped):
        with pytest.raises(InvalidError):
            store.database.change(
                lambda tx, second=second: store.ledger.commit(
                    tx, {"k": (digest, 10)}, [own, second]
                )
            )
    assert not store.exists("k")


def test_a_permit_is_good_for_one_node_one_digest_and_one_thing(nodes, store):
    data = os.urandom(500)
    put_on(nodes, store, "k", data)
    digest, client = digest_of(data), NodeClient(nodes.nodes["liar"].identity)
    try:
        mine = nodes.target("liar", "GET", digest)
        stolen = Target("n1", nodes.nodes["n1"].url, mine.token)
        put = nodes.target("n1", "PUT", digest_of(b"mine"))
        for target in (stolen, put, Target("n1", stolen.url, "x")):
            with pytest.raises(NotAllowedError), client.reading(target, digest):
                pass
            with pytest.raises(NotAllowedError):
                client.delete(target, digest)
            with pytest.raises(NotAllowedError):
                list(client.inventory(target))
        with pytest.raises(InvalidError):
            client.put(put, b"other bytes")
    finally:
        client.close()


@pytest.mark.parametrize("name", ["..", "%2e%2e", "../disk.json", "%2e%2e%2fdisk.json", "A" * 64])
def test_no_name_leads_out_of_the_disk(nodes, name):
    client = NodeClient(nodes.nodes["liar"].identity)
    try:
        with (
            pytest.raises((InvalidError, NotFoundError, NotAllowedError)),
            client.reading(nodes.target("n1", "GET"), name) as pieces,
        ):
            b"".join(pieces)
    finally:
        client.close()
