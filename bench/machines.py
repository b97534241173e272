"""Five bare machines: bring-up, memory, many short tasks, and what each kind of loss costs.

    python bench/machines.py [--workers 4] [--tasks 2000] [--seconds 2]
        [--only PART ...] [--losses WORD ...]

Needs root: the machines are namespaces of this one (``tests/rig``), so they share its cores, and
the host's clone is of the last commit. PART is bring-up, sleep or losses; WORD is a part of a
loss' name. The tables go to standard output, what happens meanwhile to standard error.
"""

import argparse
import sys
import time
from contextlib import suppress

import psutil
from company import Company, open_company
from losses import HEADS, losses, prepare, row_of, suffer
from measuring import print_load, print_table

PARTS = ("bring-up", "sleep", "losses")
SETTINGS = {
    "cluster_load_most": "1000",  # Load is counted for the whole machine that all of them share.
    "cluster_lost_seconds": "20",
}
_IDLE_SECONDS = 20.0
_LOSS_SLOTS = 2
SLEEPING = '''
import time

from millpond import Table, pipeline, step


@step
def list_tasks(count: int) -> Table:
    for number in range(count):
        yield {"number": number}


@step(map=True, rows_per_task=1, memory="64 MiB", retries=0)
def sleep(tasks: Table, seconds: float) -> Table:
    for task in tasks:
        time.sleep(seconds)
        yield task


@pipeline
def sleeping(count: int = 16, seconds: float = 0.0) -> Table:
    """Sleep in many tasks."""
    return sleep(list_tasks(count=count), seconds=seconds)
'''


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--workers", type=int, default=4)
    given.add_argument("--slots", type=int, default=4)
    given.add_argument("--tasks", type=int, default=2000)
    given.add_argument("--seconds", type=float, default=2.0)
    given.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    given.add_argument("--losses", nargs="*", default=[""])
    asked = given.parse_args()
    print_load()
    with open_company(asked.workers, asked.slots, SETTINGS) as company:
        company.wait_up()
        if "bring-up" in asked.only:
            show_idle(company)
        if "sleep" in asked.only:
            sleep(company, asked.workers * asked.slots, asked.tasks, asked.seconds)
        if "losses" in asked.only:
            lose(company, asked.losses)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_idle(company: Company) -> None:
    """Show how long it took to get here, and what all hold that do nothing."""
    time.sleep(_IDLE_SECONDS)  # What starting has left to do is done.
    groups = {"host": company.processes(company.host, "millpond")}
    groups |= {each.name: company.processes(each, "millpond") for each in company.workers}
    before = {name: cpu(found) for name, found in groups.items()}
    time.sleep(_IDLE_SECONDS)
    used = {name: (cpu(found) - before[name]) / _IDLE_SECONDS for name, found in groups.items()}
    memory = {name: pss(found) / 1e6 for name, found in groups.items()}
    names = [each.name for each in company.workers]
    rows: list[list[object]] = [
        [name, f"{seconds:.1f}", "s", ""] for name, seconds in company.seconds.items()
    ]
    rows += [
        [
            "host idle, server and scheduler and their loops",
            f"{memory['host']:.0f}",
            "MB PSS",
            "250",
        ],
        [
            "worker idle, the largest of them",
            f"{max(memory[n] for n in names):.0f}",
            "MB PSS",
            "150",
        ],
        ["host idle, of a core", f"{used['host'] * 100:.1f}", "%", ""],
        ["worker idle, of a core", f"{max(used[n] for n in names) * 100:.1f}", "%", ""],
    ]
    for name in ("host", names[0]):
        for each in groups[name]:
            with suppress(psutil.Error):
                held, words = each.memory_full_info().pss / 1e6, " ".join(each.cmdline())
                say(f"{name}: {held:.0f} MB {words[:90]}")
    print_table(["what", "measured", "unit", "aim"], rows)
    print()


def cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for each in processes:
        with suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def pss(processes: list[psutil.Process]) -> int:
    total = 0
    for each in processes:
        with suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total


def sleep(company: Company, slots: int, tasks: int, seconds: float) -> None:
    """Run many tasks that sleep, warm; show the share of what the slots could do at best."""
    client = company.client
    folder = company.folder / "sleeping"
    folder.mkdir()
    (folder / "pipeline.py").write_text(SLEEPING)
    client.pipelines.push(folder)
    version = client.pipelines.wait("sleeping")
    if version.state != "ready":
        raise SystemExit(version.reason)
    for count, each in ((2 * slots, 0.0), (2 * slots, 1.0), (tasks, seconds)):
        machines = [company.host, *company.workers]
        found = [p for machine in machines for p in company.processes(machine, "millpond")]
        before, busy = cpu(found), sum(psutil.cpu_times()[:3])
        run = client.runs.start("sleeping", parameters={"count": count, "seconds": each})
        ended = client.runs.wait(run.id)
        if ended.state != "succeeded":
            raise SystemExit(ended.reason)
        step = next(one for one in client.runs.steps(run.id) if one.name == "sleep")
        assert step.started_at
        assert step.ended_at
        wall = (step.ended_at - step.started_at).total_seconds()
        used, busy = cpu(found) - before, sum(psutil.cpu_times()[:3]) - busy
        say(f"{count} tasks of {each} s: {wall:.1f} s; CPU {used:.1f} s ours, {busy:.1f} s of all")
    ideal = tasks * seconds / slots
    heads = ["tasks", "slots", "ideal s", "measured s", "share of ideal", "aim",
             "CPU ms a task, host and workers", "CPU ms a task, all of it"]  # fmt: skip
    row = [f"{tasks:,} of {seconds:g} s", slots, f"{ideal:.1f}", f"{wall:.1f}",
           f"{ideal / wall * 100:.1f} %", "95 %", f"{used / tasks * 1000:.0f}",
           f"{busy / tasks * 1000:.0f}"]  # fmt: skip
    print_table(heads, [row])
    print()


def lose(company: Company, words: list[str]) -> None:
    """Let each loss happen, one after another; show what they cost."""
    for worker in company.workers:
        company.client.nodes.set(worker.name, slots_most=_LOSS_SLOTS)
    prepare(company)
    rows = []
    for loss in losses():
        if not any(word in loss.name for word in words):
            continue
        say(f"loss: {loss.name}")
        seen = suffer(company, loss)
        slots = _LOSS_SLOTS * (len(company.workers) if "scheduler" in loss.name else 1)
        slots *= 2  # A successor waits in each slot.
        rows.append(row_of(seen, slots))
        say(f"{seen}")
    print_table(HEADS, rows)


if __name__ == "__main__":
    main()
