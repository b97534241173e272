"""The example over many files: Millpond beside a plain script with two processes.

    python bench/filetypes.py [--files 10000] [--times 2] [--from DIR ...]

Files come from this machine's Python libraries, as they are. Throughput is files per second: of
Millpond from the submit to the end of the last partition, upload and environment not counted; of
the plain script (``examples/filetypes/plain.py``, the same environment) its whole run. The two
run in turns; their rows must be equal.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measuring import Bench, follow, own_server, print_load, print_table

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "filetypes"


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--files", type=int, default=10_000)
    given.add_argument("--times", type=int, default=2)
    given.add_argument("--from", dest="sources", nargs="+", default=["/usr/lib", sys.prefix])
    asked = given.parse_args()
    print_load()
    with own_server() as bench:
        data = bench.folder / "files"
        count = gather([Path(each) for each in asked.sources], data, asked.files)
        python = prepare(bench, data)
        rates: dict[str, list[float]] = {"Millpond": [], "plain script": []}
        for _ in range(asked.times):
            seconds, rows = with_millpond(bench)
            plain_seconds, plain_rows = with_script(bench, python, data)
            rates["Millpond"].append(count / seconds)
            rates["plain script"].append(count / plain_seconds)
            if rows != plain_rows:
                raise SystemExit(f"the rows differ: {first_difference(rows, plain_rows)}")
    report(rates, count)


def report(rates: dict[str, list[float]], count: int) -> None:
    rows = [
        [name, f"{statistics.median(found):.1f}", " ".join(f"{each:.1f}" for each in found)]
        for name, found in rates.items()
    ]
    print_table([f"{count:,} files by", "files per second", "each run"], rows)
    pairs = zip(rates["Millpond"], rates["plain script"], strict=True)
    ratios = [own / plain for own, plain in pairs]
    shown = ", ".join(f"{each:.2f}" for each in ratios)
    print(f"\nMillpond against the script, paired: {shown} (aim 0.9). All rows equal.")


def gather(sources: list[Path], target: Path, most: int) -> int:
    """Copy files as they come, by hard link where that can be."""
    count = 0
    for source in sources:
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file() or path.stat().st_size > 4 << 20:
                    continue
                if count == most:
                    return count
                place = target / str(count // 100) / f"{count}-{name}"
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                count += 1
    return count


def prepare(bench: Bench, data: Path) -> Path:
    """Upload, build, run once on a few files; give a Python with the same packages."""
    client = bench.client
    client.datasets.push(data, "many")
    client.datasets.push(next(data.iterdir()), "few")
    version = client.pipelines.wait(client.pipelines.push(EXAMPLE).address)
    if version.state != "ready":
        raise SystemExit(version.reason)
    follow(bench, client.runs.start("filetypes", {"files": "few"}))
    lock = bench.folder / "lock.txt"
    lock.write_text(client.environments.lock(version.environment))
    from uv import find_uv_bin

    python = bench.folder / "venv" / "bin" / "python"
    base = [find_uv_bin(), "venv", "-q", "--python", sys.executable, python.parents[1]]
    subprocess.run(base, check=True)
    subprocess.run([base[0], "pip", "sync", "-q", "--python", python, lock], check=True)
    return python


def with_millpond(bench: Bench) -> tuple[float, list[list[str]]]:
    began = time.time()
    run = follow(bench, bench.client.runs.start("filetypes", {"files": "many"}))
    steps = {each.name: each for each in bench.client.runs.steps(run.id)}
    ended = steps["identify"].ended_at
    assert ended is not None
    target = bench.folder / run.id
    bench.client.runs.download(run.id, target)
    return ended.timestamp() - began, read(target / "predictions.csv")


def with_script(bench: Bench, python: Path, data: Path) -> tuple[float, list[list[str]]]:
    target, began = bench.folder / "plain.csv", time.time()
    subprocess.run([python, EXAMPLE / "plain.py", data, target, "2"], check=True)
    return time.time() - began, read(target)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [[*row[:3], f"{float(row[3]):.4f}", row[4]] for row in list(csv.reader(file))[1:]]


def first_difference(own: list[list[str]], plain: list[list[str]]) -> str:
    for one, other in zip(own, plain, strict=False):
        if one != other:
            return f"{one} against {other}"
    return f"{len(own)} rows against {len(plain)}"


if __name__ == "__main__":
    main()
