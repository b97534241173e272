"""A cluster on this machine for tests: an authority, a scheduler and nodes, each its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from millpond.engine.cluster.engine import DaskEngine
from millpond.engine.values import TaskProgress
from millpond.ground.tls import Identity
from millpond.machines.authority import Authority

NODE = Path(__file__).with_name("cluster_node.py")


def wait_until(holds: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Cluster:
    """The processes, and what they are who they are by. Engines come and go."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, datetime.now(UTC)
        self.store = root / "bench" / "data"
        self.authority = Authority(root / "keys", self.now)
        self.host = self.authority.open_identity(root / "cluster", "host", "here", [], self.now)
        self.port = free_port()
        self.url = f"tls://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.engine: DaskEngine | None = None
        self._news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._news.bind(str(root / "news"))
        self._reader = threading.Thread(target=self._read_news, daemon=True)
        self._reader.start()

    def node_identity(self, name: str) -> Identity:
        return self.authority.open_identity(self.root / name, "node", name, [], self.now)

    def start_scheduler(self) -> None:
        """Start the scheduler and wait until it listens."""
        with (self.root / "scheduler.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "millpond.engine.cluster.scheduler",
                    "--folder", str(self.root / "cluster"),
                    "--authority", str(self.authority.path),
                    "--host", "127.0.0.1", "--port", str(self.port),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )  # fmt: skip
        self.processes["scheduler"] = process
        assert process.stdout is not None
        said = process.stdout.readline()
        assert b"listens" in said, self.log("scheduler")

    def start_node(
        self,
        name: str,
        slots: float = 2,
        lies: dict[str, object] | None = None,
        port: int = 0,
        *,
        rejoins: bool = False,
        gpus: str = "",
    ) -> None:
        """Start a node; one that rejoins does so in the same process, as our workers do.

        ``gpus`` names the folders in which it looks for graphics processors, with colons between.
        """
        identity = self.node_identity(name)
        facts = {
            "FOLDER": self.root / name,
            "STORE": self.store,
            "NAME": name,
            "SLOTS": slots,
            "SCHEDULER": self.url,
            "NEWS": self.root / "news",
            "LIES": json.dumps(lies or {}),
            "PORT": port,
            "REJOINS": "yes" if rejoins else "",
            "GPUS": gpus,
            "CERTIFICATE": identity.certificate,
            "KEY": identity.key,
            "AUTHORITY": identity.authority,
        }
        environment = {**os.environ, **{f"NODE_{key}": str(each) for key, each in facts.items()}}
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, str(NODE)], env=environment, stdout=log, stderr=log
            )

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()

    def make_engine(self, nodes: int = 1, **facts: object) -> DaskEngine:
        """Make an engine and wait until it knows so many nodes."""
        engine = self.engine = DaskEngine(self.url, self.host, **facts)
        if not wait_until(lambda: len(engine.nodes()) >= nodes, 20):
            told = "".join(self.log(each) for each in self.processes)
            engine.leave()
            raise AssertionError(f"{engine.reason}\n{told}")
        return engine

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        self._news.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._news.close()

    def _read_news(self) -> None:
        while data := self._news.recv(1 << 16):
            with suppress(AttributeError):  # No engine is there.
                self.engine.take_progress(TaskProgress(**json.loads(data)))
