"""A node's worker: runs tasks in sandboxes, keeps objects, tells the host how this machine is.

``python -m millpond.worker --folder FOLDER [--supervise]``

It ends when it can't go on as it is: its service (or ``--supervise``) starts it anew. Refused by
the host it stays, tries again less and less often, and works again once that is mended.
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from uv import find_uv_bin

from millpond.engine.cluster.cache import Cache
from millpond.engine.cluster.door import Door
from millpond.engine.cluster.news import News
from millpond.engine.cluster.running import NodeRunner, NodeTools
from millpond.engine.cluster.spool import Spool
from millpond.engine.cluster.transfer import DoorTransfer
from millpond.engine.cluster.workers import run_worker
from millpond.engine.footprint import TaskMeter
from millpond.engine.local import LocalEngine
from millpond.engine.rules import Unisolated
from millpond.environments.on_nodes import NodeEnvironments, index_of_host
from millpond.ground.errors import BusyError, MillpondError, NotFoundError
from millpond.ground.logs import set_up_logs
from millpond.ground.versions import code_version
from millpond.machines.authority import RENEW_DAYS, make_key, make_request
from millpond.machines.files import DEFAULT_FOLDER, NodeConfig, NodeFiles
from millpond.machines.meters import Sampler
from millpond.machines.pulse import Pulse, Rhythm
from millpond.machines.refusals import Refusals, try_again
from millpond.machines.resources import cache_bytes, listen, listens_near, open_disk
from millpond.machines.supervising import (
    AGAIN,
    GOOD_SECONDS,
    REFUSED,
    STOPPED,
    pause_after,
    supervise,
)
from millpond.machines.values import NodeFacts
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.scrubbing import Scrubber
from millpond.storage.nodes.serving import DataServer, build_data_app
from millpond.storage.nodes.tokens import TokenChecker
from millpond.storage.nodes.values import DiskFacts

VERSION = code_version()
_MEMORY_SHARE = 0.9
_TRIES_ON = "It tries again by itself, at least once a minute."
_log = logging.getLogger("millpond.worker")


class Node:
    """All that a node's process holds, from its start to its end."""

    def __init__(
        self, files: NodeFiles, config: NodeConfig, stack: ExitStack, refusals: Refusals
    ) -> None:
        """Open it; what is opened is closed by the stack, in the reverse order."""
        self._files, self._config, self._stack = files, config, stack
        self.refusals, self._heard = refusals, threading.Event()
        self._identity = files.identity()
        self._stopping = threading.Event()
        self.code = STOPPED
        self._runner: NodeRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._may_be_plain = False
        folder = files.folder
        self._door = Door(f"https://{_host_part(config.host)}:{config.door_port}", self._identity)
        stack.callback(self._door.close)
        self._disk, self._disk_fault = open_disk(config, files)
        peers = NodeClient(self._identity)
        stack.callback(peers.close)
        self._cache = Cache(folder / "cache", cache_bytes(folder))

        def spool(send: Callable[[str, int, bytes], None]) -> Spool:
            return Spool(folder / "spool", send)

        self._transfer = DoorTransfer(self._door, self._cache, spool, peers, disk=self._disk)
        stack.callback(self._transfer.close)
        self._tasks: TaskMeter | None = None
        self._sampler = self._make_sampler()
        self._engine = self._make_engine()
        self._tasks = TaskMeter(self._engine.held)
        stack.callback(self._engine.close)
        self._pulse = self._make_pulse()
        self._data_port = self._serve_data(peers)
        news = News(self._door, self._transfer.token_of)
        stack.callback(news.close)
        self._environments = self._make_environments()
        self._tools = NodeTools(
            prepare=self._environments.prepare,
            begin=self._transfer.begin,
            end=self._transfer.end,
            stop=self._transfer.stop,
            tell=news.tell,
        )

    # Parts -----------------------------------------------------------------------------------

    def _make_sampler(self) -> Sampler:
        data = [Path(each) for each in (self._config.data_disk,) if each]
        return Sampler([self._files.folder, *data], tasks=self._tell_tasks)

    def _make_engine(self) -> LocalEngine:
        return LocalEngine(
            self._transfer,
            self._files.folder / "scratch",
            name=self._config.name,
            slots=self._config.slots or None,
            memory_bytes=int(self._sampler.sample()["memory_total"] * _MEMORY_SHARE),
            unisolated=lambda: Unisolated(is_allowed=self._may_be_plain),
            takes_ahead=True,
        )

    def _make_environments(self) -> NodeEnvironments:
        folder = self._files.folder
        return NodeEnvironments(
            folder / "environments",
            uv=Path(find_uv_bin()),
            variables=index_of_host(f"{self._door.url}/door/v1/packages", self._identity, folder),
            read_lock=self._transfer.read_lock,
            open_object=self._transfer.open,
        )

    def _make_pulse(self) -> Pulse:
        return Pulse(
            self._door,
            VERSION,
            self._tell,
            self._take,
            self._be_refused,
            folder=self._files.folder,
            rhythm=Rhythm(self._config.heartbeat_seconds),
        )

    def _serve_data(self, peers: NodeClient) -> int:
        """Serve the data disk's objects, if there is one; give the port."""
        if self._disk is None:
            return 0
        checker = TokenChecker(self._config.token_key, self._config.name)
        app = build_data_app(self._disk, checker, peers, self._pulse.revoked)
        listening = listen(self._config, self._config.data_port, "data route", "data_port")
        server = DataServer(app, self._identity, listening)
        self._stack.callback(listening.close)
        self._stack.callback(server.stop)
        server.start()
        scrubber = Scrubber(self._disk)
        self._stack.callback(scrubber.stop)
        scrubber.start()
        return int(listening.getsockname()[1])

    # What it tells and is told ---------------------------------------------------------------

    def _tell(self) -> Mapping[str, Any]:
        store: DiskFacts | None = None
        if self._disk is not None:
            store = self._disk.look()
        elif self._config.data_disk:
            store = DiskFacts("", is_ok=False, reason=self._disk_fault)
        facts = asdict(store) if store else None
        if facts is not None:
            facts["epoch"] = str(facts["epoch"])
        return {
            "facts": asdict(self._facts()),
            "meters": self._sampler.sample(),
            "running": self._runner.running() if self._runner else [],
            "store": facts,
        }

    def _facts(self) -> NodeFacts:
        here = self._engine.nodes()[0]
        return NodeFacts(
            slots=here.slots,
            cores=float(len(os.sched_getaffinity(0))),
            memory_bytes=here.memory_bytes,
            gpus=here.gpus,
            python=platform.python_version(),
            isolated=here.isolated,
            reason=here.reason,
            address=self._config.address,
            data_port=self._data_port,
            worker_port=self._config.worker_port,
            data_disk=self._config.data_disk if self._disk else "",
            system=platform.platform(terse=True),
        )

    def _tell_tasks(self) -> list[dict[str, Any]]:
        """Tell what each task takes, and the key alone of those that are being made ready."""
        measured = self._tasks.sample() if self._tasks else []
        known = {each["key"] for each in measured}
        keys = self._runner.running() if self._runner else []
        return [*measured, *({"key": key} for key in keys if key not in known)]

    def _take(self, answer: Mapping[str, Any]) -> None:
        """Do what the host says with its answer to a heartbeat, and keep the disk tidy."""
        if self.refusals.count:
            self.refusals = Refusals()
            _say("The host takes this node again.")
        self._heard.set()
        self._cache.trim()
        self._environments.trim()
        try:
            self._transfer.renew()
        except MillpondError as fault:  # A task's trouble, not the node's.
            _log.warning("tokens could not be renewed: %s", fault.message)
        self._may_be_plain = bool(answer.get("allow_unisolated"))
        if self._disk is not None and "store_epoch" in answer:
            self._disk.remember_epoch(int(answer["store_epoch"]))
        if self._disk is None and self._config.data_disk and Path(self._config.data_disk).is_dir():
            disk, _ = open_disk(self._config, self._files)
            if disk is not None:
                self._restart_when_idle("The data disk is there again.")
        if _is_due(self._identity.certificate):
            self._renew()

    def _renew(self) -> None:
        csr = make_request(make_key(self._files.key)).decode()
        answer = self._door.post("renew", {"csr": csr})
        self._files.write_certificate(str(answer["certificate"]), str(answer["authority"]))
        self._door.renew()
        self._restart_when_idle("The certificate was renewed.")

    def _restart_when_idle(self, why: str) -> None:
        if not (self._runner and self._runner.running()):
            _log.info("%s Starting anew.", why)
            self.stop(AGAIN)

    def _be_refused(self, fault: MillpondError) -> None:
        self.refusals = self.refusals.after(fault)
        if self.refusals.is_new:
            _say(f"{fault.message}\n{fault.next_step}\n{_TRIES_ON}")
        self.stop(REFUSED)

    # Running ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop."""
        self._pulse.start()
        if self.refusals.count:  # Nobody gives it tasks before the host takes it again.
            self._heard.wait()
            if self._stopping.is_set():
                self._hush()
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._runner = NodeRunner(self._engine, self._config.name, self._tools)
            try:
                asyncio.run(self._work(self._runner))
            except BusyError as fault:
                _log.warning("%s %s", fault.message, fault.next_step)
            finally:
                if self._stopping.is_set():
                    self._hush()
                self._runner.close(waits=self._stopping.is_set())
            failures = 0 if time.monotonic() - began > GOOD_SECONDS else failures + 1
            self._stopping.wait(pause_after(failures))

    def _hush(self) -> None:
        """Tell the host nothing more, and wait for it no more."""
        self._pulse.stop()
        self._door.close()
        self._transfer.close()

    async def _work(self, runner: NodeRunner) -> None:
        """Be Dask's worker until it drops us, or we are told to stop."""
        config = self._config
        named = config.worker_port and f"tls://{_host_part(config.address)}:{config.worker_port}"
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._worker = asyncio.create_task(
            run_worker(
                f"tls://{_host_part(config.host)}:{config.scheduler_port}",
                self._identity,
                runner,
                folder=self._files.folder / "dask",
                host="" if named and not listens_near(config) else config.address,
                port=config.worker_port,
                contact_address=named or "",
                revoked=self._pulse.revoked,
            )
        )
        with suppress(asyncio.CancelledError):
            if not self._stopping.is_set():
                await self._worker

    def stop(self, code: int = STOPPED) -> None:
        """End soon; from any thread, or from a signal's handler."""
        if code == STOPPED or not self._stopping.is_set():
            self.code = code
        self._stopping.set()
        self._heard.set()
        loop, worker = self._loop, self._worker
        if loop is not None and worker is not None:
            with suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(worker.cancel)


def _host_part(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_due(certificate: Path) -> bool:
    held = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    return held.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS)


@contextmanager
def open_node(folder: Path, refusals: Refusals) -> Iterator[Node]:
    """Open what a node's process holds.

    Raises:
        NotFoundError: no machine has joined with this folder.
        ConflictError: a port is taken, or another process uses the folder.
    """
    files = NodeFiles(folder)
    config = files.read()
    if config is None:
        raise NotFoundError(
            f"No machine has joined with the folder {folder}.",
            next_step="Make a token on the host with `millpond node token`, and run the command"
            " that it shows here.",
        )
    folder.chmod(0o711)  # Sandboxes walk through it; every file in it is its owner's alone.
    if config.worker_port:
        listen(config, config.worker_port, "worker", "worker_port").close()
    with ExitStack() as stack:
        yield Node(files, config, stack, refusals)


def serve(folder: Path, refusals: Refusals) -> int:
    """Be a node until told to stop; give the exit code."""
    with open_node(folder, refusals) as node:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: node.stop())
        if not refusals.count:
            _say(f"The node works from {folder}.")
        node.run()
    if node.code != REFUSED:
        return node.code
    return try_again(["-m", "millpond.worker", "--folder", str(folder)], folder, node.refusals)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a node; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millpond.worker", description="Be a node.")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="the node's own folder")
    parser.add_argument("--supervise", action="store_true", help="start it again whenever it ends")
    parser.add_argument("--refused", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    set_up_logs("INFO")
    dask = logging.getLogger("distributed")  # It has set up lines of its own, and says a lot.
    dask.handlers.clear()
    dask.propagate = True
    dask.setLevel(logging.WARNING)
    folder = given.folder.expanduser().absolute()
    if given.supervise:
        return supervise([sys.executable, "-m", "millpond.worker", "--folder", str(folder)])
    try:
        return serve(folder, Refusals.read(given.refused))
    except MillpondError as fault:
        _say(f"{fault.message}\n{fault.next_step}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
