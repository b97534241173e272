"""Dask's scheduler for the cluster, in a process of its own: a restarted server loses nothing.

``python -m millpond.engine.cluster.scheduler --folder DATA/cluster --host H --port P``
"""

# mypy: allow-untyped-calls
# Dask has types for a part of its functions only.

import argparse
import asyncio
import errno
import json
import logging
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import dask
from distributed import Scheduler
from distributed.protocol.serialize import to_serialize
from tornado.ioloop import PeriodicCallback

from millpond.engine.cluster.guarded import (
    guard,
    is_plain,
    no_unpickling,
    peer_at,
    refusal,
)
from millpond.engine.cluster.pace import CONFIGURATION, LOST_SECONDS
from millpond.engine.cluster.security import make_security
from millpond.engine.cluster.wire import PREFIX
from millpond.ground.errors import BusyError, InvalidError, MillpondError
from millpond.ground.tls import Identity, Peer

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_ASK_SECONDS = 5.0
_ALIVE_SECONDS = 5.0  # A worker heard of within this time holds its name.

_HOST_OPS = (
    "register-client",
    "identity",
    "echo",
    "versions",
    "log_event",
    "events",
    "check_idle",
)
_NODE_OPS = ("identity", "register-worker", "heartbeat_worker", "unregister")
_NODE_STREAM_OPS = (
    "task-finished",
    "task-erred",
    "release-worker-data",
    "add-keys",
    "long-running",
    "reschedule",
    "keep-alive",
    "worker-status-change",
    "request-refresh-who-has",
    "close-stream",
    "close",
)
_FOR_ITSELF = "a node speaks for itself only"


class Revoked:
    """The serials of certificates that are no longer good; read anew when the file changes."""

    def __init__(self, path: Path) -> None:
        """Read this file; none is there before the first is revoked."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._serials: frozenset[str] = frozenset()

    def __contains__(self, serial: object) -> bool:
        """Tell whether a certificate was revoked."""
        self.refresh()
        return serial in self._serials

    def refresh(self) -> bool:
        """Read the file if it has changed; tell whether it has."""
        try:
            facts = self._path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if stamp == self._stamp:
                return False
            serials = json.loads(self._path.read_text())
            self._serials = frozenset(str(each).upper() for each in serials)
            self._stamp = stamp
        except FileNotFoundError:
            changed = self._stamp is not None
            self._stamp, self._serials = None, frozenset()
            return changed
        except (OSError, ValueError, TypeError) as fault:  # Written by halves: what is known holds.
            _log.warning("%s cannot be read: %s", self._path, fault)
            return False
        return True


class ClusterScheduler(Scheduler):
    """A scheduler that knows roles: the host gives tasks, a node may only be a worker."""

    def __init__(self, identity: Identity, revoked: Revoked, host: str, port: int) -> None:
        """Listen at this address, over TLS only, without HTTP."""
        self._revoked = revoked
        super().__init__(
            security=make_security(identity),
            host=f"tls://{host}",
            port=port,
            dashboard=False,
            extensions={},
        )
        workers = {name: self.handlers[name] for name in _NODE_OPS}
        self.handlers = {name: self.handlers[name] for name in _HOST_OPS} | workers
        self.handlers["connection_stream"] = self.handle_stream
        self.handlers["millpond_cancel"] = self.cancel_task
        self.handlers["millpond_recall"] = self.recall_tasks
        self.handlers["millpond_look"] = self.look_at_nodes
        guard(self, self._check)
        for name, look in (("revoked", self._close_revoked), ("worker-ttl", self.check_worker_ttl)):
            self.periodic_callbacks[name] = PeriodicCallback(look, _LOOK_SECONDS * 1000)

    def start_http_server(self, *_args: Any, **_more: Any) -> None:
        """Open no HTTP port."""

    def _check(self, peer: Peer | None, message: Any) -> str:
        """Say why a peer's message is refused, or nothing."""
        if peer is None:
            return "its certificate says neither host nor node"
        if peer.serial in self._revoked:
            return f"the certificate {peer.serial} was revoked"
        if message is None or peer.role == "host":
            return ""
        for each in message if isinstance(message, list | tuple) else (message,):
            why = self._check_node(peer, each)
            if why:
                return why
        return ""

    def _check_node(self, peer: Peer, message: Any) -> str:
        """Say why one message of a node is refused, or nothing."""
        op = message.get("op") if isinstance(message, dict) else None
        why = ""
        if op == "task-erred":  # Ours never raises; a node's words are not passed on.
            fault = to_serialize(RuntimeError("the node could not run the task"))
            message |= {"exception": fault, "traceback": None}
            message |= {"exception_text": "", "traceback_text": ""}
        elif not is_plain(message):
            why = "a node may send no objects"
        elif op == "register-worker" and message.get("name") != peer.name:
            why = f"it is no certificate of the node {message.get('name')!r}"
        elif op in _NODE_OPS:
            why = self._check_address(peer, message)
        elif op == "log-event":  # Dask's clients print, or even unpickle, what stands in some.
            message.clear()
            message["op"] = "keep-alive"
        elif message != "OK" and op not in _NODE_STREAM_OPS:
            why = f"a node's certificate can't be used as a client's (it asked for {op!r})"
        return why or self._check_tasks(peer, message)

    def _check_address(self, peer: Peer, message: dict[str, Any]) -> str:
        """Say why a node may not speak of an address; as Dask reads it, names and all."""
        if "address" not in message:
            return ""
        try:
            address = self.coerce_address(message["address"])
        except (OSError, TypeError, ValueError):
            return "it tells no address"
        held = self.workers.get(address)
        if held is not None and held.name != peer.name:
            return _FOR_ITSELF
        message["address"] = address  # It is looked up once: names may mean another the next time.
        return ""

    def _check_tasks(self, peer: Peer, message: Any) -> str:
        """Say why a node may not speak of a task; leave out what would be believed unseen."""
        op = message.get("op") if isinstance(message, dict) else None
        if op not in _NODE_STREAM_OPS:
            return ""
        message.pop("worker", None)  # It would count for the one who speaks.
        if op == "task-finished":
            message["type"] = None  # Dask's clients unpickle it.
        if op in ("task-finished", "task-erred"):
            key = message.get("key")
            task = self.tasks.get(key) if isinstance(key, str | tuple) else None
            node = task.processing_on if task else None
            if task and node and task.run_id == message.get("run_id") and node.name != peer.name:
                return _FOR_ITSELF
        return ""

    async def add_worker(self, comm: Any, **facts: Any) -> None:
        """Take a node in; one that comes again before its old worker was missed takes its place."""
        peer = peer_at(comm)
        if peer is None or peer.role != "node":
            await comm.write(refusal("only a node can be a worker", is_worker=True))
            return
        old = self.workers.get(self.aliases.get(peer.name, ""))
        if old is not None:
            if time.time() - old.last_seen < _ALIVE_SECONDS:
                why = f"another process of the node {peer.name} is joined, at {old.address}"
                await comm.write(refusal(why, is_worker=True))
                return
            await self.remove_worker(old.address, stimulus_id="millpond-rejoined")
        await super().add_worker(comm, **facts)

    async def handle_worker(self, comm: Any, worker: str) -> None:
        """Listen to a worker to its end; what has come after it at the same address stays."""
        stream = self.stream_comms[worker]
        stream.start(comm)
        try:
            await self.handle_stream(comm=comm, extra={"worker": worker})
        finally:
            stream.abort()
            if self.stream_comms.get(worker) is stream:
                await self.remove_worker(worker, stimulus_id="millpond-connection-closed")

    async def check_worker_ttl(self) -> None:
        """Drop the workers that have been silent for too long."""
        now = time.time()
        for each in list(self.workers.values()):
            if now - each.last_seen > LOST_SECONDS:
                _log.warning("dropped the node %s: silent for %d s", each.name, LOST_SECONDS)
                await self.remove_worker(each.address, stimulus_id="millpond-silent")

    async def cancel_task(self, key: str, worker: str) -> str:
        """Pass on to a node that a task is to be stopped."""
        await self._ask(worker, op="millpond_cancel", key=key)
        return "OK"

    async def look_at_nodes(self, *, is_fresh: bool) -> dict[str, Any]:
        """Give what each node tells of itself: its last word, or asked for at this moment."""
        nodes = {
            address: facts | {"name": state.name}
            for address, state in self.workers.items()
            if isinstance(facts := state.metrics.get(PREFIX), dict)
        }
        asked = list(nodes) if is_fresh else []
        answers = await asyncio.gather(
            *(self._ask(each, op="millpond_describe") for each in asked), return_exceptions=True
        )
        for address, answer in zip(asked, answers, strict=True):
            if isinstance(answer, dict) and is_plain(answer) and address in self.workers:
                nodes[address] = answer | {"name": nodes[address]["name"]}
        return {"id": self.id, "nodes": nodes}

    async def recall_tasks(
        self, keys: Collection[str], worker: str | None = None
    ) -> dict[str, dict[str, bytes]]:
        """Ask one node, or all, for reports; by node's address, and only bytes are passed on."""
        asked = [worker] if worker else list(self.workers)
        answers = await asyncio.gather(
            *(self._ask(each, op="millpond_recall", keys=list(keys)) for each in asked),
            return_exceptions=True,
        )
        return {
            address: answer
            for address, answer in zip(asked, answers, strict=True)
            if isinstance(answer, dict)
            and all(
                isinstance(key, str) and isinstance(data, bytes) for key, data in answer.items()
            )
        }

    async def _ask(self, worker: str, **message: Any) -> Any:
        """Call a worker; nothing in its answer is unpickled, and no other node may answer."""
        with no_unpickling():
            async with asyncio.timeout(_ASK_SECONDS):
                comm = await self.rpc.connect(worker)
                try:
                    peer, node = peer_at(comm), self.workers.get(worker)
                    if peer is None or node is None or peer.name != node.name:
                        raise OSError(f"{worker} is answered by {peer}")  # noqa: TRY301 - as a call that fails.
                    await comm.write({**message, "reply": True})
                    return await comm.read()
                except BaseException:
                    comm.abort()
                    raise
                finally:
                    self.rpc.reuse(worker, comm)

    async def _close_revoked(self) -> None:
        """Close the connections of certificates that were revoked since the last look."""
        if not self._revoked.refresh():
            return
        for comm in list(self._comms):
            peer = peer_at(comm)
            if peer is not None and peer.serial in self._revoked:
                _log.warning("closed the connection of %s: its certificate was revoked", peer.name)
                comm.abort()


async def serve(identity: Identity, revoked: Path, host: str, port: int) -> None:
    """Run a scheduler until the process is told to end.

    Raises:
        MillpondError: the port is taken, or the certificate cannot be read, with what to do.
    """
    dask.config.set(CONFIGURATION)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _check_files(identity)
    try:
        scheduler = ClusterScheduler(identity, Revoked(revoked), host, port)
        await scheduler
    except (OSError, RuntimeError) as fault:
        cause = fault.__cause__ or fault
        raise _tell_start(cause, host, port) from fault
    print(f"The scheduler listens at {scheduler.address}.", flush=True)  # noqa: T201 - who starts it reads this line.
    closed = asyncio.ensure_future(scheduler.finished())
    told = asyncio.ensure_future(ended.wait())
    await asyncio.wait({closed, told}, return_when=asyncio.FIRST_COMPLETED)
    await scheduler.close(reason="told to end")
    told.cancel()
    await asyncio.gather(closed, told, return_exceptions=True)


def _check_files(identity: Identity) -> None:
    for path in (identity.certificate, identity.key, identity.authority):
        if not path.is_file():
            raise InvalidError(
                f"There is no certificate at {path}.",
                next_step="Start the server first (`millpond up`, with engine.kind = dask): it"
                " makes the host's certificate in that folder.",
            )
    try:
        identity.server_context(require_client=True)
    except OSError as fault:
        raise InvalidError(
            f"The certificate at {identity.certificate} can't be used: {fault}.",
            next_step="Remove it and its key and start the server: it makes both anew.",
        ) from fault


def _tell_start(cause: BaseException, host: str, port: int) -> MillpondError:
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return BusyError(
            f"The port {port} of {host} is taken, so the scheduler can't listen there.",
            next_step="Stop the other program (`ss -ltnp` names it; it may be another Millpond), or"
            " set cluster.scheduler_port to a free one.",
        )
    return BusyError(
        f"The scheduler could not start at {host}:{port}: {cause}",
        next_step="See that the address is one of this machine's.",
    )


def main(arguments: Collection[str] | None = None) -> int:
    """Run the scheduler; give the code that the process ends with."""
    parser = argparse.ArgumentParser(prog="python -m millpond.engine.cluster.scheduler")
    parser.add_argument("--folder", type=Path, required=True, help="holds host.crt and host.key")
    parser.add_argument("--authority", type=Path, help="its authority.crt, if it lies elsewhere")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at")  # noqa: S104 - TLS.
    parser.add_argument("--port", type=int, default=8786, help="port to listen at; 0: a free one")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder = chosen.folder
    authority = chosen.authority or folder / "authority.crt"
    identity = Identity(folder / "host.crt", folder / "host.key", authority)
    try:
        asyncio.run(serve(identity, folder / "revoked.json", chosen.host, chosen.port))
    except MillpondError as fault:
        print(f"{fault.message} {fault.next_step}", file=sys.stderr)  # noqa: T201 - for people.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
