"""The engine on this machine: threads that each drive one warm sandbox at a time."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from millpond.engine import rules
from millpond.engine.attempt import Attempt
from millpond.engine.footprint import Held
from millpond.engine.gpus import NOTHING, Given, GpuPlaces, Gpus
from millpond.engine.making import SandboxMaker
from millpond.engine.port import OnDone, OnProgress, Transfer
from millpond.engine.probe import Machine, probe_machine
from millpond.engine.scratch import Scratch
from millpond.engine.shelf import Shelf, sandbox_key
from millpond.engine.starting import Starter
from millpond.engine.values import Limits, NodeInfo, TaskProgress, TaskReport, TaskSpec
from millpond.engine.warm import BrokenError, CancelledError, Ended, StuckError, WarmSandbox
from millpond.ground.errors import BusyError, ConflictError, MillpondError

NODE = "local"
_THREADS, _AHEAD_SECONDS = 256, 30.0
_log = logging.getLogger(__name__)


@dataclass
class _Running:
    """A task that is here, from its submission to its report.

    Attributes:
        is_in_slot: whether it holds its slots: not yet while it waits, no more while it publishes.
        came_ahead: whether it was sent to wait.
        given: its graphics processors; it has them to its end, for its sandbox shows them.
    """

    task: TaskSpec
    on_progress: OnProgress
    on_done: OnDone
    sandbox: WarmSandbox | None = None
    is_cancelled: bool = False
    is_in_slot: bool = True
    came_ahead: bool = False
    given: Given = NOTHING

    def tell(self, news: TaskProgress) -> None:
        self.on_progress(news)


class LocalEngine:
    """Runs tasks on this machine; see ``engine.port`` for what it promises."""

    places_itself = False
    outlives = False

    def __init__(
        self,
        transfer: Transfer,
        scratch: Path,
        *,
        slots: float | None = None,
        memory_bytes: int | None = None,
        idle_most: int = 10,
        idle_seconds: float = 600.0,
        isolate: bool = True,
        unisolated: Callable[[], rules.Unisolated] = rules.Unisolated,
        uids: tuple[int, int] = rules.UIDS,
        name: str = NODE,
        prepare: Callable[[str], str] = str,
        takes_ahead: bool = False,
        ahead_seconds: float = _AHEAD_SECONDS,
        gpus: int | None = None,
        gpu_places: GpuPlaces | None = None,
    ) -> None:
        """Take the scratch folder over and find out what this machine can do.

        Args:
            transfer: moves bytes.
            scratch: folder of its own, best on the file system of the objects: then inputs are
                hard links.
            slots: cores to give away; all when None.
            memory_bytes: memory to give away; nine tenths of the machine's when None.
            idle_most: warm sandboxes kept when idle.
            idle_seconds: how long each is kept.
            isolate: False runs programs without a sandbox even where there could be one.
            unisolated: asked before each task that would run without a sandbox.
            uids: range of uids for users' sandboxes.
            name: of this node.
            prepare: gives the folder of what a task calls its environment; may take minutes.
            takes_ahead: whether tasks may wait here, made ready, for the end of others.
            ahead_seconds: how long one waits at most: another node may have slots much sooner.
            gpus: graphics processors to give away at most; all when None.
            gpu_places: where these are told of.
        """
        self.name = name
        self._transfer, self._unisolated, self._prepare = transfer, unisolated, prepare
        self._scratch = Scratch(scratch)
        self._starter = Starter()
        self.machine: Machine = probe_machine(self._starter)
        self._is_isolated = isolate and self.machine.sandbox.works
        if self.machine.groups:
            self.machine.groups.sweep(self._scratch.prefix)
        self._slots = float(slots if slots is not None else len(os.sched_getaffinity(0)))
        self._memory = memory_bytes or _machine_memory() * 9 // 10
        self._gpus = Gpus(gpu_places, most=gpus)
        self._maker = SandboxMaker(
            transfer, self._scratch, self.machine, isolate=self._is_isolated, uids=uids
        )
        self._shelf = Shelf(most=idle_most, seconds=idle_seconds)
        self._takes_ahead, self._ahead_seconds = takes_ahead, ahead_seconds
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._running: dict[str, _Running] = {}
        self._is_draining = self._is_closed = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")

    def watch(self, on_change: Callable[[], None]) -> None:
        """Do nothing: this machine neither comes nor goes."""

    def submit(
        self,
        task: TaskSpec,
        *,
        on_progress: OnProgress,
        on_done: OnDone,
        node: str = "",
        waits: bool = False,
    ) -> None:
        """Start a task in a thread.

        Raises:
            BusyError: its slots or its memory are not free, or the engine drains.
            ConflictError: a task of that key is running.
            InvalidError: it asks for more than this machine has.
            NotAllowedError: there is no sandbox, and this server may not run code without one.
        """
        if not self._is_isolated:
            rules.check_isolation(self.nodes()[0], self._unisolated())
        with self._lock:
            here = self._node()
            rules.check_can_ever_fit(task, [here])
            if task.key in self._running:
                raise ConflictError(
                    f"The task {task.key} is running.",
                    next_step="Wait for it, or cancel it first.",
                )
            has_room = rules.fits(task, here)
            may_wait = rules.may_wait(task, here) and (waits or self._was_overtaken(task.limits))
            if not (has_room or may_wait) or node not in ("", self.name):
                raise BusyError(
                    "No node has room for the task now.", next_step="Try when a task has ended."
                )
            run = _Running(task, on_progress, on_done, is_in_slot=has_room, came_ahead=waits)
            run.given = self._give(task.limits.gpus)
            self._running[task.key] = run
            try:
                self._threads.submit(self._drive, run)
            except BaseException:  # No more threads may be there: its slots stay free.
                del self._running[task.key]
                raise

    def cancel(self, key: str) -> None:
        """Stop a task; it is reported through its ``on_done``."""
        with self._lock:
            run = self._running.get(key)
            if run is not None:
                run.is_cancelled = True
                if run.sandbox is not None:
                    run.sandbox.cancel()
                self._freed.notify_all()

    def nodes(self) -> list[NodeInfo]:
        """Tell of this machine."""
        with self._lock:
            return [self._node()]

    def running(self) -> Mapping[str, Limits]:
        """Give what every task that is here takes, by key; also of those that are being stopped."""
        with self._lock:
            return {key: run.task.limits for key, run in self._running.items()}

    def held(self) -> Mapping[str, Held]:
        """Give by key the tasks that run in a sandbox now, and where each can be measured."""
        with self._lock:
            return {
                key: Held(run.task.limits, run.sandbox.group, run.sandbox.pid)
                for key, run in self._running.items()
                if run.sandbox is not None and run.is_in_slot
            }

    def reattach(
        self,
        keys: Iterable[str],
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> set[str]:
        """Tell which still run; after a restart none does, for they ended with the server."""
        with self._lock:
            found = {key: self._running[key] for key in keys if key in self._running}
            for run in found.values():
                run.on_progress = on_progress or run.on_progress
                run.on_done = on_done or run.on_done
            return set(found)

    def drain(self, node: str) -> None:
        """Take no more tasks."""
        with self._lock:
            self._is_draining = self._is_draining or node == self.name

    def leave(self) -> None:
        """Close: tasks end with this process."""
        self.close()

    def close(self) -> None:
        """Cancel what runs, wait for it, stop every sandbox and remove every trace."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = self._is_draining = True
            keys = list(self._running)
        for key in keys:
            self.cancel(key)
        self._threads.shutdown(wait=True)
        self._shelf.close()
        self._starter.close()
        if self.machine.groups:
            self.machine.groups.sweep(self._scratch.prefix)
        self._scratch.close()

    def _node(self) -> NodeInfo:
        limits = [run.task.limits for run in self._running.values()]
        return NodeInfo(
            name=self.name,
            slots=self._slots,
            free_slots=max(0.0, self._slots - sum(each.cpu_slots for each in limits)),
            memory_bytes=self._memory,
            isolated=self._is_isolated,
            reason=self.machine.reason or ("" if self._is_isolated else "it was switched off"),
            free_memory_bytes=self._memory - sum(each.memory_bytes for each in limits),
            gpus=len(self._gpus.all),
            free_gpus=len(self._gpus.all) - sum(each.gpus for each in limits),
            is_draining=self._is_draining,
            is_host=self.name == NODE,
            takes_ahead=self._takes_ahead,
        )

    def _give(self, count: int) -> Given:
        taken = {each for run in self._running.values() for each in run.given.gpus}
        return self._gpus.give(self._gpus.choose(count, taken), is_isolated=self._is_isolated)

    def _drive(self, run: _Running) -> None:
        """Run one task from staging to its report, whatever happens on the way."""
        attempt = Attempt(run.task, run.tell, self._transfer, self.name, self._maker.seen_by)
        try:
            report = self._work(run, attempt)
        except CancelledError:
            report = attempt.report("cancelled", "It was cancelled.")
        except StuckError:
            report = attempt.report("lost", "It waited too long for the end of others.")
            report = replace(report, is_refused=True)
        except BrokenError as fault:
            told = rules.tell_fault(fault, f"Its sandbox did not start: {fault}.")
            report = attempt.report("lost", told)
        except MillpondError as fault:
            report = attempt.report("lost", f"{fault.message} {fault.next_step}")
        except Exception as fault:  # noqa: BLE001 - one task's trouble must not stop the engine.
            _log.exception("task %s was lost", run.task.key)
            told = rules.tell_fault(fault, f"Millpond could not run it: {fault!r}.")
            report = attempt.report("lost", told)
        with self._lock:
            del self._running[run.task.key]
            self._freed.notify_all()
        try:
            run.on_done(report)
        except Exception:  # noqa: BLE001 - as above.
            _log.exception("the report of task %s was not taken", run.task.key)

    def _work(self, run: _Running, attempt: Attempt) -> TaskReport:
        task = replace(run.task, environment=self._prepare(run.task.environment))
        sandbox = self._get_sandbox(run, task)
        try:
            attempt.bring_in(sandbox)
            with self._in_slot(run):
                ended = attempt.run_in(sandbox)
                if task.fork and _has_own(task.preload) and rules.needs_fresh(*_facts(ended)):
                    self._put_away(run, task, sandbox, is_reusable=False)
                    attempt.note_fresh()
                    sandbox = self._get_sandbox(run, replace(task, fork=False))
                    attempt.bring_in(sandbox)
                    ended = attempt.run_in(sandbox)
            report = attempt.settle(sandbox, ended)
        except BaseException:
            self._put_away(run, task, sandbox, is_reusable=False)
            raise
        self._put_away(run, task, sandbox, is_reusable=task.fork and ended.is_reusable)
        return report

    @contextmanager
    def _in_slot(self, run: _Running) -> Iterator[None]:
        """Hold a task's slots, when others have left them; publishing needs none.

        Raises:
            CancelledError: it was cancelled while it waited.
            StuckError: nobody has left them for long.
        """
        end = time.monotonic() + self._ahead_seconds
        with self._lock:
            while not (run.is_in_slot or self._has_left(run.task.limits)):
                if run.is_cancelled:
                    raise CancelledError
                if not self._freed.wait(max(0.0, end - time.monotonic())):
                    raise StuckError
            run.is_in_slot = True
        try:
            yield
        finally:
            with self._lock:
                run.is_in_slot = False
                self._freed.notify_all()

    def _was_overtaken(self, wanted: Limits) -> bool:
        """Tell whether there would be slots but for those that were sent to wait and came first."""
        others = [each.task.limits for each in self._running.values() if not each.came_ahead]
        return (
            wanted.cpu_slots <= self._slots - sum(each.cpu_slots for each in others) + rules.SLACK
        )

    def _has_left(self, wanted: Limits) -> bool:
        """Tell whether those that are in their slots leave enough of them."""
        taken = [each.task.limits for each in self._running.values() if each.is_in_slot]
        slots = self._slots - sum(each.cpu_slots for each in taken)
        return wanted.cpu_slots <= slots + rules.SLACK

    def _get_sandbox(self, run: _Running, task: TaskSpec) -> WarmSandbox:
        """Take a warm sandbox of the task's key, or start one."""
        gpus = run.given.gpus
        sandbox = self._shelf.take(sandbox_key(task, gpus)) if task.fork else None
        self._shelf.drop_holding(gpus)
        preload = task.preload if task.fork else ()
        if sandbox is None:
            try:
                return self._start(run, task, preload)
            except BrokenError:
                if not preload:
                    raise
                return self._start(run, task, ())
        self._attach(run, sandbox)
        return sandbox

    def _attach(self, run: _Running, sandbox: WarmSandbox) -> None:
        with self._lock:
            run.sandbox = sandbox
            if run.is_cancelled:
                sandbox.cancel()

    def _start(self, run: _Running, task: TaskSpec, preload: tuple[str, ...]) -> WarmSandbox:
        sandbox, launch = self._maker.make(task, preload, run.given)
        try:
            self._attach(run, sandbox)
            sandbox.start(self._starter, launch)
        except BaseException:
            self._put_away(run, task, sandbox, is_reusable=False)
            raise
        return sandbox

    def _put_away(
        self, run: _Running, task: TaskSpec, sandbox: WarmSandbox, *, is_reusable: bool
    ) -> None:
        with self._lock:
            run.sandbox = None
        if is_reusable:
            try:
                sandbox.clear()
            except OSError:
                is_reusable = False
        if is_reusable:
            self._shelf.put(sandbox_key(task, run.given.gpus), sandbox, run.given.gpus)
        else:
            sandbox.stop()


def _facts(ended: Ended) -> tuple[int | None, str, float, float]:
    return ended.code, ended.why, ended.bill.cpu_seconds, ended.wall_seconds


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _has_own(preload: Iterable[str]) -> bool:
    """Whether anything but the kit was imported before the fork; the kit itself survives one."""
    return any(not name.startswith("millpond.") for name in preload)
