"""A real server in a process of its own, and the real command line beside it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


@pytest.fixture
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
