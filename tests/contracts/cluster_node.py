"""A node for tests: a worker in this process, over a folder store that it shares with the host.

Its folder, the store's, its name, slots and the scheduler's address come by the environment, so
that no test that looks for its own folder in the processes finds it.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from millpond.engine.cluster.running import NodeRunner, NodeTools
from millpond.engine.cluster.workers import run_worker
from millpond.engine.gpus import GpuPlaces
from millpond.engine.local import LocalEngine
from millpond.engine.transfer import ObjectTransfer
from millpond.engine.values import StoredOutput, TaskProgress
from millpond.ground.errors import BusyError, MillpondError
from millpond.ground.tls import Identity
from millpond.storage.folder import FolderStore


class TellingRunner(NodeRunner):
    """Says what the test wants it to say of itself."""

    def describe(self):
        return super().describe() | json.loads(os.environ.get("NODE_LIES", "{}"))


class HoldingTransfer(ObjectTransfer):
    """Waits with every output of the name ``held`` until its task is stopped: nobody takes it."""

    def __init__(self, store: FolderStore) -> None:
        super().__init__(store)
        self.stopped: set[str] = set()
        self.news = threading.Condition()

    def stop(self, key: str) -> None:
        with self.news:
            self.stopped.add(f"projects/p/{key}")
            self.news.notify_all()

    def publish(self, prefix: str, path: str, fd: int, size: int) -> StoredOutput:
        if path == "held":
            with self.news:
                self.news.wait_for(lambda: prefix in self.stopped)
            raise BusyError("It was stopped.", next_step="It runs elsewhere.")
        return super().publish(prefix, path, fd, size)


async def work(runner: NodeRunner, identity: Identity, folder: Path) -> None:
    task = asyncio.ensure_future(
        run_worker(
            os.environ["NODE_SCHEDULER"],
            identity,
            runner,
            folder=folder / "dask",
            host="127.0.0.1",
            port=int(os.environ["NODE_PORT"]),
            join_seconds=20,
        )
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        os.environ["NODE_REJOINS"] = ""


def _gpu_places() -> GpuPlaces | None:
    folders = os.environ.get("NODE_GPUS", "")
    return GpuPlaces(*(Path(each) for each in folders.split(":"))) if folders else None


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    folder, store = Path(os.environ["NODE_FOLDER"]), Path(os.environ["NODE_STORE"])
    news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def tell(progress: TaskProgress) -> None:
        facts = json.dumps({**asdict(progress), "numbers": dict(progress.numbers)})
        news.sendto(facts.encode(), os.environ["NODE_NEWS"])

    transfer = HoldingTransfer(FolderStore(store, "http://localhost", b"k" * 32))
    engine = LocalEngine(
        transfer,
        folder / "scratch",
        slots=float(os.environ["NODE_SLOTS"]),
        name=os.environ["NODE_NAME"],
        takes_ahead=True,
        gpu_places=_gpu_places(),
    )
    try:
        files = (os.environ[f"NODE_{each}"] for each in ("CERTIFICATE", "KEY", "AUTHORITY"))
        identity = Identity(*(Path(each) for each in files))
        tools = NodeTools(tell=tell, stop=transfer.stop)
        while True:
            runner = TellingRunner(engine, os.environ["NODE_NAME"], tools)
            asyncio.run(work(runner, identity, folder))
            runner.close(waits=False)
            if not os.environ["NODE_REJOINS"]:
                break
    except MillpondError as fault:
        print(fault.message, fault.next_step, file=sys.stderr)
        return 1
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
