"""Run the tasks that come to this node; one ``NodeRunner`` in each worker's process.

Dask calls ``run_task`` with an order. The runner makes the environment, lets the node's local
engine run the task in a sandbox, and keeps the report until the host has asked for it, so that a
host that was restarted learns how the tasks have ended that it did not hear of.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

from millpond.engine.cluster.wire import Order, pack_report, read_order
from millpond.engine.port import Engine
from millpond.engine.values import Limits, Outcome, TaskProgress, TaskReport, TaskSpec
from millpond.ground.errors import BusyError, MillpondError

OnReport = Callable[[bytes], None]
Grant = Mapping[str, Any]

_KEPT_MOST, _KEPT_BYTES_MOST = 5_000, 64 << 20
_EARLY_SECONDS = 30.0  # A cancellation that overtook its task is remembered for so long.
_THREADS = 64
_log = logging.getLogger(__name__)


class NodeEngine(Engine, Protocol):
    """An engine on one machine, which knows what it holds."""

    def running(self) -> Mapping[str, Limits]:
        """Give what every task that is here takes, by key; also of those that are being stopped."""
        ...


def _keep_environment(environment: str) -> str:
    return environment


def _no_grant(_task: TaskSpec, _grant: Grant) -> None:
    """Do nothing: the transfer needs no word before a task begins."""


def _no_end(_task: TaskSpec) -> None:
    """Do nothing: the transfer needs no word after a task has ended."""


def _no_stop(_key: str) -> None:
    """Do nothing: the transfer cannot be broken off."""


def _no_progress(_news: TaskProgress) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class NodeTools:
    """What a node does around its tasks; ``worker.py`` gives it. All are called from threads.

    Attributes:
        prepare: makes an environment (``lock:DIGEST``, or a folder, which it gives back) and gives
            its folder; may take minutes. A MillpondError ends the task with its words.
        begin: hears of a task and its grant before anything of it is fetched.
        end: hears that a task has ended, however it ended; always after ``begin``.
        stop: hears, perhaps many times, that a task is to be stopped: nothing more of it is fetched
            or published, and what waits for the host waits no longer.
        tell: sends a task's progress to the host.
    """

    prepare: Callable[[str], str] = _keep_environment
    begin: Callable[[TaskSpec, Grant], None] = _no_grant
    end: Callable[[TaskSpec], None] = _no_end
    stop: Callable[[str], None] = _no_stop
    tell: Callable[[TaskProgress], None] = _no_progress


@dataclass
class _Held:
    """A task that is with this node now."""

    order: Order
    listeners: list[OnReport] = field(default_factory=list)
    is_cancelled: bool = False
    is_submitted: bool = False


class NodeRunner:
    """Runs orders on this node. Safe to call from many threads."""

    def __init__(self, engine: NodeEngine, name: str, tools: NodeTools | None = None) -> None:
        """Run tasks with this node's own engine, under the node's name."""
        self._engine, self.name = engine, name
        self._tools = tools or NodeTools()
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._early: dict[str, float] = {}
        self._is_closed = False
        self._boot, self._told = uuid4().hex, count(1)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="runner")

    def run(self, data: bytes, on_report: OnReport) -> None:
        """Start an order; its packed report goes to ``on_report``, once, from another thread."""
        order = read_order(data)
        key = order.task.key
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.listeners.append(on_report)
                return
            held = self._held[key] = _Held(order, [on_report])
            held.is_cancelled = self._is_closed or self._early.pop(key, 0) > time.monotonic()
            self._drop_kept(key)
            if not self._is_closed:
                self._threads.submit(self._start, held)
                return
        self._finish(held, _end_early(order.task, self.name, "cancelled", "The node stops."))

    def cancel(self, key: str, *, is_coming: bool = False) -> None:
        """Stop a task, whatever it is at; ``is_coming`` stops also one that is not here yet.

        Also one that a runner before this one has left in the engine.
        """
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.is_cancelled = True
            elif is_coming and key not in self._kept:
                now = time.monotonic()
                self._early = {each: end for each, end in self._early.items() if end > now}
                self._early[key] = now + _EARLY_SECONDS
        self._tools.stop(key)
        if held is None or held.is_submitted:
            self._engine.cancel(key)

    def describe(self) -> dict[str, Any]:
        """Tell what this node has, and what it runs; small and quick, told every second or so.

        What a runner before this one was told to stop counts until it is dead: it has its slots.
        """
        node = self._engine.nodes()[0]
        limits = dict(self._engine.running())
        with self._lock:
            limits |= {key: held.order.task.limits for key, held in self._held.items()}
        return {
            "boot": self._boot,
            "told": next(self._told),
            "name": self.name,
            "slots": node.slots,
            "memory_bytes": node.memory_bytes,
            "gpus": node.gpus,
            "isolated": node.isolated,
            "reason": node.reason,
            "running": {
                key: [each.cpu_slots, each.memory_bytes, each.gpus] for key, each in limits.items()
            },
        }

    def recall(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Give the reports of those that have ended here; empty bytes for those that run."""
        with self._lock:
            return {
                key: b"" if key in self._held else self._kept[key]
                for key in keys
                if key in self._held or key in self._kept
            }

    def running(self) -> list[str]:
        """Give the keys of the tasks that are with this node now."""
        with self._lock:
            return list(self._held)

    def close(self, *, waits: bool = True) -> None:
        """Cancel everything; the engine itself is closed by who made it.

        Args:
            waits: whether to wait for what is being made ready; it ends by itself.
        """
        with self._lock:
            self._is_closed = True
        for key in self.running():
            self.cancel(key)
        self._threads.shutdown(wait=waits)

    def _start(self, held: _Held) -> None:
        """Make what the task needs and give it to the engine."""
        task = held.order.task
        try:
            self._tools.begin(task, held.order.grant)
            ready = replace(task, environment=self._tools.prepare(task.environment))
            with self._lock:
                is_cancelled = held.is_cancelled
                held.is_submitted = True
            if is_cancelled:
                report = _end_early(task, self.name, "cancelled", "It was cancelled.")
            else:
                self._submit(held, ready)
                if held.is_cancelled:  # In the moment between.
                    self._engine.cancel(task.key)
                return
        except BusyError as fault:
            report = _end_early(task, self.name, "lost", f"{fault.message} {fault.next_step}")
        except MillpondError as fault:
            report = _end_early(task, self.name, "failed", f"{fault.message} {fault.next_step}")
        except Exception as fault:  # noqa: BLE001 - one task's trouble must not stop the node.
            _log.exception("task %s could not be started", task.key)
            report = _end_early(task, self.name, "lost", f"The node could not run it: {fault!r}.")
        self._finish(held, report)

    def _submit(self, held: _Held, ready: TaskSpec) -> None:
        """Give a task to the engine, or tell the host that there is no room: it sends it later."""
        try:
            self._engine.submit(
                ready,
                on_progress=self._tools.tell,
                on_done=lambda report: self._finish(held, report),
                waits=held.order.waits,
            )
        except BusyError as fault:
            _log.warning("no room for the task %s beside %s", ready.key, self._engine.running())
            words = f"{fault.message} {fault.next_step}"
            report = _end_early(ready, self.name, "lost", words)
            self._finish(held, replace(report, is_refused=True))

    def _finish(self, held: _Held, report: TaskReport) -> None:
        """Keep the report and tell it."""
        key = held.order.task.key
        try:
            self._tools.end(held.order.task)
        except Exception:  # noqa: BLE001 - as above.
            _log.exception("the end of task %s was not taken", key)
        data = self._pack(report)
        with self._lock:
            self._held.pop(key, None)
            self._drop_kept(key)
            self._kept[key] = data
            self._kept_bytes += len(data)
            while len(self._kept) > _KEPT_MOST or self._kept_bytes > _KEPT_BYTES_MOST:
                if len(self._kept) == 1:
                    break
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
            listeners = list(held.listeners)
        for tell in listeners:
            try:
                tell(data)
            except Exception:  # noqa: BLE001 - as above.
                _log.exception("the report of task %s was not taken", key)

    def _pack(self, report: TaskReport) -> bytes:
        """Write a report; one that cannot be written is told as lost, so that its end is told."""
        try:
            return pack_report(report)
        except Exception as fault:  # noqa: BLE001 - as above.
            _log.exception("the report of task %s could not be written", report.key)
            words = f"Its report could not be written: {fault!r}."
            return pack_report(
                replace(report, outcome="lost", reason=words, outputs=(), left_out=(), result=None)
            )

    def _drop_kept(self, key: str) -> None:
        self._kept_bytes -= len(self._kept.pop(key, b""))


def _end_early(task: TaskSpec, node: str, outcome: Outcome, reason: str) -> TaskReport:
    return TaskReport(
        key=task.key,
        outcome=outcome,
        exit_code=None,
        reason=reason,
        started_at=datetime.now(UTC),
        node=node,
        isolated=False,
    )


_runners: list[NodeRunner] = []


def set_runner(runner: NodeRunner) -> None:
    """Make this the runner of the process; ``run_task`` finds it."""
    _runners[:] = [runner]


async def run_task(data: bytes) -> None:
    """Run an order to its end: what Dask calls. The host asks for the report by itself."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def tell(_report: bytes) -> None:
        with suppress(RuntimeError):  # The loop is closed: the node stops, nobody listens.
            loop.call_soon_threadsafe(ended.set)

    _runners[0].run(data, tell)
    await ended.wait()
