"""Tasks' bytes on a node: through a real door over mutual TLS, from each kind of store."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from millpond.engine.cluster import grants
from millpond.engine.cluster.cache import Cache
from millpond.engine.cluster.door import Door, HostAwayError
from millpond.engine.cluster.spool import Spool
from millpond.engine.cluster.transfer import DoorTransfer
from millpond.engine.values import Entry, StagedInput, TaskProgress, TaskSpec, log_key
from millpond.ground.clock import SystemClock
from millpond.ground.errors import BusyError, ConflictError, NotAllowedError, NotFoundError
from millpond.ground.tls import Identity
from millpond.machines.authority import Authority, make_key, make_request
from millpond.machines.door import data
from millpond.machines.door.desks import AddressDesk, Desk
from millpond.storage import routes as object_routes
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.serving import DataServer
from millpond.storage.port import ObjectStore
from millpond.web.frame import build_frame
from millpond.web.serving import listen

SECRET = b"s" * 32
PREFIX = "projects/p1/runs/r1/score/0/1"
DIGEST = hashlib.sha256(b"one").hexdigest()


def make_identity(authority: Authority, folder: Path, role: str, name: str) -> Identity:
    folder.mkdir()
    key = make_key(folder / "key")
    issued = authority.sign(make_request(key), role, name, ["127.0.0.1"], datetime.now(UTC))
    (folder / "crt").write_bytes(issued.pem)
    return Identity(folder / "crt", folder / "key", authority.path)


class Host:
    """A door, on a listener of its own."""

    def __init__(self, objects: ObjectStore, desk: Desk, identity: Identity) -> None:
        self.objects, self.news, self.locks = objects, [], {}
        self.running, self.over = set(), set()  # Keys of tasks.
        tools = data.DataTools(
            SECRET,
            desk,
            objects,
            SystemClock(),
            self.news.append,
            self.locks.get,
            lambda key, node: node == "mill" and key in self.running,
            lambda key, _node: key in self.over,
        )
        self._app = build_frame(None, lambda *_: None, streams=re.compile(""))  # As the door.
        self._app.include_router(data.routes(tools), prefix="/door/v1")
        if isinstance(objects, FolderStore):
            self._app.include_router(object_routes.routes(objects))
        self.is_away = False
        self._listening = listen("127.0.0.1", 0)
        self.port = self._listening.getsockname()[1]
        self._server = DataServer(self, identity, self._listening)
        self._server.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; while it is away, only as a proxy before it would."""
        app = PlainTextResponse("away", 502) if self.is_away else self._app
        await app(scope, receive, send)

    def close(self) -> None:
        self._server.stop()
        self._listening.close()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", datetime.now(UTC))


@pytest.fixture(params=["folder_store", "ministack_store"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    return request.getfixturevalue(request.param)


@pytest.fixture
def host(tmp_path: Path, authority: Authority, objects: ObjectStore) -> Iterator[Host]:
    identity = make_identity(authority, tmp_path / "host", "host", "here")
    opened = Host(objects, AddressDesk(objects), identity)
    yield opened
    opened.close()


class Node:
    """A node's transfer, with the folders it uses."""

    def __init__(self, name: str, host: Host, identity: Identity, folder: Path) -> None:
        self.name = name
        self.door = Door(host.url, identity, patience_seconds=20)
        self.cache = Cache(folder / "cache", 1 << 20)
        self.transfer = DoorTransfer(
            self.door,
            self.cache,
            lambda send: Spool(folder / "spool", send, pause_seconds=0.05),
            NodeClient(identity),
            settle_seconds=20,
        )

    def begin(self, task: TaskSpec, *names: str, node: str = "", hours_ago: int = 0) -> None:
        token = grants.sign_token(
            SECRET,
            key=task.key,
            node=node or self.name,
            prefix=task.output_prefix,
            project_id=task.project_id,
            now=datetime.now(UTC) - timedelta(hours=hours_ago),
        )
        reads = {name: grants.sign_read(SECRET, task.key, name) for name in names}
        self.transfer.begin(task, {"task": token.to_json(), "reads": reads})

    def close(self) -> None:
        self.transfer.close()
        self.door.close()


@pytest.fixture
def node(tmp_path: Path, authority: Authority, host: Host) -> Iterator[Node]:
    identity = make_identity(authority, tmp_path / "node", "node", "mill")
    opened = Node("mill", host, identity, tmp_path / "node")
    yield opened
    opened.close()


def make_task(*inputs: StagedInput, prefix: str = PREFIX, number: int = 1) -> TaskSpec:
    return TaskSpec(
        key=f"r1/score/0/{number}",
        user_id="u1",
        project_id="p1",
        entry=Entry(command=("true",)),
        output_prefix=prefix,
        inputs=inputs,
    )


def fetch(node: Node, key: str, target: Path, size: int) -> bytes:
    node.transfer.fetch(f"object:{key}", os.fsencode(target), size)
    return target.read_bytes()


def publish(node: Node, tmp_path: Path, path: str, content: bytes, prefix: str = PREFIX):
    file = tmp_path / "out"
    file.write_bytes(content)
    with file.open("rb") as opened:
        return node.transfer.publish(prefix, path, opened.fileno(), len(content))


def test_an_input_is_fetched_once_and_then_comes_from_the_cache(
    host: Host, node: Node, tmp_path: Path
) -> None:
    host.objects.put("projects/p1/data/one", b"one")
    task = make_task(StagedInput("in/one", "object:projects/p1/data/one", 3, DIGEST))
    node.begin(task, "projects/p1/data/one")
    assert fetch(node, "projects/p1/data/one", tmp_path / "first", 3) == b"one"
    assert (tmp_path / "first").stat().st_mode & 0o777 == 0o444
    host.objects.delete("projects/p1/data/one")
    assert fetch(node, "projects/p1/data/one", tmp_path / "second", 3) == b"one"
    assert node.cache.held_bytes == 3


def test_small_outputs_go_one_by_one_where_no_node_keeps_them(host: Host, node: Node) -> None:
    node.begin(make_task())
    stored = node.transfer.publish_small(PREFIX, [("one", b"1"), ("two", b"22"), ("none", b"")])
    assert [host.objects.get(each.key) for each in stored] == [b"1", b"22", b""]
    assert [each.size for each in stored] == [1, 2, 0]
    assert [each.path for each in stored] == ["one", "two", "none"]


def test_an_input_of_unknown_digest_is_fetched_and_its_size_is_checked(
    host: Host, node: Node, tmp_path: Path
) -> None:
    host.objects.put("projects/p1/data/one", b"one")
    node.begin(make_task(), "projects/p1/data/one")
    assert fetch(node, "projects/p1/data/one", tmp_path / "first", 3) == b"one"
    with pytest.raises((NotFoundError, BusyError)):
        fetch(node, "projects/p1/data/one", tmp_path / "other", 4)
    assert not (tmp_path / "other").exists()


def test_bytes_that_do_not_match_their_digest_are_refused(
    host: Host, node: Node, tmp_path: Path
) -> None:
    host.objects.put("projects/p1/data/one", b"two")
    task = make_task(StagedInput("in/one", "object:projects/p1/data/one", 3, DIGEST))
    node.begin(task, "projects/p1/data/one")
    with pytest.raises(BusyError, match="not those of the object"):
        fetch(node, "projects/p1/data/one", tmp_path / "first", 3)
    assert not (tmp_path / "first").exists()


def test_an_object_that_is_not_there_is_not_found(node: Node, tmp_path: Path) -> None:
    node.begin(make_task(), "projects/p1/data/none")
    with pytest.raises((NotFoundError, BusyError), match="projects/p1/data/none"):
        fetch(node, "projects/p1/data/none", tmp_path / "first", 3)


def test_an_output_is_published_once(host: Host, node: Node, tmp_path: Path) -> None:
    node.begin(make_task())
    stored = publish(node, tmp_path, "scores/a b.csv", b"one")
    assert (stored.key, stored.size, stored.digest) == (f"{PREFIX}/scores/a=20b.csv", 3, DIGEST)
    assert host.objects.get(stored.key) == b"one"
    assert publish(node, tmp_path, "empty", b"").size == 0


def test_a_second_output_of_one_path_is_refused(
    tmp_path: Path, authority: Authority, folder_store: FolderStore
) -> None:
    host = Host(
        folder_store,
        AddressDesk(folder_store),
        make_identity(authority, tmp_path / "host", "host", "here"),
    )
    node = Node(
        "mill", host, make_identity(authority, tmp_path / "node", "node", "mill"), tmp_path / "node"
    )
    try:
        node.begin(make_task())
        publish(node, tmp_path, "a", b"one")
        with pytest.raises(ConflictError):
            publish(node, tmp_path, "a", b"two")
    finally:
        node.close()
        host.close()


def test_a_curious_node_reads_and_writes_nothing_but_its_tasks(
    host: Host, node: Node, tmp_path: Path
) -> None:
    host.objects.put("projects/p2/secret", b"one")
    task = make_task()
    node.begin(task, "projects/p1/data/one")
    with pytest.raises(NotAllowedError, match="may read"):
        fetch(node, "projects/p2/secret", tmp_path / "first", 3)
    held = node.transfer.right_to("projects/p1/data/one")
    asked = {"task": held[0], "keys": [["projects/p2/secret", held[1]]]}
    with pytest.raises(NotAllowedError, match="may not read"):
        node.door.post("objects/find", asked)
    for key in ("projects/p2/x", f"{PREFIX}/../2/x", f"{PREFIX}0/x", PREFIX):
        new = [{"key": each, "size": 3, "digest": DIGEST} for each in (f"{PREFIX}/x", key)]
        for call in ("place", "commit"):
            for objects in (new, new[1:]):
                with pytest.raises(NotAllowedError):
                    node.door.post(f"objects/{call}", {"task": held[0], "objects": objects})
    token = {**held[0], "prefix": "projects/p2"}
    with pytest.raises(NotAllowedError, match="signature"):
        node.door.post(
            "objects/place",
            {"task": token, "objects": [{"key": "projects/p2/x", "size": 3, "digest": DIGEST}]},
        )
    with pytest.raises(NotAllowedError, match="token of the task"):
        node.door.send(
            "POST",
            "/door/v1/logs?prefix=projects/p2/runs&sequence=0",
            content=b"x",
            headers={"Millpond-Task": json.dumps(token)},
        )
    with pytest.raises(NotAllowedError, match="may not write"):
        node.door.send(
            "POST",
            "/door/v1/logs?prefix=projects/p2/runs&sequence=0",
            content=b"x",
            headers={"Millpond-Task": json.dumps(held[0])},
        )


def test_a_token_of_another_node_is_refused(host: Host, node: Node, tmp_path: Path) -> None:
    host.objects.put("projects/p1/data/one", b"one")
    node.begin(make_task(), "projects/p1/data/one", node="weir")
    with pytest.raises(NotAllowedError, match="given to the node weir"):
        fetch(node, "projects/p1/data/one", tmp_path / "first", 3)


def test_nobody_but_nodes_comes_in(host: Host, tmp_path: Path, authority: Authority) -> None:
    other = make_identity(authority, tmp_path / "other", "host", "there")
    door = Door(host.url, other, patience_seconds=0)
    with pytest.raises(NotAllowedError, match="Only nodes"):
        door.post("objects/find", {"task": {}, "keys": []})
    door.close()
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{host.url}/door/v1/objects/find", verify=False, timeout=5)


def test_a_log_and_outputs_outlast_a_host_that_is_away(
    host: Host, node: Node, tmp_path: Path
) -> None:
    task = make_task()
    node.begin(task)
    node.transfer.append_log(PREFIX, 0, b"one\n")
    host.is_away = True
    for number in range(1, 6):
        node.transfer.append_log(PREFIX, number, b"%d\n" % number)
    published: list[object] = []
    thread = threading.Thread(target=lambda: published.append(publish(node, tmp_path, "a", b"one")))
    thread.start()
    with pytest.raises(HostAwayError):
        node.door.post("objects/find", {"task": {}, "keys": []})
    assert not published
    host.is_away = False
    thread.join(20)
    node.transfer.end(task)
    assert len(published) == 1
    chunks = [host.objects.get(log_key(PREFIX, number)) for number in range(6)]
    assert b"".join(chunks) == b"one\n1\n2\n3\n4\n5\n"
    assert not list((tmp_path / "node" / "spool").iterdir())


def test_a_chunk_that_comes_twice_is_kept_once_and_another_is_refused(
    host: Host, node: Node
) -> None:
    node.begin(make_task())
    for _ in range(2):
        node.transfer._send_log(PREFIX, 0, b"one")
    assert host.objects.get(log_key(PREFIX, 0)) == b"one"
    with pytest.raises(ConflictError):
        node.transfer._send_log(PREFIX, 0, b"two")


def test_locks_are_given_for_a_task_that_names_them(host: Host, node: Node) -> None:
    digest = hashlib.sha256(b"lock").hexdigest()
    host.locks[digest] = data.LockText("lock", ("projects/p1/wheel",))
    host.objects.put("projects/p1/wheel", b"one")
    task = make_task()
    node.begin(task, f"lock:{digest}")
    token, signature = node.transfer.right_to(f"lock:{digest}")
    asked = {"task": token, "digest": digest, "signature": signature}
    answer = node.door.post("locks", asked)
    assert answer["text"] == "lock"
    pairs = list(answer["wheels"].items())
    assert (
        "projects/p1/wheel"
        in node.door.post("objects/find", {"task": token, "keys": pairs})["found"]
    )
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(NotAllowedError):
        node.door.post("locks", {**asked, "digest": other})


def test_progress_is_the_tasks_word_and_comes_bounded(host: Host, node: Node) -> None:
    node.begin(make_task(), "k")
    token, _ = node.transfer.right_to("k")
    news = {"done": 3, "total": 10, "message": "x" * 5000, "numbers": {"loss": 0.5, "bad": "a"}}
    node.door.post("progress", [{"task": token, "news": news}])
    assert host.news == [TaskProgress("r1/score/0/1", 3.0, 10.0, "x" * 500, {"loss": 0.5})]


def test_a_token_that_gets_old_is_made_anew_while_the_task_is_with_the_node(
    host: Host, node: Node
) -> None:
    task = make_task()
    node.begin(task, "k", hours_ago=5)
    old, _ = node.transfer.right_to("k")
    node.transfer.renew()
    assert node.transfer.right_to("k")[0] == old
    host.running.add(task.key)
    node.transfer.renew()
    assert node.transfer.right_to("k")[0]["expires_at"] > old["expires_at"] + 4 * 3600
