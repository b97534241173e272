"""Score two million rows with a small model: Millpond beside plain processes, Dask and Ray.

    python bench/scoring.py [--rows 2000000] [--parts 20] [--times 3] [--peers] [--nodes]

Rows of ten numbers in Parquet parts; thirty boosted trees; scores are written as Parquet, a file
per part. Throughput is rows per second: of Millpond from the submit to the end of the last part,
upload and environment not counted; of the others their whole run, their start included. All use
as many processes as there are cores, one thread each, and run in turns; their scores must be
equal. Memory is the most that a whole tree of processes held, shared pages counted once.
``--peers`` adds Dask dataframe and Ray Data, each in a throw-away environment; ``--nodes`` runs
Millpond as a cluster on loopback: a node with one slot for each core, objects on their disks.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pyarrow.parquet as pq
from loopback import own_cluster
from measuring import Bench, clean, follow, own_server, print_load, print_table, tree
from pyarrow import compute
from uv import find_uv_bin

SCORERS = Path(__file__).with_name("scorers")
CORES = len(os.sched_getaffinity(0))
PEERS = {
    "Dask dataframe": ("with_dask.py", ["dask[dataframe]", "distributed"]),
    "Ray Data": ("with_ray.py", ["ray[data]"]),
}
MAKE = """
import pickle, sys
from pathlib import Path
from typing import Self
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingRegressor
folder, rows, parts, model = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random = np.random.default_rng(7)
def some(count):
    return random.normal(size=(count, 10))
data = some(20_000)
trees = HistGradientBoostingRegressor(max_iter=30).fit(data, data @ np.arange(10) + data[:, 0] ** 2)
Path(model).write_bytes(pickle.dumps(trees))
folder.mkdir()
for number in range(parts):
    made = some(rows // parts)
    table = pa.table({f"x{place}": made[:, place] for place in range(10)})
    pq.write_table(table, folder / f"{number:04d}.parquet")
"""


@dataclass(frozen=True)
class Took:
    """What one way took: seconds that count, and bytes of memory at the most."""

    seconds: float
    memory: int


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rows", type=int, default=2_000_000)
    given.add_argument("--parts", type=int, default=20)
    given.add_argument("--times", type=int, default=3)
    given.add_argument("--peers", action="store_true")
    given.add_argument("--nodes", action="store_true")
    asked = given.parse_args()
    print_load()
    with own_cluster(CORES) if asked.nodes else own_server() as bench:
        python, parts, model = prepare(bench, asked.rows, asked.parts)
        ways: dict[str, Callable[[], tuple[Took, Path]]] = {
            "Millpond": lambda: with_millpond(bench),
            "plain processes": lambda: with_script(bench, python, "plain.py", parts, model),
        }
        for name, (script, packages) in PEERS.items() if asked.peers else ():
            other = make_python(bench.folder / script, [*lines(), *packages])
            ways[name] = lambda other=other, script=script: with_script(  # type: ignore[misc]
                bench, other, script, parts, model
            )
        took: dict[str, list[Took]] = {name: [] for name in ways}
        for _ in range(asked.times):
            seen = {}
            for name, way in ways.items():
                found, target = way()
                took[name].append(found)
                seen[name] = total_of(target)
                shutil.rmtree(target)
            if len({count for count, _ in seen.values()}) > 1 or not_equal(seen):
                raise SystemExit(f"the scores differ: {seen}")
    report(took, asked.rows)


def report(took: dict[str, list[Took]], rows: int) -> None:
    plain = [each.seconds for each in took["plain processes"]]
    shown = []
    for name, found in took.items():
        ratios = [base / each.seconds for base, each in zip(plain, found, strict=True)]
        shown.append(
            [
                name,
                f"{rows / statistics.median(each.seconds for each in found):,.0f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{max(each.memory for each in found) / 1e6:,.0f}",
            ]
        )
    heads = [f"{rows:,} rows by", "rows per second", "against plain, paired", "MB at the most"]
    print_table(heads, shown)


def prepare(bench: Bench, rows: int, count: int) -> tuple[Path, Path, Path]:
    """Make model and parts, upload them, build, run once; give a Python, the parts, the model."""
    python = make_python(bench.folder / "plain", lines())
    code, parts = bench.folder / "code", bench.folder / "parts"
    shutil.copytree(SCORERS, code, ignore=shutil.ignore_patterns("with_*", "plain.py", "__*"))
    model = code / "model.pickle"
    subprocess.run([python, "-c", MAKE, parts, str(rows), str(count), model], check=True)
    client = bench.client
    client.datasets.push(parts, "parts")
    version = client.pipelines.wait(client.pipelines.push(code).address)
    if version.state != "ready":
        raise SystemExit(version.reason)
    follow(bench, client.runs.start("scoring", {"parts": "parts"}))
    return python, parts, model


def lines() -> list[str]:
    return (SCORERS / "requirements.txt").read_text().split()


def make_python(folder: Path, packages: list[str]) -> Path:
    tool, python = find_uv_bin(), folder / "bin" / "python"
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, folder], check=True)
    subprocess.run([tool, "pip", "install", "-q", "--python", python, *packages], check=True)
    return python


def with_millpond(bench: Bench) -> tuple[Took, Path]:
    began = time.time()
    with Memory(*bench.pids) as memory:
        run = follow(bench, bench.client.runs.start("scoring", {"parts": "parts"}))
    ended = bench.client.runs.steps(run.id)[0].ended_at
    assert ended is not None
    target = Path(tempfile.mkdtemp(dir=bench.folder)) / "out"
    bench.client.runs.download(run.id, target)
    return Took(ended.timestamp() - began, memory.most), target


def with_script(
    bench: Bench, python: Path, script: str, parts: Path, model: Path
) -> tuple[Took, Path]:
    target = Path(tempfile.mkdtemp(dir=bench.folder)) / "out"
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    command = [python, SCORERS / script, parts, target, model, str(CORES)]
    began = time.monotonic()
    process = subprocess.Popen(command, env=clean(bench.folder) | threads)
    with Memory(process.pid) as memory:
        code = process.wait()
    if code:
        raise SystemExit(f"{script} ended with {code}")
    return Took(time.monotonic() - began, memory.most), target


class Memory:
    """Watches the memory of trees of processes."""

    def __init__(self, *pids: int) -> None:
        self._pids, self.most = pids, 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(0.3):
            total = 0
            try:
                for process in (each for pid in self._pids for each in tree(pid)):
                    total += process.memory_full_info().pss
            except psutil.Error:
                continue
            self.most = max(self.most, total)


def total_of(target: Path) -> tuple[int, float]:
    """Count the scores and add them up."""
    count, total = 0, 0.0
    for path in target.rglob("*.parquet"):
        column = pq.read_table(path, columns=["score"]).column("score")
        count += len(column)
        total += float(compute.sum(column).as_py())
    return count, total


def not_equal(seen: dict[str, tuple[int, float]]) -> bool:
    totals = [total for _, total in seen.values()]
    return max(totals) - min(totals) > 1e-6 * max(1.0, abs(totals[0]))


if __name__ == "__main__":
    main()
