"""The compose file's own commands, run as processes of this machine: what they need of each other.

Names of services become this machine's loopback, folders of volumes a temporary one; all else is
as the compose file says it, PostgreSQL and an S3 server included.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from millpond.client.client import Client

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(is_so: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"{what} after {seconds} s"
        time.sleep(0.2)
    return found


def unchosen(text: str) -> str:
    """Fill in what stands for variables that nobody has set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


class Composed:
    """The services of the compose file, as processes."""

    def __init__(self, folder: Path, database: str, store: str, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.ports = {name: str(free_port()) for name in ("8787", "8786", "8785")}
        self.port = self.ports["8787"]
        self._places = {
            "/opt/millpond/containers": str(FOLDER),
            "/data": str(folder / "data"),
            "/tokens": str(folder / "tokens"),
            "/node": str(folder / "node"),
        }
        for name in ("data", "tokens", "node"):
            (folder / name).mkdir(mode=0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        self.environ = {**kept, "HOME": str(folder), "MILLPOND_DATA": str(folder / "data")}
        self.settings = {
            name: self.ports.get(value, value)
            for name, value in COMPOSE["server"]["environment"].items()
        } | {
            "MILLPOND_SERVER_URL": unchosen(
                COMPOSE["server"]["environment"]["MILLPOND_SERVER_URL"]
            ).replace("8787", self.port),
            "MILLPOND_DATABASE_URL": database,
            "MILLPOND_OBJECTS_ENDPOINT": store,
            "MILLPOND_OBJECTS_ACCESS_KEY_ID": "test",
            "MILLPOND_OBJECTS_SECRET_ACCESS_KEY": "test",
            "MILLPOND_CLUSTER_ADDRESS": "127.0.0.1",
            # Whatever else this machine has to do, the node takes tasks.
            "MILLPOND_CLUSTER_LOAD_MOST": "1000",
            "MILLPOND_CLUSTER_FREE_MEMORY_LEAST": "0",
            "MILLPOND_CLUSTER_FREE_DISK_LEAST": "0",
        }

    def line(self, words: list[str]) -> list[str]:
        """Give a command of the image as one of this machine."""
        found = []
        for word in words:
            moved = self.ports.get(word, word)
            for before, after in self._places.items():
                if moved == before or moved.startswith(f"{before}/"):
                    moved = after + moved.removeprefix(before)
                    break
            found.append(moved)
        return [sys.executable, *found[1:]] if found[0] == "python" else found

    def start(self, name: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a service; it ends with the test."""
        log = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            self.line(COMPOSE[name]["command"]),
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**self.environ, **(more or {})},
            cwd=self.folder,
            start_new_session=True,
        )
        self._stack.callback(log.close)
        self._stack.callback(end, process)
        return process

    def is_well(self, name: str) -> bool:
        """Run a service's own health check."""
        line = self.line(COMPOSE[name]["healthcheck"]["test"][1:])
        kind = line[-1]
        place = {"server": "data", "scheduler": "data", "node": "node"}[kind]
        told = subprocess.run(
            [
                *line,
                str(self.folder / place),
                *([self.ports["8786"]] if kind == "scheduler" else []),
            ],
            env=self.environ,
            capture_output=True,
            check=False,
        )
        return told.returncode == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def composed(folder: Path, database: str, store: str) -> Iterator[Composed]:
    with ExitStack() as stack:
        yield Composed(folder, database, store, stack)


@pytest.mark.slow
def test_the_services_find_each_other_and_a_run_goes_through_a_node(
    postgresql: Any, ministack: str, tmp_path: Path
) -> None:
    httpx.put(f"{ministack}/millpond").raise_for_status()  # What the service `bucket` does.
    with (
        postgresql.database(empty=True) as database,
        composed(tmp_path, database, ministack) as site,
    ):
        assert not site.is_well("server")
        site.start("server", site.settings)
        until(lambda: site.is_well("server"), "the server is not well")
        site.start("scheduler")
        until(lambda: site.is_well("scheduler"), "the scheduler is not well")
        tokens = site.start("tokens")
        assert tokens.wait(60) == 0, (tmp_path / "tokens.log").read_text()
        files = sorted(path.name for path in (tmp_path / "tokens").iterdir())
        assert files == ["node-1", "node-2"]
        assert (tmp_path / "tokens" / "node-1").stat().st_mode & 0o077 == 0
        # The link in the log is good where people reach it, and makes the account a person's.
        said = re.search(
            r"administrator is (\S+)\. .*: (https://localhost:\d+/\S*code=(\S+))",
            (tmp_path / "tokens.log").read_text(),
        )
        assert said
        with Client(data_folder=tmp_path / "data", environ={"HOME": str(tmp_path)}) as client:
            assert said[2].startswith(f"https://localhost:{site.port}/")
            client.account.use_reset(said[3], "a long word for all of it")
            assert client.account.sign_in(said[1], "a long word for all of it").text
        assert not site.is_well("node-1")
        site.start(
            "node-1",
            {
                "HOST_URL": f"https://127.0.0.1:{site.port}",
                "NODE_FOLDER": str(tmp_path / "node"),
                "NODE_TOKENS": str(tmp_path / "tokens"),
                "NODE_ADDRESS": "127.0.0.1",
            },
        )
        with Client(data_folder=tmp_path / "data", environ={"HOME": str(tmp_path)}) as client:
            until(
                lambda: [one for one in client.nodes.list() if one.state == "up"],
                f"no node is up: {(tmp_path / 'node-1.log').read_text()}",
            )
            until(lambda: site.is_well("node-1"), "the node is not well")
            assert not (tmp_path / "tokens" / "node-1").exists(), "a token is good once"
            again = site.start("tokens")
            assert again.wait(60) == 0
            told = (tmp_path / "tokens.log").read_text().splitlines()
            assert told.count("node-1 may join.") == 1, "it has joined and needs no other"
            client.projects.make("birds")
            program = tmp_path / "hello.py"
            program.write_text("print('hello from a node')\n")
            started = client.runs.start_program(program, project="birds")
            until(
                lambda: client.runs.get(started.id, project="birds").state == "succeeded",
                "the run did not succeed",
            )
            (task,) = client.runs.tasks(started.id, project="birds")
            assert task.node == "node-1"
            until(
                lambda: (
                    [each.node for each in client.monitor.get("15m").nodes] == ["local", "node-1"]
                ),
                "the node's meters are not kept",
            )
