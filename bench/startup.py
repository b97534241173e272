"""From ``millpond up`` on an existing data folder to the first answered request; then idle.

    python bench/startup.py [--times 5]

CPU is that of ``millpond up`` and of all that it starts, until /healthz has answered once.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from measuring import clean, cpu_of_tree, memory_of_tree, print_load, print_table

from millpond.client.local import read_server
from millpond.client.process import answers

IDLE_SECONDS = 10.0


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--times", type=int, default=5)
    times = given.parse_args().times
    folder = Path(tempfile.mkdtemp(prefix="millpond-bench-"))
    folder.chmod(0o755)
    print_load()
    try:
        start(folder)  # The first start makes the data folder; it does not count.
        starts = [start(folder) for _ in range(times)]
        rows = []
        for name, place, unit, aim in (
            ("wall to the first answer", 0, "s", ""),
            ("CPU to the first answer", 1, "s", "1.5"),
            ("resident, server and its own processes", 2, "MB", "120"),
            ("resident, with `millpond up`", 3, "MB", ""),
            ("idle CPU of a core over 10 s", 4, "%", "0.5"),
        ):
            values = [each[place] for each in starts]
            shown = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            rows.append([name, shown, unit, aim])
        print_table(["what", f"median of {times} (range)", "unit", "aim"], rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path) -> tuple[float, float, float, float, float]:
    data = folder / "data"
    began = time.monotonic()
    millpond = Path(sys.executable).with_name("millpond")
    command = [millpond, "up", "--data", data, "--port", "0"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env=clean(folder), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        while not is_up(data, process):
            time.sleep(0.01)
        wall, cpu = time.monotonic() - began, cpu_of_tree(process.pid)
        time.sleep(2)  # What is put off until after the first answer is not idle yet.
        server = read_server(data)
        assert server is not None
        own, every = memory_of_tree(server.process), memory_of_tree(process.pid)
        before = cpu_of_tree(process.pid)
        time.sleep(IDLE_SECONDS)
        idle = (cpu_of_tree(process.pid) - before) / IDLE_SECONDS * 100
        return wall, cpu, own / 1e6, every / 1e6, idle
    finally:
        process.terminate()
        process.wait(30)


def is_up(data: Path, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"millpond up ended with code {process.returncode}")
    server = read_server(data)
    if server is None or not psutil.pid_exists(server.process):
        return False
    return answers(server.url)


if __name__ == "__main__":
    main()
