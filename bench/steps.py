"""200 steps that do nothing, 10 wide and 20 deep, through the real server; CPU per step.

    python bench/steps.py [--times 3] [--peers]

Counted: the server, its engine, the runners and the sandboxes, from the submit to the run's end.
Warm: steps are forked from a live runner; the run before the first counted one has started it.
Isolated: ``fork=False``, a new sandbox and a new Python per step, their start included.
With ``--peers``: Snakemake, Dagster (in process), Prefect and Metaflow do the same, each in a
throw-away environment, their whole process counted, in turns with Millpond.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import uv
from measuring import Bench, follow, own_server, print_load, print_table

WIDE, DEEP = 10, 20
STEPS = WIDE * DEEP

PIPELINE = """
from millpond import Table, pipeline, step

@step(fork={fork})
def first(column: int) -> Table:
    return []

@step(fork={fork})
def after(rows: Table) -> Table:
    return []

@pipeline
def {name}() -> Table:
    "Do nothing, many times."
    ends = {{}}
    for column in range({wide}):
        rows = first(column)
        for _ in range({deep} - 1):
            rows = after(rows)
        ends[f"end{{column}}"] = rows
    return ends
"""

SNAKEMAKE = """
rule all:
    input: expand("o/{{c}}_{last}", c=range({wide}))
rule first:
    output: "o/{{c}}_0"
    shell: ": > {{output}}"
for depth in range(1, {deep}):
    rule:
        name: f"after{{depth}}"
        input: f"o/{{{{c}}}}_{{depth - 1}}"
        output: f"o/{{{{c}}}}_{{depth}}"
        shell: ": > {{output}}"
"""

DAGSTER = """
import dagster as dg

@dg.op
def first(): return 0

@dg.op
def after(before): return 0

@dg.job(executor_def=dg.in_process_executor)
def steps():
    for column in range({wide}):
        value = first.alias(f"s{{column}}_0")()
        for depth in range(1, {deep}):
            value = after.alias(f"s{{column}}_{{depth}}")(value)

assert steps.execute_in_process().success
"""

PREFECT = """
from prefect import flow, task

@task
def first(column): return 0

@task
def after(before): return 0

@flow
def steps():
    ends = []
    for column in range({wide}):
        value = first.submit(column)
        for depth in range(1, {deep}):
            value = after.submit(value)
        ends.append(value)
    return [end.result() for end in ends]

steps()
"""

METAFLOW = """
from metaflow import FlowSpec, step

class Steps(FlowSpec):
    @step
    def start(self):
        self.next(self.s1)
{middle}
    @step
    def end(self):
        pass

if __name__ == "__main__":
    Steps()
"""
METAFLOW_STEPS = 10


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--times", type=int, default=3)
    given.add_argument("--peers", action="store_true")
    asked = given.parse_args()
    print_load()
    figures: dict[str, list[tuple[float, float]]] = {}
    with own_server() as bench, tempfile.TemporaryDirectory(prefix="millpond-peers-") as folder:
        runners: dict[str, Callable[[], tuple[float, float]]] = {
            "Millpond, warm": millpond(bench, "warm", fork=True),
            "Millpond, isolated": millpond(bench, "isolated", fork=False),
        }
        if asked.peers:
            runners |= peers(Path(folder))
        for run in runners.values():
            run()  # Warm the runners, the caches of bytecode, the peers' databases.
        for _ in range(asked.times):
            for name, run in runners.items():
                figures.setdefault(name, []).append(run())
    report(figures, asked.times)


def report(figures: dict[str, list[tuple[float, float]]], times: int) -> None:
    warm = statistics.median(cpu for cpu, _ in figures["Millpond, warm"])
    aims = {"Millpond, warm": "5", "Millpond, isolated": "40"}
    rows = []
    for name, found in figures.items():
        cpu = [each for each, _ in found]
        wall = statistics.median(each for _, each in found)
        middle = statistics.median(cpu)
        shown = f"{middle:.1f} ({min(cpu):.1f} to {max(cpu):.1f})"
        rows.append([name, shown, aims.get(name, ""), f"{wall:.1f}", f"{middle / warm:.1f}"])
    heads = ["200 steps by", f"CPU ms per step, median of {times}", "aim", "wall ms per step"]
    print_table([*heads, "CPU against warm"], rows)


def millpond(bench: Bench, name: str, *, fork: bool) -> Callable[[], tuple[float, float]]:
    folder = bench.folder / name
    folder.mkdir()
    code = PIPELINE.format(name=name, fork=fork, wide=WIDE, deep=DEEP)
    (folder / "pipeline.py").write_text(code)
    made = bench.client.pipelines.push(folder)
    version = bench.client.pipelines.wait(made.address)
    if version.state != "ready":
        raise SystemExit(f"{name}: {version.reason}")

    def run() -> tuple[float, float]:
        before, began = bench.cpu_seconds(), time.monotonic()
        follow(bench, bench.client.runs.start(version.address))
        wall = time.monotonic() - began
        return (bench.cpu_seconds() - before) / STEPS * 1000, wall / STEPS * 1000

    return run


def peers(folder: Path) -> dict[str, Callable[[], tuple[float, float]]]:
    sizes = {"wide": WIDE, "deep": DEEP, "last": DEEP - 1}
    middle = "".join(
        f"    @step\n    def s{n}(self):\n        self.next(self."
        + (f"s{n + 1}" if n < METAFLOW_STEPS - 2 else "end")
        + ")\n"
        for n in range(1, METAFLOW_STEPS - 1)
    )
    texts = {
        "snakemake": SNAKEMAKE.format(**sizes),
        "dagster": DAGSTER.format(**sizes),
        "prefect": PREFECT.format(**sizes),
        "metaflow": METAFLOW.format(middle=middle),
    }
    made = {}
    for name, text in texts.items():
        place = folder / name
        place.mkdir()
        script = place / ("Snakefile" if name == "snakemake" else "steps.py")
        script.write_text(text)
        steps = METAFLOW_STEPS if name == "metaflow" else STEPS
        made[f"{name} ({steps} steps)"] = peer(name, install(place, name), script, steps)
    return made


def install(place: Path, name: str) -> Path:
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    # Prefect 3.8 does not start with FastAPI from 0.140 on.
    wanted = [name, "fastapi<0.140"] if name == "prefect" else [name]
    subprocess.run([tool, "pip", "install", "-q", "--python", python, *wanted], check=True)
    return python


def peer(name: str, python: Path, script: Path, steps: int) -> Callable[[], tuple[float, float]]:
    place = script.parent
    commands = {
        "snakemake": [python.parent / "snakemake", "-q", "all", "-c2", "-s", script, "--forceall"],
        "metaflow": [python, script, "--quiet", "run", "--max-workers", "2"],
    }
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(place),
        "USER": "bench",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }

    def run() -> tuple[float, float]:
        shutil.rmtree(place / "o", ignore_errors=True)
        before, began = children_cpu(), time.monotonic()
        done = subprocess.run(
            list(map(str, commands.get(name, [python, script]))),
            cwd=place, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr.decode()[-2000:]}")
        wall = time.monotonic() - began
        return (children_cpu() - before) / steps * 1000, wall / steps * 1000

    return run


def children_cpu() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
