"""A node's disk and its data route: who comes in, what is taken, what is given."""

import hashlib
import os
import resource
import ssl
import threading
from contextlib import contextmanager

import httpx
import pytest

from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
)
from millpond.ground.tls import Identity, node_host_name
from millpond.storage.nodes import tokens
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import NodeClient, NodeSilentError, split_batch
from millpond.storage.nodes.disk import EPOCH_SLACK, NodeDisk
from millpond.storage.nodes.mount import DiskGoneError, NoSpaceError
from millpond.storage.nodes.receipts import ReceiptChecker, ReceiptSigner
from millpond.storage.nodes.scrubbing import Scrubbed, Scrubber
from millpond.storage.nodes.values import Target, Waits


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def nodes(tmp_path, nodes_authority, data_nodes_module):
    made = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    made.add("n1")
    yield made
    made.stop()


@pytest.fixture
def client(nodes):
    opened = NodeClient(nodes.host, Waits(connect=1.0, answer=5.0, flush=20.0))
    yield opened
    opened.close()


def read(client, target, digest, start=0, length=None):
    with client.reading(target, digest, start, length) as pieces:
        return b"".join(pieces)


def test_takes_gives_checks_and_deletes(nodes, client, nodes_authority):
    data = os.urandom(3 << 20)
    digest = digest_of(data)
    receipt = client.put(nodes.target("n1", "PUT"), data)
    assert receipt.objects == ((digest, len(data)),)
    ReceiptChecker(nodes_authority.path).check(receipt)
    get = nodes.target("n1", "GET", digest)
    assert read(client, get, digest) == data
    assert read(client, get, digest, 5, 10) == data[5:15]
    assert read(client, get, digest, len(data) - 3, 10) == data[-3:]
    assert client.check(nodes.target("n1", "CHECK", digest), digest)
    again = client.put(nodes.target("n1", "PUT", digest), iter([data[:7], data[7:]]))
    assert again.objects == receipt.objects
    client.delete(nodes.target("n1", "DELETE", digest), digest)
    client.delete(nodes.target("n1", "DELETE", digest), digest)
    with pytest.raises(NotFoundError):
        read(client, get, digest)
    assert not client.check(nodes.target("n1", "CHECK", digest), digest)


def test_an_empty_object_is_one_too(nodes, client):
    receipt = client.put(nodes.target("n1", "PUT"), b"")
    digest = digest_of(b"")
    assert receipt.objects == ((digest, 0),)
    assert read(client, nodes.target("n1", "GET", digest), digest) == b""


def test_many_small_ones_come_in_one_call_with_one_receipt(nodes, client, nodes_authority):
    objects = [b"", b"a", b"a", os.urandom(1000), b"x" * 70_000]
    receipt = client.put_many(nodes.target("n1", "PUT"), objects)
    ReceiptChecker(nodes_authority.path).check(receipt)
    assert [size for _, size in receipt.objects] == [0, 1, 1, 1000, 70_000]
    held = list(client.inventory(nodes.target("n1", "INVENTORY")))
    assert [each.digest for each in held] == sorted({digest_of(each) for each in objects})
    half = [
        each.digest for each in client.inventory(nodes.target("n1", "INVENTORY"), held[1].digest)
    ]
    assert half == [each.digest for each in held[2:]]


def test_bytes_that_do_not_match_their_digest_are_refused_and_leave_nothing(nodes, client):
    with pytest.raises(InvalidError, match="do not match"):
        client.put(nodes.target("n1", "PUT", digest_of(b"right")), b"wrong")
    assert list(client.inventory(nodes.target("n1", "INVENTORY"))) == []
    assert list((nodes.folder / "n1/disk/tmp").iterdir()) == []


def test_more_than_the_token_allows_is_refused_on_the_way(nodes, client):
    with pytest.raises(TooLargeError, match="More than the 1,000 bytes"):
        client.put(nodes.target("n1", "PUT", size=1000), iter([b"x" * 600] * 2))
    with pytest.raises(TooLargeError):
        client.put_many(nodes.target("n1", "PUT", size=1000), [b"x" * 600] * 2)
    assert list((nodes.folder / "n1/disk/tmp").iterdir()) == []


def test_each_token_opens_its_own_door_only(nodes, client):
    digest = digest_of(b"mine")
    client.put(nodes.target("n1", "PUT"), b"mine")
    get = nodes.target("n1", "GET", digest)
    with pytest.raises(NotAllowedError, match="allows GET"):
        client.put(get, b"more")
    with pytest.raises(NotAllowedError, match="allows GET"):
        client.delete(get, digest)
    with pytest.raises(NotAllowedError, match="another object"):
        read(client, nodes.target("n1", "GET", digest_of(b"yours")), digest)
    with pytest.raises(NotAllowedError, match="signature is wrong"):
        read(client, Target("n1", get.url, get.token[:-8] + "AAAAAAAA"), digest)
    nodes.prepare("n2")
    foreign = nodes.signer.sign(tokens.Token("GET", digest, 0, "n2", 1 << 40))
    with pytest.raises(NotAllowedError, match="for the node 'n2'"):
        read(client, Target("n1", get.url, foreign), digest)
    assert read(client, get, digest) == b"mine"


def test_nobody_comes_in_without_a_certificate_of_ours(nodes, client, nodes_authority):
    digest = digest_of(b"mine")
    client.put(nodes.target("n1", "PUT"), b"mine")
    target = nodes.target("n1", "GET", digest)
    context = ssl.create_default_context(cafile=str(nodes_authority.path))
    with httpx.Client(verify=context, trust_env=False) as http, pytest.raises(httpx.TransportError):
        http.get(
            f"{target.url}/data/{digest}",
            headers=tokens.header(target.token),
            extensions={"sni_hostname": node_host_name("n1")},
        )


def test_a_revoked_caller_is_refused_and_another_node_with_a_token_is_not(nodes, client):
    digest = digest_of(b"mine")
    client.put(nodes.target("n1", "PUT"), b"mine")
    folder = nodes.prepare("n2")
    own = Identity(folder / "node.crt", folder / "node.key", folder / "authority.crt")
    caller = NodeClient(own)
    try:
        assert read(caller, nodes.target("n1", "GET", digest), digest) == b"mine"
        from_file = ssl._ssl._test_decode_cert(str(own.certificate))
        nodes.nodes["n1"].revoked.add(from_file["serialNumber"].upper())
        with pytest.raises(NotAllowedError, match="revoked"):
            read(caller, nodes.target("n1", "GET", digest), digest)
    finally:
        caller.close()


def test_a_node_at_anothers_address_is_not_believed(nodes, client):
    target = nodes.target("n1", "GET")
    with pytest.raises(NodeSilentError, match=r"(?i)hostname|certificate"):
        read(client, Target("n9", target.url, target.token), digest_of(b""))


def test_a_copy_goes_from_node_to_node_and_a_damaged_one_does_not(nodes, client, nodes_authority):
    nodes.add("n2")
    data = os.urandom(100_000)
    digest = digest_of(data)
    client.put(nodes.target("n1", "PUT"), data)
    receipt = client.push(
        nodes.target("n1", "PUSH", digest), digest, nodes.target("n2", "PUT", digest)
    )
    assert receipt.node == "n2"
    assert nodes.held(digest) == ["n1", "n2"]
    nodes.file("n2", digest).unlink()
    nodes.file("n1", digest).write_bytes(b"?" * len(data))
    with pytest.raises(NotFoundError, match="no good copy"):
        client.push(nodes.target("n1", "PUSH", digest), digest, nodes.target("n2", "PUT", digest))
    assert nodes.held(digest) == []
    assert nodes.nodes["n1"].look().set_aside == 1
    with pytest.raises(NotFoundError):
        client.push(nodes.target("n1", "PUSH", digest), digest, nodes.target("n2", "PUT", digest))


def test_what_was_left_lately_and_what_an_older_database_names_is_not_deleted(
    nodes, client, data_nodes_module
):
    client.put(nodes.target("n1", "PUT"), b"data")
    digest = digest_of(b"data")
    node = nodes.nodes["n1"]
    node.disk._lease = 3600.0
    with pytest.raises(ConflictError, match="lately"):
        client.delete(nodes.target("n1", "DELETE", digest), digest)
    node.disk._lease = 0.0
    node.epoch(EPOCH_SLACK + 5)
    with pytest.raises(ConflictError, match="remembers more"):
        client.delete(nodes.target("n1", "DELETE", digest), digest)
    node.epoch(3)  # Never back.
    assert node.disk.look().epoch == EPOCH_SLACK + 5
    assert node.disk.path(digest).exists()


def test_a_range_beyond_the_end_and_odd_addresses_are_told(nodes, client):
    digest = digest_of(b"abc")
    client.put(nodes.target("n1", "PUT"), b"abc")
    with pytest.raises(Exception, match="416"):
        read(client, nodes.target("n1", "GET", digest), digest, 3, 1)
    with pytest.raises(NotFoundError):
        read(client, nodes.target("n1", "GET"), "..%2F..%2Fdisk.json")
    with pytest.raises(InvalidError, match="no digest"):
        read(client, nodes.target("n1", "GET"), digest.upper())


def test_a_disk_keeps_its_id_and_another_is_refused(nodes, tmp_path, data_nodes_module):
    disk = nodes.nodes["n1"].disk
    facts = disk.look()
    assert facts.is_ok
    assert facts.disk == (nodes.folder / "n1/disk.id").read_text()
    assert 0 < facts.free_bytes < facts.total_bytes
    signer = ReceiptSigner(nodes.nodes["n1"].identity, "n1")
    other = NodeDisk(tmp_path / "other", signer, remembered=tmp_path / "other.id")
    (tmp_path / "other" / "disk.json").rename(nodes.folder / "n1/disk/disk.json")
    facts = disk.look()
    assert not facts.is_ok
    assert "is on another one" in facts.reason
    with pytest.raises(DiskGoneError):
        disk.put(b"x")
    assert not other.look().is_ok


def test_the_free_mark_refuses_new_bytes_and_serves_the_old(nodes, tmp_path):
    signer = ReceiptSigner(nodes.nodes["n1"].identity, "n1")
    full = NodeDisk(
        tmp_path / "full", signer, remembered=tmp_path / "full.id", free_least_bytes=1 << 60
    )
    facts = full.look()
    assert facts.is_ok
    assert facts.free_bytes == 0
    with pytest.raises(NoSpaceError, match="no room"):
        full.put(b"x")
    with pytest.raises(NoSpaceError):
        full.put_many([b"x"])


def test_a_disk_that_can_not_be_written_is_told(nodes):
    if os.geteuid() == 0:
        nodes.nodes["n1"].disk._mount.temporary = nodes.folder / "n1/disk/disk.json"
    else:
        (nodes.folder / "n1/disk/tmp").chmod(0o500)
    facts = nodes.nodes["n1"].look()
    assert not facts.is_ok
    assert str(nodes.folder / "n1/disk") in facts.reason


def test_several_writers_of_the_same_bytes_all_get_a_receipt(nodes, client):
    data, receipts = os.urandom(1 << 20), []
    barrier = threading.Barrier(6)

    def write():
        barrier.wait()
        receipts.append(client.put(nodes.target("n1", "PUT"), data))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.objects for each in receipts} == {((digest_of(data), len(data)),)}
    assert len(receipts) == 6
    assert list((nodes.folder / "n1/disk/tmp").iterdir()) == []


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\5abc", b"\0\0\0\1ab"])
def test_a_batch_that_is_cut_off_is_refused(body):
    with pytest.raises(ValueError, match="cut off"):
        split_batch(body)


@contextmanager
def full_after(size):
    """Let files grow no further: as on a disk that fills up, what fits is taken without a word."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_receipt_for_what_the_disk_took_in_part(tmp_path, nodes_authority, data_nodes_module):
    nodes = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    nodes.prepare("n1")
    disk = data_nodes_module.open_disk(tmp_path / "n1", "n1")
    data = os.urandom(50_000)
    for leave in (lambda: disk.put(data), lambda: disk.put_many([b"small", data])):
        with full_after(30_000), pytest.raises(NoSpaceError):
            leave()
        assert list(disk.inventory()) == []
        assert list((tmp_path / "n1/disk/tmp").iterdir()) == []
    disk.put(data)
    assert [each.size for each in disk.inventory()] == [50_000]


def test_a_cache_keeps_nothing_that_its_disk_took_in_part(tmp_path):
    cache, data = HostCache(tmp_path / "cache", 1 << 20), os.urandom(50_000)
    with full_after(30_000), cache.adding(digest_of(data)) as filling:
        filling.write(data)
        filling.end()
    assert cache.open(digest_of(data)) is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_large_object_is_waited_for_while_a_node_reads_it_through(nodes):
    nodes.add("n2")
    client = NodeClient(nodes.host, Waits(connect=1.0, answer=5.0, flush=0.01))
    data = os.urandom(48 << 20)
    digest, size = digest_of(data), len(data)
    nodes.nodes["n1"].disk.put(data)
    check, push = (nodes.target("n1", method, digest) for method in ("CHECK", "PUSH"))
    onward = nodes.target("n2", "PUT", digest)
    try:
        with pytest.raises(NodeSilentError, match="timed out"):
            client.check(check, digest)
        assert client.check(check, digest, size)
        assert client.push(push, digest, onward, size).objects == ((digest, size),)
    finally:
        client.close()


def test_a_disk_is_read_through_once_from_wherever_it_begins(
    tmp_path, nodes_authority, data_nodes_module
):
    nodes = data_nodes_module.DataNodes(tmp_path, nodes_authority)
    nodes.prepare("n1")
    disk = data_nodes_module.open_disk(tmp_path / "n1", "n1")
    disk.put_many([os.urandom(10) for _ in range(300)])
    rotten = [each.digest for each in disk.inventory()][::100]
    for digest in rotten:
        nodes.file("n1", digest).write_bytes(b"rotten")
    scrubber = Scrubber(disk, least_bytes_per_second=1 << 40)
    assert scrubber.work_once() == Scrubbed(300, 3)
    for _ in range(5):
        assert scrubber.work_once() == Scrubbed(297, 0)
    assert len(list((tmp_path / "n1/disk/bad").iterdir())) == 3
