"""A node's process beside a real door: it starts, is refused, is stopped, and says why."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from tests.machines.conftest import FACTS, Room

from millpond.ground.tls import Identity
from millpond.ground.versions import code_version
from millpond.machines import actions
from millpond.machines.authority import Authority, make_key, make_request
from millpond.machines.door.app import build_door
from millpond.machines.files import NodeConfig, NodeFiles
from millpond.storage.database import Database
from millpond.storage.nodes.serving import DataServer
from millpond.storage.nodes.tokens import open_signer
from millpond.web.serving import listen

UNWANTED = ("sqlalchemy", "fastapi", "alembic", "pydantic", "obstore", "pyarrow")


def until(is_so: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.02)
    return found


class Site:
    """A host with a door and one machine that has joined; no scheduler runs."""

    def __init__(self, room: Room, folder: Path, version: str) -> None:
        limits = dataclasses.replace(room.cluster.limits, heartbeat_seconds=0.1)
        room.cluster = dataclasses.replace(room.cluster, version=version, limits=limits)
        self.room, self.files = room, NodeFiles(folder / "owl")
        self._listening = listen("127.0.0.1", 0)
        identity = self._host(folder / "host")
        app = build_door(room.database, room.cluster)
        self._server = DataServer(app, identity, self._listening)
        self._server.start()
        self.started: list[subprocess.Popen[str]] = []
        self.ports = [free_port() for _ in range(2)]

    def _host(self, folder: Path) -> Identity:
        authority = self.room.cluster.authority
        return authority.open_identity(folder, "host", "host", ["127.0.0.1"], datetime.now(UTC))

    def join(self, **more: Any) -> None:
        csr = make_request(make_key(self.files.key)).decode()
        facts = dataclasses.replace(FACTS, address="127.0.0.1")
        joined = self.room.join(csr=csr, facts=facts, version=self.room.cluster.version)
        config = NodeConfig(
            name="owl",
            installation=self.room.cluster.authority.fingerprint,
            url=self.room.cluster.url,
            host="127.0.0.1",
            scheduler_port=free_port(),
            door_port=self._listening.getsockname()[1],
            address="127.0.0.1",
            data_port=self.ports[0],
            worker_port=self.ports[1],
            slots=1,
            token_key=open_signer(self.room.folder / "keys").public,
            heartbeat_seconds=0.1,
        )
        config = dataclasses.replace(config, **more)
        self.files.write(config, joined.certificate, joined.authority)

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "millpond.worker", "--folder", str(self.files.folder), *words],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.files.folder / "status.json").read_text())
        except FileNotFoundError:
            return {"state": "none"}
        return found

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                for each in psutil.Process(process.pid).children(recursive=True):
                    each.kill()
                process.kill()
            process.communicate()
        self._server.stop()
        self._listening.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """Open one kind of database: what is asked here is what a node does."""
    shutil.copy(sqlite_template, tmp_path / "millpond.db")
    opened = Database(f"sqlite:///{tmp_path / 'millpond.db'}")
    yield opened
    opened.close()


@pytest.fixture
def site(room: Room, tmp_path: Path) -> Iterator[Site]:
    made = Site(room, tmp_path, code_version())
    yield made
    made.end()


def told(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; give the exit code and what was said."""
    _, text = process.communicate(timeout=60)
    return process.returncode, text


def test_it_loads_neither_the_database_nor_the_frame() -> None:
    code = f"import sys, millpond.worker; print([m for m in {UNWANTED} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_that_no_machine_has_joined_with_is_refused(site: Site) -> None:
    code, text = told(site.start())
    assert code == 1
    assert "No machine has joined with the folder" in text
    assert "millpond node token" in text


def test_it_tells_the_host_how_it_is_and_leaves_nothing_when_it_is_stopped(site: Site) -> None:
    disk = site.files.folder.parent / "disk"
    disk.mkdir()
    site.join(data_disk=str(disk))
    process = site.start()
    until(lambda: site.room.node().state == "up")
    until(lambda: site.status()["state"] == "up")
    node = site.room.node()
    assert node.facts.slots == 1
    assert node.facts.data_port == site.ports[0]
    assert node.meters is not None
    assert node.meters.memory_total_bytes > 0
    assert node.store is not None
    assert node.store.is_ok
    assert node.store.disk
    children = psutil.Process(process.pid).children(recursive=True)
    assert psutil.Process(process.pid).memory_full_info().pss < 150 << 20
    process.send_signal(signal.SIGTERM)
    code, text = told(process)
    assert (code, "Traceback" in text) == (0, False), text
    assert not [each for each in children if each.is_running()]
    assert site.status()["state"] == "stopped"
    assert list((site.files.folder / "scratch" / "sandboxes").iterdir()) == []


@pytest.mark.slow
def test_a_folder_that_another_worker_uses_is_refused(site: Site) -> None:
    site.join(worker_port=0)
    site.start()
    until(lambda: site.status()["state"] == "up")
    code, text = told(site.start())
    assert code == 1
    assert "uses the folder" in text


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_port_that_is_taken_is_named(site: Site, which: int) -> None:
    disk = site.files.folder.parent / "disk"
    disk.mkdir()
    site.join(data_disk=str(disk))
    with socket.create_server(("127.0.0.1", site.ports[which])):
        code, text = told(site.start())
    assert code == 1
    assert f"The port {site.ports[which]} of the node's" in text
    assert ("data_port", "worker_port")[which] in text


def tries_of(pid: int) -> int:
    """Give how often a process was refused before this try of its."""
    words = psutil.Process(pid).cmdline()
    return int(words[words.index("--refused") + 1].partition(":")[0]) if "--refused" in words else 0


def stop(process: subprocess.Popen[str]) -> str:
    """Stop it as its service does; give all that it said."""
    process.send_signal(signal.SIGTERM)
    code, text = told(process)
    # In the moment in which it begins anew nothing is open, and nobody holds the signal up.
    assert code in (0, -signal.SIGTERM), text
    assert "Traceback" not in text
    return text


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--supervise",)])
def test_a_revoked_node_says_so_once_tries_on_and_works_again_when_it_has_joined_anew(
    site: Site, words: tuple[str, ...]
) -> None:
    site.join()
    process = site.start(*words)
    until(lambda: site.status()["state"] == "up")
    pid, room = site.status()["pid"], site.room
    room.change(
        lambda tx: actions.revoke_certificates(tx, room.root, room.cluster, "owl", "Stolen.")
    )
    until(lambda: site.status()["state"] == "refused")
    assert "was revoked" in site.status()["reason"]
    children = psutil.Process(pid).children(recursive=True)
    until(lambda: not [each for each in children if each.is_running()])  # Nothing works on.
    until(lambda: tries_of(pid) == 2)
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl", is_forced=True))
    site.join()
    until(lambda: site.room.node().state == "up" and site.status()["state"] == "up")
    assert site.status()["pid"] == pid  # Its service saw no end of it.
    text = stop(process)
    assert text.count("was revoked") == 1
    assert text.count("millpond node token") == 1
    assert text.count("The node works from") == text.count("takes this node again") == 1
    assert site.status()["state"] == "stopped"


@pytest.mark.slow
def test_another_version_is_told_once_with_the_command_that_mends_it(
    room: Room, tmp_path: Path
) -> None:
    site = Site(room, tmp_path, "9.9.9")
    try:
        site.join()
        process = site.start()
        until(lambda: tries_of(process.pid) == 2)
        assert site.status()["state"] == "refused"
        text = stop(process)
    finally:
        site.end()
    assert text.count("and the server runs 9.9.9") == 1
    assert text.count("millpond node upgrade owl") == 1


@pytest.mark.slow
def test_a_folder_of_another_installation_is_told(site: Site, tmp_path: Path) -> None:
    site.join()
    now = datetime.now(UTC)
    other = Authority(tmp_path / "other", now)
    csr = make_request(make_key(site.files.key))
    issued = other.sign(csr, "node", "owl", ["127.0.0.1"], now)
    site.files.write_certificate(issued.pem.decode(), other.pem.decode())
    process = site.start()
    until(lambda: site.status()["state"] == "refused")
    text = stop(process)
    assert "do not trust each other's certificates" in text
    assert "millpond node token" in text


@pytest.mark.slow
def test_a_defect_of_the_host_costs_a_node_nothing_but_the_heartbeat(site: Site) -> None:
    site.join()
    process = site.start()
    until(lambda: site.status()["state"] == "up")
    pid = site.status()["pid"]
    rename(site.room.database, "node", "node_gone")
    until(lambda: site.status()["state"] == "host away")
    rename(site.room.database, "node_gone", "node")
    until(lambda: site.status()["state"] == "up")
    assert site.status()["pid"] == pid
    assert "does not take a heartbeat" in stop(process)


def rename(database: Database, one: str, other: str) -> None:
    """Take a table away, as no server expects it, or bring it back."""
    with database.transaction() as tx:
        tx.connection.execute(sa.text(f"ALTER TABLE {one} RENAME TO {other}"))


@pytest.mark.slow
def test_a_data_disk_that_is_gone_is_told_and_it_computes_on(site: Site) -> None:
    disk = site.files.folder.parent / "disks" / "one"
    site.join(data_disk=str(disk))
    process = site.start()
    until(lambda: site.room.node().state == "up")
    store = site.room.node().store
    assert store is not None
    assert not store.is_ok
    assert str(disk) in store.reason
    disk.mkdir(parents=True)  # It is mounted again: the worker starts anew to take it up.
    assert told(process)[0] == 75


@pytest.mark.slow
def test_a_supervisor_starts_it_again_until_it_is_told_to_stop(site: Site) -> None:
    site.join()
    process = site.start("--supervise")
    until(lambda: site.status()["state"] == "up")
    first = site.status()["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: site.status()["pid"] != first and site.status()["state"] == "up")
    process.send_signal(signal.SIGTERM)
    assert told(process)[0] == 0
    assert site.status()["state"] == "stopped"
    assert not psutil.pid_exists(site.status()["pid"])
