"""Nodes with data disks on this machine's loopback: in this process, or each a program of its own.

``python data_nodes.py FOLDER NAME PORT PUBLIC`` is such a program. It is told ``look`` or ``epoch
NUMBER`` on its standard input and answers with a line of JSON.
"""

import json
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millpond.ground.tls import Identity
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.disk import NodeDisk
from millpond.storage.nodes.receipts import ReceiptChecker, ReceiptSigner
from millpond.storage.nodes.serving import DataServer, build_data_app
from millpond.storage.nodes.tokens import TokenChecker, open_signer
from millpond.storage.nodes.values import DiskFacts, Pace, Target, Waits

FREE_LEAST = 1 << 20


def identity_in(folder: Path, role: str) -> Identity:
    return Identity(folder / f"{role}.crt", folder / f"{role}.key", folder / "authority.crt")


def open_disk(
    folder: Path, name: str, root: Path | None = None, kind: type[NodeDisk] = NodeDisk
) -> NodeDisk:
    signer = ReceiptSigner(identity_in(folder, "node"), name)
    return kind(
        root or folder / "disk",
        signer,
        remembered=folder / "disk.id",
        free_least_bytes=FREE_LEAST,
        lease_seconds=0.0,
    )


class Inside:
    """A node in this process."""

    def __init__(self, folder: Path, name: str, public: str, kind: type[NodeDisk]) -> None:
        self.folder, self.name = folder, name
        self.identity = identity_in(folder, "node")
        self.disk = open_disk(folder, name, kind=kind)
        self.revoked: set[str] = set()
        self.client = NodeClient(self.identity, Waits(connect=1.0, answer=3.0, flush=20.0))
        self.checker = TokenChecker(public, name)
        app = build_data_app(self.disk, self.checker, self.client, lambda: self.revoked)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        self._server = DataServer(app, self.identity, listening)
        self._server.start()

    def look(self) -> DiskFacts | None:
        return self.disk.look()

    def epoch(self, number: int) -> None:
        self.disk.remember_epoch(number)

    def stop(self) -> None:
        self._server.stop()
        self.client.close()


class Program:
    """A node that is a process of its own, to be killed, frozen and started again."""

    def __init__(self, folder: Path, name: str, public: str, prefix: tuple[str, ...] = ()) -> None:
        self.folder, self.name, self._public, self._prefix = folder, name, public, prefix
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.root = folder / "disk"
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        words = [str(self.folder), self.name, str(self.port), self._public, str(self.root)]
        self.process = subprocess.Popen(
            [*self._prefix, sys.executable, __file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def look(self) -> DiskFacts | None:
        said = self._ask("look")
        return None if said is None else DiskFacts.from_json(said)

    def epoch(self, number: int) -> None:
        self._ask(f"epoch {number}")

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    stop = kill

    def _ask(self, text: str):
        if self.process is None:
            return None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class DataNodes:
    """An installation's nodes; ``beat`` tells a database of those that are there."""

    def __init__(self, folder: Path, authority) -> None:
        """Keep all below ``folder``; ``authority`` is the one of machines."""
        self.folder, self.authority = folder, authority
        self.nodes = {}
        self.silent: set[str] = set()
        now = datetime.now(UTC)
        self.host = authority.open_identity(folder / "host", "host", "lab", ["127.0.0.1"], now)
        self.signer = open_signer(folder / "keys")

    def prepare(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.authority.open_identity(folder, "node", name, ["127.0.0.1"], datetime.now(UTC))
        (folder / "authority.crt").write_bytes(self.authority.pem)
        return folder

    def add(self, name: str, kind: type[NodeDisk] = NodeDisk) -> Inside:
        self.nodes[name] = Inside(self.prepare(name), name, self.signer.public, kind)
        return self.nodes[name]

    def launch(self, *names: str, prefix: tuple[str, ...] = ()) -> None:
        """Start nodes that are programs, at the same time."""

        def begin(name: str) -> None:
            self.nodes[name] = Program(self.folder / name, name, self.signer.public, prefix)

        for name in names:
            self.prepare(name)
        threads = [threading.Thread(target=begin, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ledger(self, pace: Pace | None = None, **rest):
        from millpond.storage.nodes.ledger import Ledger

        checker = ReceiptChecker(self.authority.path)
        return Ledger(self.signer, checker, pace=pace, **rest)

    def store(self, database, folder: Path, *, pace=None, cache=64 << 20, url="http://m", **rest):
        """Open the server's side."""
        from millpond.storage.folder import FolderStore
        from millpond.storage.nodes.cache import HostCache
        from millpond.storage.nodes.replicated import NodeStore

        waits = Waits(connect=1.0, answer=3.0, flush=20.0)
        opened = NodeStore(
            database,
            self.ledger(pace, **rest),
            NodeClient(self.host, waits),
            FolderStore(folder / "host-objects", url, b"k" * 32),
            HostCache(folder / "host-cache", cache),
        )
        self.beat(opened)
        return opened

    def beat(self, store) -> None:
        """Tell the server of every node that is there, as their heartbeats would."""
        for name, node in self.nodes.items():
            facts = None if name in self.silent else node.look()
            if facts is not None:
                epoch = store.database.change(
                    lambda tx, name=name, node=node, facts=facts: store.ledger.note_node(
                        tx, name, node.url, facts
                    )
                )
                node.epoch(epoch)

    def hear(self, store, seconds: float) -> None:
        """Let so much time pass, with a heartbeat every five seconds of those that are there."""
        for _ in range(int(seconds // 5)):
            self._shift(store, 5, (("object_place", "seen_at"),))
            store.ledger._listening_since -= timedelta(seconds=5)
            store.ledger._heard_at -= timedelta(seconds=5)
            self.beat(store)

    def age(self, store, seconds: float) -> None:
        """Let so much time pass for what lies on the nodes."""
        columns = (
            ("object_replica", "checked_at"),
            ("object_digest", "unnamed_at"),
            ("object_place", "inventory_at"),
        )
        self._shift(store, seconds, columns)

    def _shift(self, store, seconds: float, columns) -> None:
        import sqlalchemy as sa

        def shift(tx) -> None:
            for table, column in columns:
                text = f"UPDATE {table} SET {column} = {column} - {int(seconds * 1_000_000)}"
                tx.execute(sa.text(text))

        store.database.change(shift)

    def renew(self) -> None:
        """Begin anew: every node is there, and holds nothing."""
        for name, node in self.nodes.items():
            node.thaw()
            disk = self.folder / name / "disk"
            for folder in ("objects", "bad", "tmp"):
                for path in (disk / folder).rglob("*"):
                    if path.is_file():
                        path.unlink()
            (disk / "epoch").unlink(missing_ok=True)
        dead = [node for node in self.nodes.values() if node.process is None]
        threads = [threading.Thread(target=node.start) for node in dead]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def held(self, digest: str) -> list[str]:
        """Look on the disks who holds a digest."""
        end = Path("objects") / digest[:2] / digest
        return sorted(n for n in self.nodes if (self.folder / n / "disk" / end).exists())

    def file(self, name: str, digest: str) -> Path:
        return self.folder / name / "disk" / "objects" / digest[:2] / digest

    def target(self, name: str, method: str, digest: str = "*", size: int = 1 << 40) -> Target:
        """Give an address and a token as the server would."""
        from millpond.storage.nodes.tokens import Token

        expires = int(datetime.now(UTC).timestamp()) + 60
        token = self.signer.sign(Token(method, digest, size, name, expires))
        return Target(name, self.nodes[name].url, token)

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()


def main() -> None:
    folder, name, port, public, root = sys.argv[1:]
    node_folder = Path(folder)
    identity = identity_in(node_folder, "node")
    disk = open_disk(node_folder, name, Path(root))
    client = NodeClient(identity)
    listening = socket.create_server(("127.0.0.1", int(port)))
    app = build_data_app(disk, TokenChecker(public, name), client)
    DataServer(app, identity, listening).start()
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "epoch":
            disk.remember_epoch(int(number))
        print(json.dumps(asdict(disk.look())), flush=True)


if __name__ == "__main__":
    main()
