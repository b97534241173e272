"""What a task costs through the dispatcher: the engine on this machine, and Dask over mutual TLS.

    python bench/engines.py [TASKS]

Scheduler, one node and both engines are on this machine, two slots each; the rounds are in turns.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from millpond.engine.dispatch import Dispatcher
from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import Entry, Limits, StagedInput, TaskSpec
from millpond.storage.folder import FolderStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "contracts"))
from cluster_rig import Cluster

ROUNDS = 3
CODE = b"def nothing():\n    pass\n"


def run_all(engine, count, lead):
    """Run so many tasks that do nothing, each forked from a warm process."""
    dispatcher, done, outcomes = Dispatcher(engine), threading.Semaphore(0), set()

    def on_done(report):
        outcomes.add((report.outcome, report.reason))
        done.release()

    for number in range(count):
        task = TaskSpec(
            key=f"{lead}/{number}",
            user_id="u",
            project_id="p",
            entry=Entry("empty:nothing"),
            output_prefix=f"out/{lead}/{number}",
            code=(StagedInput("empty.py", "object:code/empty.py", len(CODE)),),
            code_digest="c0de",
            preload=("empty",),
            limits=Limits(memory_bytes=128 << 20, seconds=60),
        )
        dispatcher.submit(task, "p/u", lambda _: None, on_done)
    for _ in range(count):
        done.acquire()
    dispatcher.close()
    assert outcomes == {("done", "")}, outcomes


def cpu_seconds(processes):
    """Give the CPU of this process and of these, without what runs in sandboxes."""
    times = [each.cpu_times() for each in (psutil.Process(), *processes)]
    return sum(each.user + each.system for each in times)


def main(count):
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        cluster.start_scheduler()
        cluster.start_node("n1")
        store = FolderStore(cluster.store, "http://localhost", b"k" * 32)
        store.put("code/empty.py", CODE)
        local = LocalEngine(ObjectTransfer(store), Path(folder) / "scratch", slots=2)
        remote = cluster.make_engine()
        others = [psutil.Process(each.pid) for each in cluster.processes.values()]
        engines = {"this machine": (local, []), "Dask over TLS": (remote, others)}
        found = {name: ([], []) for name in engines}
        try:
            for turn in range(-1, ROUNDS):
                for name, (engine, processes) in engines.items():
                    began, cpu = time.monotonic(), cpu_seconds(processes)
                    run_all(engine, count, f"{name[:4]}{turn}")
                    if turn >= 0:  # The first round warms up.
                        found[name][0].append((time.monotonic() - began) / count * 1000)
                        found[name][1].append((cpu_seconds(processes) - cpu) / count * 1000)
            for name, (wall, cpu) in found.items():
                told = [
                    f"{statistics.median(x):5.1f} ({min(x):.1f} to {max(x):.1f})"
                    for x in (wall, cpu)
                ]
                print(f"{name:15} ms per task {told[0]:24} CPU ms of the engine's own {told[1]}")
            for each, name in zip(others, ("scheduler", "node"), strict=True):
                print(f"{name:15} resident {each.memory_info().rss / 1e6:.0f} MB")
        finally:
            remote.close()
            local.close()
            cluster.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
