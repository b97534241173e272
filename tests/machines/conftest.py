"""A cluster over a database: an authority, what was heard, and machines that join."""

import asyncio
import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp
from tests.conftest import PortalSite, free_port, serve_portal

from millpond.client.client import Client
from millpond.client.joining import Wanted, join_here
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.room_settings import ClusterSettings
from millpond.ground.tls import Peer
from millpond.house import House
from millpond.machines import actions, heartbeats, joining
from millpond.machines.authority import Authority, make_request, serial_of
from millpond.machines.cluster import Cluster
from millpond.machines.files import NodeFiles
from millpond.machines.port import Machine, MachineOrder, MachineStep, MakeTicket, Tell
from millpond.machines.presence import Presence
from millpond.machines.revocations import RevokedList
from millpond.machines.values import Heartbeat, Joined, Node, NodeFacts, StoreState
from millpond.people.accounts import actions as accounts
from millpond.storage.database import Database, Transaction
from millpond.web.connections import PEER

T = TypeVar("T")
SHOTS = Path(__file__).parents[2] / "tools" / "shots.py"
VERSION = "1.2.3"
FACTS = NodeFacts(
    slots=4,
    cores=4,
    memory_bytes=32 << 30,
    python="3.11.2",
    isolated=True,
    address="192.0.2.7",
    data_disk="/data",
    system="Debian 12",
)
METERS = {
    "load1": 1.0,
    "cpu": 0.25,
    "cpu_count": 4,
    "memory_total": 32 << 30,
    "memory_used": 8 << 30,
    "disks": [{"mount": "/", "total": 50 << 30, "free": 30 << 30}],
}


class Ticks:
    """A clock that is never set, in the hands of a test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Room:
    """A cluster, with an administrator and somebody who is none."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder, self.ticks = database, folder, Ticks()
        with database.transaction() as tx:
            root = accounts.add_user(tx, SYSTEM, "root", is_admin=True)
            ana = accounts.add_user(tx, SYSTEM, "ana")
        self.root = Actor(root.id, "root", is_admin=True)
        self.ana = Actor(ana.id, "ana")
        limits = ClusterSettings()
        self.revoked_file = folder / "cluster" / "revoked.json"
        self.cluster = Cluster(
            authority=Authority(folder / "keys", datetime.now(UTC)),
            version=VERSION,
            url="https://millpond.example",
            address="192.0.2.1",
            door_port=8785,
            limits=limits,
            presence=Presence(limits, self.ticks),
            revoked=RevokedList(database, self.revoked_file),
        )

    def change(self, action: Callable[[Transaction], T]) -> T:
        return self.database.change(action)

    def token(self, **more: Any) -> str:
        return self.change(
            lambda tx: joining.make_join_token(tx, self.root, self.cluster, **more)
        ).token

    def join(self, name: str = "owl", token: str = "", **more: Any) -> Joined:
        given = {
            "token": token or self.token(),
            "name": name,
            "csr": request_pem(),
            "version": VERSION,
            "sent_at": datetime.now(UTC),
            "facts": FACTS,
        }
        return self.change(lambda tx: joining.join_node(tx, self.cluster, **(given | more)))

    def peer(self, joined: Joined) -> Peer:
        return Peer("node", joined.name, serial_of(joined.certificate.encode()))

    def beat(self, peer: Peer, **more: Any) -> dict[str, Any]:
        listeners = more.pop("listeners", ())
        told = heartbeat(**more)
        return self.change(
            lambda tx: heartbeats.note_heartbeat(tx, self.cluster, peer, told, listeners)
        )

    def up(self, name: str = "owl") -> Peer:
        """Join a machine and let it tell of itself once."""
        peer = self.peer(self.join(name))
        self.beat(peer)
        return peer

    def node(self, name: str = "owl") -> Node:
        with self.database.reading() as tx:
            return actions.get_node(tx, self.root, self.cluster, name).node

    def told(self, name: str = "owl") -> list[str]:
        with self.database.reading() as tx:
            found = actions.get_node(tx, self.root, self.cluster, name).events
        return [event.kind for event in reversed(found)]

    def revoked(self) -> list[str]:
        found: list[str] = json.loads(self.revoked_file.read_text())
        return found


def request_pem() -> str:
    return make_request(ec.generate_private_key(ec.SECP256R1())).decode()


def heartbeat(**more: Any) -> Heartbeat:
    given: dict[str, Any] = {
        "version": VERSION,
        "sent_at": datetime.now(UTC),
        "facts": FACTS,
        "meters": METERS,
        "running": (),
        "store": StoreState(is_ok=True, free_bytes=100 << 30, total_bytes=200 << 30, epoch="1"),
    }
    return Heartbeat(**(given | more))


def heartbeat_json(**more: Any) -> dict[str, Any]:
    told = dataclasses.asdict(heartbeat())
    return {**told, "sent_at": told["sent_at"].isoformat(), **more}


class Caller:
    """Calls an application as a node does, by the certificate that its listener has checked."""

    def __init__(self, app: ASGIApp, peer: Peer | None = None, token: str = "") -> None:
        async def known(scope: Any, receive: Any, send: Any) -> None:
            if peer is not None:
                scope["extensions"] = {**scope.get("extensions", {}), PEER: peer}
            await app(scope, receive, send)

        self._app = known
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, method: str, path: str, body: object = None) -> httpx.Response:
        return self._ask(method, path, {"json": body})

    def post_bytes(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        return self._ask("POST", path, {"content": content}, headers)

    def _ask(
        self, method: str, path: str, more: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as http:
                both = {**self._headers, **(headers or {})}
                return await http.request(method, path, headers=both, **more)

        return asyncio.run(ask())


@pytest.fixture
def room(database: Database, tmp_path: Path) -> Room:
    return Room(database, tmp_path)


# A served house --------------------------------------------------------------------------------


class FolderSource:
    """Machines that are folders of this one: they really join, and really beat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.house: House | None = None
        self.asked: list[str] = []
        self.fault: Exception | None = None

    def introduce(self) -> str:
        return "ssh-ed25519 AAAAC3Nza millpond"

    def create(self, order: MachineOrder, tell: Tell) -> Machine:
        self.asked.append("create")
        tell(MachineStep("look", "begun", f"Looking at {order.address}."))
        if self.fault is not None:
            raise self.fault
        (self.folder / order.name).mkdir(exist_ok=True, parents=True)
        return Machine(order, order.address, "SHA256:abc")

    def wait(self, machine: Machine, tell: Tell) -> Machine:
        self.asked.append("wait")
        tell(MachineStep("look", "done", "It is there."))
        return machine

    def join(self, machine: Machine, make_ticket: MakeTicket, tell: Tell) -> None:
        self.asked.append("join")
        ticket, order = make_ticket(), machine.order
        wanted = Wanted(
            url=ticket.url,
            token=ticket.token,
            folder=self.folder / order.name,
            name=order.name,
            data_port=free_port(),
            worker_port=free_port(),
        )
        join_here(wanted, lambda text: tell(MachineStep("join", "done", text)))
        self.beat(order.name)

    def upgrade(self, machine: Machine, version: str, tell: Tell) -> None:
        self.asked.append(f"upgrade {version}")
        tell(MachineStep("upgrade", "done", "It has the version."))
        self.beat(machine.order.name)

    def remove(self, machine: Machine, tell: Tell) -> None:
        self.asked.append("remove")
        tell(MachineStep("stop", "done", f"{machine.order.name} is stopped."))

    def beat(self, name: str, **more: Any) -> None:
        house: Any = self.house
        pem = NodeFiles(self.folder / name).certificate.read_bytes()
        peer = Peer("node", name, serial_of(pem))
        told = heartbeat(**({"version": house.cluster.version} | more))
        house.database.change(lambda tx: heartbeats.note_heartbeat(tx, house.cluster, peer, told))


class NodeSite:
    """A served house whose machines are folders."""

    def __init__(self, site: PortalSite, source: FolderSource) -> None:
        self.site, self.source = site, source

    def client(self, who: str = "root") -> Client:
        return Client(self.site.url, self.site.token(who), environ={})

    def add(self, name: str = "owl") -> None:
        """Join a machine by hand, and let it tell of itself once."""
        with self.client() as client:
            token = client.nodes.make_token(name=name).token
        folder = self.source.folder / name
        ports = {"data_port": free_port(), "worker_port": free_port()}
        join_here(
            Wanted(url=self.site.url, token=token, folder=folder, name=name, **ports),
            lambda _: None,
        )
        self.source.beat(name)


@pytest.fixture
def node_site(database: Database, tmp_path: Path) -> Iterator[NodeSite]:
    source = FolderSource(tmp_path / "machines")

    def change(house: House) -> House:
        cluster = dataclasses.replace(house.cluster, is_open=True, sources={"ssh": source})
        source.house = dataclasses.replace(house, cluster=cluster)
        return source.house

    url = database.engine.url.render_as_string(hide_password=False)
    with serve_portal({"MILLPOND_DATABASE_URL": url}, tmp_path / "data", change) as site:
        yield NodeSite(site, source)


@pytest.fixture
def shots(
    monkeypatch: pytest.MonkeyPatch, missing_here: Callable[[str, str], NoReturn]
) -> ModuleType:
    """Give what drives a browser."""
    if not shutil.which("chromium"):
        missing_here("chromium", "apt-get install chromium")
    monkeypatch.syspath_prepend(str(SHOTS.parent))
    spec = importlib.util.spec_from_file_location("shots", SHOTS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
