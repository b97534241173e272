"""What somebody with root on one node, or with its key, tries at the door."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.machines.conftest import Caller, Room, heartbeat_json, request_pem

from millpond.engine.cluster.grants import sign_token
from millpond.ground.clock import SystemClock
from millpond.ground.tls import Peer
from millpond.machines import actions
from millpond.machines.authority import serial_of
from millpond.machines.door import data
from millpond.machines.door.app import build_door
from millpond.machines.door.desks import AddressDesk
from millpond.storage import routes as object_routes
from millpond.storage.folder import FolderStore

SECRET = b"s" * 32
PREFIX = "projects/p1/runs/r1/score/0/1"


class Door:
    """The door of a room, as a node with a good certificate sees it."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.objects = FolderStore(folder, "https://host", b"k" * 32)
        self.news: list[Any] = []
        desk = AddressDesk(self.objects, "/door/v1")
        runs = lambda *_: True  # noqa: E731 - as short as it is.
        tools = data.DataTools(
            SECRET, desk, self.objects, SystemClock(), self.news.append, lambda _: None, runs
        )
        routers = [data.routes(tools), object_routes.routes(self.objects)]
        self.peer = room.peer(room.join())
        self.app = build_door(room.database, room.cluster, routers=routers)

    def send(self, method: str, path: str, body: object = None) -> Any:
        return Caller(self.app, self.peer).send(method, path, body)

    def post(self, path: str, body: object) -> Any:
        """Send JSON as Python writes it, also what is none."""
        kind, told = {"Content-Type": "application/json"}, json.dumps(body).encode()
        return Caller(self.app, self.peer).post_bytes(path, told, **kind)

    def token(self, **more: Any) -> dict[str, Any]:
        given = {"key": "k", "node": self.peer.name, "prefix": PREFIX, "project_id": "p1"}
        return sign_token(SECRET, **(given | {"now": datetime.now(UTC)} | more)).to_json()

    def log(
        self, sequence: int, content: bytes, token: dict[str, Any], prefix: str = PREFIX
    ) -> Any:
        caller, told = Caller(self.app, self.peer), {"Millpond-Task": json.dumps(token)}
        path = f"/door/v1/logs?prefix={prefix}&sequence={sequence}"
        return caller.post_bytes(path, content, **told)


@pytest.fixture
def door(room: Room, tmp_path: Path) -> Door:
    return Door(room, tmp_path / "objects")


def facts(key: str, content: bytes = b"x") -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"objects": [{"key": key, "size": len(content), "digest": digest}]}


def test_a_log_grows_no_longer_than_its_task_was_given(door: Door) -> None:
    """A node's own cap is the node's word: whoever is root there changes it."""
    token, piece = door.token(log_bytes=1 << 20), b"x" * (1 << 20)
    assert door.log(0, piece, token).status_code == 200
    assert door.log(0, piece, token).status_code == 200  # Once more, since its answer was lost.
    assert door.log(1, piece, token).status_code == 200  # Lines of our own come on top.
    refused = door.log(2, piece, token)
    assert refused.status_code == 413
    assert "1,048,576 bytes" in refused.json()["detail"]
    larger = door.token() | {"log_bytes": 1 << 40}
    assert door.log(2, piece, larger).status_code == 403
    assert sum(each.size for each in door.objects.list(PREFIX)) == 2 << 20


def test_what_came_before_a_restart_counts(room: Room, door: Door, tmp_path: Path) -> None:
    door.objects.put(f"{PREFIX}.log/00000000", b"x" * (3 << 20))
    token = door.token(log_bytes=1 << 20)
    assert door.log(1, b"y" * 10, token).status_code == 413


def test_a_log_is_no_way_around_its_bounds(door: Door) -> None:
    for call in ("place", "commit"):
        asked = {"task": door.token(), **facts(f"{PREFIX}.log/00000000")}
        assert door.send("POST", f"/door/v1/objects/{call}", asked).status_code == 403
    assert door.log(0, b"x", door.token(), prefix=f"{PREFIX}0").status_code == 403
    assert (
        door.log(0, b"x", door.token(), prefix="projects/p1/runs/r1/score/0/2").status_code == 403
    )


@pytest.mark.parametrize("part", ["..", ".", "", "%2e%2e", "a\0b", "\ud800", "x" * 950])
def test_no_spelling_leads_out_of_the_attempt(door: Door, part: str) -> None:
    for key in (f"{PREFIX}/{part}/x", f"{PREFIX}/{part}/../../2/x", f"{part}/{PREFIX}/x"):
        answer = door.post("/door/v1/objects/place", {"task": door.token(), **facts(key)})
        if answer.status_code == 200:
            assert "/../" not in answer.json()["url"]
            assert part == "%2e%2e"  # Letters like others: nobody decodes them twice.
        else:
            assert answer.status_code in (403, 422)
    assert list(door.objects.list("")) == []


def test_a_place_to_leave_one_object_is_good_for_nothing_else(door: Door) -> None:
    door.objects.put("projects/p2/secret", b"theirs")
    asked = {"task": door.token(), **facts(f"{PREFIX}/out")}
    url = door.send("POST", "/door/v1/objects/place", asked).json()["url"]
    assert door.send("GET", url).status_code == 403
    other = url.replace(f"{PREFIX}/out", "projects/p2/secret")
    assert door.send("PUT", other, 1).status_code == 403
    climbing = url.replace(f"{PREFIX}/out", f"{PREFIX}/out/../../../../../../p2/secret")
    assert door.send("PUT", climbing, 1).status_code in (403, 404)
    assert door.send("PUT", url, 1).status_code == 200
    assert door.send("PUT", url, 2).status_code == 409
    assert door.objects.get("projects/p2/secret") == b"theirs"


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"node": "elm"}, "given to the node elm"),
        ({"now": datetime.now(UTC) - timedelta(days=1)}, "ran out"),
    ],
    ids=["another node's", "old"],
)
def test_a_token_of_another_node_or_time_opens_nothing(
    door: Door, changed: dict[str, Any], word: str
) -> None:
    token = door.token(**changed)
    calls = {
        "objects/find": {"task": token, "keys": []},
        "objects/place": {"task": token, **facts(f"{PREFIX}/out")},
        "objects/commit": {"task": token, **facts(f"{PREFIX}/out")},
        "progress": [{"task": token, "news": {"done": 1}}],
        "locks": {"task": token, "digest": "0" * 64, "signature": ""},
    }
    for path, body in calls.items():
        answer = door.send("POST", f"/door/v1/{path}", body)
        assert answer.status_code == 403, path
        assert word in answer.json()["detail"]
    assert door.log(0, b"x", token).status_code == 403
    assert door.news == []


@pytest.mark.parametrize(
    "more",
    [
        {"meters": {"x": "y" * (2 << 20)}},
        {"running": ["k" * 399] * 9000},
        {"meters": {"load1": 1e400}},
        {"facts": {"slots": 10**400}},
    ],
    ids=["large", "many", "endless", "huge"],
)
def test_a_heartbeat_is_bounded(room: Room, door: Door, more: dict[str, Any]) -> None:
    answer = door.post("/door/v1/heartbeat", heartbeat_json(**more))
    assert answer.status_code in (413, 422), answer.text[:300]
    assert room.node().state == "joining"


def test_a_deep_heartbeat_is_refused(room: Room, door: Door) -> None:
    body = json.dumps(heartbeat_json(meters={"a": 1})).replace(
        '"a": 1', '"a":' + "[" * 90_000 + "]" * 90_000
    )
    answer = Caller(door.app, door.peer).post_bytes(
        "/door/v1/heartbeat", body.encode(), **{"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text[:300]


def test_the_secret_of_a_token_to_join_stands_nowhere(room: Room) -> None:
    token = room.token()
    room.join(token=token)
    secret = token.partition(".")[0].removeprefix("mpj_")
    with room.database.engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        rows = {name: connection.execute(sa.text(f'SELECT * FROM "{name}"')) for name in names}
        said = {name: str(list(found)) for name, found in rows.items()}
    assert [name for name, text in said.items() if "'owl'" in text] != []
    assert [name for name, text in said.items() if secret in text] == []


def test_a_removed_nodes_certificates_are_all_refused(room: Room, door: Door) -> None:
    """Also those that a thief had renewed meanwhile."""
    pem = door.send("POST", "/door/v1/renew", {"csr": request_pem()}).json()["certificate"]
    second = Peer("node", "owl", serial_of(pem.encode()))
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl", is_forced=True))
    for peer in (door.peer, second):
        answer = Caller(door.app, peer).send("POST", "/door/v1/renew", {"csr": request_pem()})
        assert answer.status_code == 403
    assert {door.peer.serial, second.serial} <= set(room.revoked())
