"""Installations that may be killed, starved and cut off; all that they leave behind goes."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from millpond import Client
from millpond.client.process import ServerProcess, start_server

CODE = {
    "sizes": """
        import time
        from millpond import Files, Table, pipeline, step

        @step(map=True, files_per_task=1, memory="128 MiB", retries=1)
        def measure(files: Files, seconds: float = 0.0, rows: int = 1) -> Table:
            for file in files:
                print("measuring", file.name, flush=True)
                time.sleep(seconds)
                for row in range(rows):
                    yield {"path": file.name, "size": file.size, "row": row}

        @step(memory="128 MiB")
        def add(sizes: Table) -> Table:
            yield {"total": sum(row["size"] for row in sizes if row["row"] == 0)}

        @pipeline
        def sizes(files: Files, seconds: float = 0.0, rows: int = 1) -> {"sizes": Table, "total": Table}:
            "Sizes of files, told slowly."
            measured = measure(files, seconds=seconds, rows=rows)
            return {"sizes": measured, "total": add(measured)}
    """,
}


class Installation:
    """A data folder with a server that is started, stopped and killed at will."""

    def __init__(self, folder: Path, data: Path | None = None, **settings: object) -> None:
        self.folder, self.data = folder, data or folder / "data"
        self.log = folder / "server.log"
        self.settings = {name: str(value) for name, value in settings.items()}
        self.server: ServerProcess | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]  # The same after each start, so that clients go on.

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        return kept | {"MILLPOND_" + name.upper(): value for name, value in self.settings.items()}

    def launch(self) -> None:
        """Start the server without waiting for it."""
        self.server = start_server(
            self.data, host="127.0.0.1", port=self.port, log=self.log, environ=self.environ
        )

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        assert self.server is not None
        self.server.wait_ready()

    def stop(self) -> None:
        """Ask the server to stop; it must do so in order."""
        server, self.server = self.server, None
        if server is not None:
            assert server.stop() == 0, self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """End the server as a power cut would."""
        server, self.server = self.server, None
        if server is not None:
            server.process.kill()
            server.process.wait()

    def client(self, project: str = "one") -> Client:
        return Client(data_folder=self.data, project=project, environ={"HOME": str(self.folder)})

    def processes(self) -> list[psutil.Process]:
        """Give every process that speaks of this installation: server, keepers, sandboxes."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if str(self.data) in words or process.cwd().startswith(str(self.data)):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def end(self) -> None:
        """End whatever is left of it, also after a test failed."""
        self.kill()
        for process in self.processes():
            try:
                process.kill()
                process.wait(10)
            except psutil.Error:
                continue


def write_code(folder: Path, source: str, requirements: str = "") -> Path:
    """Write a pipeline's folder."""
    lines = source.strip("\n").splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.py").write_text("\n".join(line[indent:] for line in lines) + "\n")
    if requirements:
        (folder / "requirements.txt").write_text(requirements)
    return folder


def until(is_so: Callable[[], Any], seconds: float = 60, pause: float = 0.02) -> Any:
    """Look until something is so; give what was found."""
    end = time.monotonic() + seconds
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(pause)


class Tools:
    """What the tests of faults share."""

    CODE = CODE
    until = staticmethod(until)
    write_code = staticmethod(write_code)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture(scope="module")
def install() -> Iterator[Callable[..., Any]]:
    """Give a maker of installations; at the end each is ended and its folder removed."""
    made: list[Installation] = []

    @contextmanager
    def make(*, data: Path | None = None, **settings: object) -> Iterator[Installation]:
        # Not below pytest's folder: users' sandboxes of another uid must be able to reach it.
        folder = Path(tempfile.mkdtemp(prefix="millpond-fault-"))
        one = Installation(folder, data, **settings)
        made.append(one)
        try:
            yield one
        finally:
            one.end()
            shutil.rmtree(folder, ignore_errors=True)

    yield make
    left = [process.cmdline() for one in made for process in one.processes()]
    assert not left
