"""A node's side of Dask: one worker in this process, which only the host may call."""

# mypy: allow-untyped-calls
# Dask has types for a part of its functions only.

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Status, Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.worker import DEFAULT_METRICS

from millpond.engine.cluster.guarded import guard
from millpond.engine.cluster.pace import CONFIGURATION
from millpond.engine.cluster.running import NodeRunner, set_runner
from millpond.engine.cluster.security import make_security
from millpond.engine.cluster.wire import PREFIX
from millpond.ground.errors import BusyError
from millpond.ground.tls import Identity, Peer

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 3.0
_WORDS = re.compile(r"""'message': (['"])(.*?)\1, """)  # Dask shows the whole answer as it is.
_THREADS = 1000  # Tasks wait in the loop, not in threads; this only must never be the limit.
_KEPT_OPS = ("identity", "echo", "connection_stream", "ping", "versions", "free_keys", "terminate")


class _Releases(WorkerPlugin):
    """Stops a task whose key Dask has let go of while it ran."""

    name = "millpond-releases"

    def __init__(self, runner: NodeRunner) -> None:
        """Stop tasks of this runner."""
        self._runner = runner

    def transition(self, key: Any, start: str, finish: str, **_more: Any) -> None:
        """Hear of each change of a key's state."""
        if start in ("executing", "long-running") and finish in ("cancelled", "released"):
            self._runner.cancel(key[1])


class NodeWorker(Worker):
    """A worker without HTTP, that runs nothing but our tasks and obeys nobody but the host."""

    def __init__(
        self,
        scheduler_url: str,
        identity: Identity,
        runner: NodeRunner,
        revoked: Callable[[], Collection[str]],
        **more: Any,
    ) -> None:
        """Join this scheduler under the runner's name."""
        self._runner = runner
        super().__init__(
            scheduler_url,
            name=runner.name,
            nthreads=_THREADS,
            security=make_security(identity),
            memory_limit=0,
            dashboard=False,
            extensions={},
            plugins=(_Releases(runner),),
            metrics={**DEFAULT_METRICS, PREFIX: lambda _worker: runner.describe()},
            **more,
        )
        self.handlers = {name: self.handlers[name] for name in _KEPT_OPS}
        self.handlers["millpond_cancel"] = self.cancel_task
        self.handlers["millpond_recall"] = self.recall_tasks
        self.handlers["millpond_describe"] = self.describe

        def check(peer: Peer | None, _message: Any) -> str:
            if peer is None or peer.role != "host":
                return "only the host may call a node's worker"
            return "the certificate was revoked" if peer.serial in revoked() else ""

        guard(self, check)

    def start_http_server(self, *_args: Any, **_more: Any) -> None:
        """Open no HTTP port."""

    async def cancel_task(self, key: str) -> str:
        """Stop a task; one that is on its way here too."""
        self._runner.cancel(key, is_coming=True)
        return "OK"

    async def describe(self) -> Mapping[str, Any]:
        """Tell what this node has and runs at this moment."""
        return self._runner.describe()

    async def recall_tasks(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Give the reports of tasks that have ended here; empty bytes for those that run."""
        return self._runner.recall(keys)

    async def close(  # type: ignore[override] # As in Dask's own class.
        self,
        timeout: float = 30,  # noqa: ASYNC109 - as in Dask's own class.
        executor_wait: bool = False,
        nanny: bool = True,
        reason: str = "worker-close",
    ) -> str | None:
        """Stop every task, then leave without waiting for them."""
        for key in self._runner.running():
            self._runner.cancel(key)
        closed: str | None = await super().close(timeout, executor_wait, nanny, reason)
        return closed


async def run_worker(
    scheduler_url: str,
    identity: Identity,
    runner: NodeRunner,
    *,
    folder: Path,
    host: str = "",
    port: int = 0,
    contact_address: str = "",
    revoked: Callable[[], Collection[str]] = frozenset,
    join_seconds: float = 60.0,
) -> None:
    """Be a node's worker until the scheduler drops it or goes; cancel it to leave in order.

    Args:
        scheduler_url: ``tls://HOST:PORT``.
        identity: the node's certificate, its key, the authority.
        runner: runs the tasks; it becomes the process' runner.
        folder: a folder of the node's own for what Dask writes (next to nothing).
        host: address to listen at; empty: every one.
        port: port to listen at; 0: a free one.
        contact_address: ``tls://ADDRESS:PORT`` by which the scheduler reaches it, if not those.
        revoked: serials of certificates that are no longer good, upper-case hexadecimal.
        join_seconds: how long to try to reach the scheduler.

    Raises:
        BusyError: the scheduler did not answer, or it refused, with its words.
    """
    dask.config.set(CONFIGURATION)
    set_runner(runner)
    worker = NodeWorker(
        scheduler_url,
        identity,
        runner,
        revoked,
        host=f"tls://{host or '0.0.0.0'}",  # noqa: S104 - TLS, and only the host may call.
        port=port,
        contact_address=contact_address or None,
        local_directory=str(folder),
        death_timeout=join_seconds,
    )
    try:
        await worker
    except (OSError, RuntimeError, TimeoutError, ValueError) as fault:
        cause = str(fault.__cause__ or fault)
        words = _WORDS.search(cause)
        told = words[2] if words else cause
        raise BusyError(
            f"The node could not join the scheduler at {scheduler_url}: {told}",
            next_step="See that the scheduler runs on the host and that its port is reached from"
            " here; `millpond node doctor` says what is wrong.",
        ) from fault
    try:
        await worker.finished()
        _log.warning("the scheduler has dropped this node, or the connection to it is gone")
    finally:
        if worker.status != Status.closed:  # We are told to stop: say so, but do not insist.
            with suppress(Exception):
                await asyncio.wait_for(worker.close(_CLOSE_SECONDS), _CLOSE_SECONDS)
