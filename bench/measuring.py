"""What the benches share: a server in a temporary folder, CPU and memory of its tree."""

import ctypes
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from millpond.client.client import Client
from millpond.client.process import ServerProcess, start_server
from millpond.pipelines.values import Run

_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Bench:
    """A server that runs on a folder of its own, and a client signed in to it.

    ``others`` are the processes of its cluster, if it has one.
    """

    server: ServerProcess
    client: Client
    folder: Path
    others: Sequence[int] = ()

    @property
    def pid(self) -> int:
        return self.server.process.pid

    @property
    def pids(self) -> list[int]:
        return [self.pid, *self.others]

    def cpu_seconds(self) -> float:
        """Count the server's tree, and what ended below it after its own parent."""
        for orphan in psutil.Process().children():
            if orphan.pid != self.pid and orphan.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(orphan.pid, 0)
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cpu_of_tree(self.pid) + reaped.ru_utime + reaped.ru_stime


@contextmanager
def own_server(project: str = "bench") -> Iterator[Bench]:
    """Start a server on a new data folder, make a project, and clear all away at the end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # The server goes with us.
    # A sandbox that is thrown away outlives its starter's child for a moment; it comes to us.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = Path(tempfile.mkdtemp(prefix="millpond-bench-"))
    folder.chmod(0o755)  # The sandboxes' users go through it.
    server = start_server(folder / "data", port=0, log=folder / "server.log", environ=clean(folder))
    try:
        server.wait_ready()
        client = Client(data_folder=folder / "data", project=project, environ=clean(folder))
        client.projects.make(project)
        yield Bench(server, client, folder)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def clean(folder: Path) -> dict[str, str]:
    """Give an environment in which nobody's own settings play a part."""
    kept = {
        name: each
        for name, each in os.environ.items()
        if not name.startswith("MILLPOND_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


def cpu_of_tree(pid: int) -> float:
    """Give CPU seconds of a process, of what runs below it, and of what ended there."""
    total = 0.0
    for process in tree(pid):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def memory_of_tree(pid: int) -> int:
    """Give resident bytes; pages that are shared count once per process."""
    total = 0
    for process in tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def follow(bench: Bench, run: Run) -> Run:
    """Wait for a run to end, and refuse to measure one that failed."""
    ended = bench.client.runs.wait(run.id)
    if ended.state != "succeeded":
        log = bench.client.runs.log(run.id).text[-3000:]
        raise SystemExit(f"the run {ended.state}: {ended.reason}\n{log}")
    return ended


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a table in Markdown, so that they can go onto the page as they are."""
    cells = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    for number, row in enumerate(cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("| " + " | ".join(padded) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def print_load() -> None:
    """Say how busy the machine is: figures taken on a busy one are upper bounds."""
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, {time.strftime('%Y-%m-%d %H:%M')}\n")
