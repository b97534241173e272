"""A real server in a process of its own, and the real command line beside it."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from millpond.client.process import ServerProcess, start_server


@dataclass
class Shell:
    """A person's shell: commands run in a folder, with a configuration of their own."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, code: int = 0, told: str = "", seconds: float = 180
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "millpond", *words],
            cwd=self.folder, env=self.environ, input=told, text=True, capture_output=True,
            check=False, timeout=seconds, errors="surrogateescape",
        )  # fmt: skip
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str, told: str = "") -> Any:
        return json.loads(self.run(*words, "--json", told=told).stdout)

    def fault(self, *words: str, code: int, told: str = "") -> dict[str, Any]:
        done = self.run(*words, "--json", code=code, told=told)
        assert done.stdout == ""
        found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])["error"]
        assert found["exit_code"] == code
        assert found["next_step"]
        return found

    def another(self, variables: dict[str, str]) -> "Shell":
        """Give the shell of somebody else, in the same folder."""
        return Shell(self.folder, variables)

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        return {**kept, **self.variables}


@pytest.fixture(scope="session")
def make_shell() -> type[Shell]:
    """Give the way to make a shell."""
    return Shell


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journey")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[ServerProcess]:
    """Start a server on an empty data folder and a free loopback port."""
    shell = Shell(place)
    started = start_server(
        place / "data", host="127.0.0.1", port=0, log=place / "server.log", environ=shell.environ
    )
    try:
        started.wait_ready()
        yield started
    finally:
        assert started.stop() == 0, (place / "server.log").read_text()[-2000:]


@pytest.fixture(scope="module")
def shell(server: ServerProcess, place: Path) -> Shell:
    """Give the shell of the person who started the server."""
    variables = {
        "MILLPOND_CONFIG": str(place / "config.toml"),
        "MILLPOND_DATA": str(server.data),
        "COLUMNS": "200",
    }
    return Shell(place, variables)


# The portal ----------------------------------------------------------------------------------

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shots(
    monkeypatch: pytest.MonkeyPatch, missing_here: Callable[[str, str], NoReturn]
) -> ModuleType:
    """Give what drives a browser and knows every page."""
    if not shutil.which("chromium"):
        missing_here("chromium", "apt-get install chromium")
    monkeypatch.syspath_prepend(str(TOOLS))
    return load_tool("shots")


@pytest.fixture
def furnish(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give what fills a server with a little of everything."""
    return load_tool("furnish")


class OwnServer:
    """A server in a process of its own that always listens on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        self.environ = {**kept, "HOME": str(folder), "MILLPOND_ENGINE_SLOTS": "2"}
        self.start()

    def start(self) -> None:
        self.process = start_server(
            self.folder / "data", host="127.0.0.1", port=self.port,
            log=self.folder / "log", environ=self.environ,
        )  # fmt: skip
        self.process.wait_ready()

    def kill(self) -> None:
        os.kill(self.process.process.pid, signal.SIGKILL)
        self.process.process.wait()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    """Start a server that a test may kill and start again."""
    tmp_path.chmod(0o755)
    running = OwnServer(tmp_path)
    yield running
    running.process.stop()
