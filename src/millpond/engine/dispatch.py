"""Queue tasks before an engine: fair shares by project and user, and never more than is free."""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millpond.engine import rules
from millpond.engine.ahead import Ahead
from millpond.engine.port import Engine, OnDone, OnProgress
from millpond.engine.seen import SeenNodes
from millpond.engine.values import Limits, NodeInfo, Outcome, TaskReport, TaskSpec
from millpond.ground.errors import BusyError, ConflictError, MillpondError

_log = logging.getLogger(__name__)
_OBJECT = "object:"
_INPUTS_ASKED = 200  # The largest inputs of a task decide where it is best run.

Guard = Callable[[NodeInfo], NodeInfo]
"""Gives a node back, with ``paused`` set where it must have no more tasks now."""

Holds = Callable[[Sequence[str]], Mapping[str, Mapping[str, int]]]
"""Tells, of these object keys, how many bytes lie on which node."""


@dataclass
class _Waiting:
    task: TaskSpec
    on_progress: OnProgress
    on_done: OnDone
    since: int
    held: Mapping[str, int]
    on_place: Callable[[str], None]
    is_first: bool = False
    passes: int = 0


@dataclass
class _Books:
    """What waits, by project and user, and when each was served last."""

    queues: dict[tuple[str, str], deque[_Waiting]] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)  # Of these, what the engine was told to stop.


class Dispatcher:
    """A fair queue over one engine. Safe to share between threads."""

    def __init__(
        self,
        engine: Engine,
        caps: Limits | None = None,
        *,
        guard: Guard | None = None,
        holds: Holds | None = None,
        hindrance: Callable[[], str] | None = None,
    ) -> None:
        """Hand tasks to this engine.

        Args:
            engine: runs them.
            caps: most that one task may ask for, if there are limits.
            guard: holds nodes back that would come to harm; asked often, so it must be quick.
            holds: tells where inputs lie, so that tasks go there.
            hindrance: tells what keeps tasks on nodes from ending; empty when nothing does.
        """
        self._engine, self._caps, self._guard, self._holds = engine, caps, guard, holds
        self._waiting_reason, self._hindrance = "", hindrance
        self._books = _Books()
        self._lately, self._ahead = SeenNodes(), Ahead()
        self._counter = itertools.count(1)
        self._lock = threading.Lock()
        self._is_closed, self._slots = False, 0.0
        engine.watch(self.wake)

    @property
    def outlives(self) -> bool:
        """Whether tasks go on when this process ends, for ``reattach`` in the next."""
        return self._engine.outlives

    def nodes(self) -> list[NodeInfo]:
        """Give the nodes as tasks are placed on them: with what holds each back."""
        nodes = [self._lately.hold(node) for node in self._engine.nodes()]
        self._slots = sum(node.slots for node in nodes)
        return nodes if self._guard is None else [self._guard(node) for node in nodes]

    @property
    def slots(self) -> float:
        """How many slots there were in all when the nodes were last looked at."""
        return self._slots

    def held_back(self, name: str) -> str:
        """Say why a node that refused a task gets none for now; empty when it may have some."""
        return self._lately.why_held(name)

    def wake(self) -> None:
        """Look anew at what may start: nodes have come, or are no longer held back."""
        if self._books.queues:
            self._pump()

    def submit(
        self,
        task: TaskSpec,
        share: str,
        on_progress: OnProgress,
        on_done: OnDone,
        *,
        on_place: Callable[[str], None] = lambda _node: None,
        before: str = "",
    ) -> None:
        """Queue a task; it starts when it is its share's turn and a node has room.

        Args:
            task: the task.
            share: ``project/user``, who takes turns.
            on_progress: hears of its progress.
            on_done: hears, exactly once, how it ended; also when it never started.
            on_place: hears, quickly, to which node it was given; perhaps after its end.
            before: it goes before the waiting tasks of its share whose keys begin so.

        Raises:
            InvalidError: it asks for more than any node has, or than the caps allow.
            ConflictError: a task of that key waits or runs.
        """
        if self._caps is not None:
            rules.check_caps(task, self._caps)
        nodes = self.nodes()
        if nodes and not self._engine.places_itself:
            with self._lock:
                known = self._lately.known(nodes)
            rules.check_can_ever_fit(task, known)
        project, _, user = share.partition("/")
        held = self._find_inputs(task) if len(nodes) > 1 else {}
        with self._lock:
            if task.key in self._books.keys:
                raise ConflictError(
                    f"The task {task.key} waits or runs already.",
                    next_step="Wait for it, or cancel it first.",
                )
            self._books.keys.add(task.key)
            since = next(self._counter)
            waiting = _Waiting(task, on_progress, on_done, since, held, on_place, bool(before))
            queue = self._books.queues.setdefault((project, user), deque())
            _put(queue, waiting, before)
        self._pump()

    def cancel(self, key: str) -> None:
        """Take a waiting task out of the queue, or stop it where it runs."""
        found = None
        with self._lock:
            for who, queue in self._books.queues.items():
                found = next((each for each in queue if each.task.key == key), None)
                if found is not None:
                    self._remove(who, found)
                    self._books.keys.discard(key)
                    break
            if found is None and key in self._books.keys:
                self._books.cancelled.add(key)  # Its node may be refusing it at this moment.
        if found is None:
            self._engine.cancel(key)
            return
        self._tell(found.on_done, _never_ran(found.task, "cancelled", "It was cancelled."))
        self._pump()

    def reattach(self, keys: Iterable[str], on_progress: OnProgress, on_done: OnDone) -> set[str]:
        """Take over tasks that were started before; tell which of them are still there.

        Of these ``on_done`` is called exactly once, of the others never.
        """

        def done(report: TaskReport) -> None:
            with self._lock:
                self._forget(report.key)
            self._pump()
            on_done(report)

        wanted = set(keys)
        with self._lock:
            for queue in self._books.queues.values():
                for each in queue:
                    if each.task.key in wanted:
                        each.on_progress, each.on_done = on_progress, on_done
            waiting = self._waiting_keys() & wanted
            wanted -= waiting
            known = self._books.keys & wanted
            self._books.keys |= wanted
        found = self._engine.reattach(wanted, on_progress=on_progress, on_done=done)
        with self._lock:
            self._books.keys -= wanted - found - known
        return found | waiting

    def _waiting_keys(self) -> set[str]:
        return {each.task.key for queue in self._books.queues.values() for each in queue}

    def waiting_count(self) -> int:
        """Count the tasks that wait."""
        with self._lock:
            return sum(len(queue) for queue in self._books.queues.values())

    def why_waiting(self) -> str:
        """Say why nothing starts, or ends, although tasks wait; empty when all goes its way."""
        with self._lock:
            reason = self._waiting_reason if self._books.queues else ""
        hindrance = self._hindrance() if self._hindrance is not None else ""
        return "; ".join(each for each in (reason, hindrance) if each)

    def close(self) -> None:
        """Cancel what waits; what runs is the engine's to end."""
        with self._lock:
            self._is_closed = True
            left = [each for queue in self._books.queues.values() for each in queue]
            self._books = _Books(keys=self._books.keys - {each.task.key for each in left})
        for each in left:
            self._tell(each.on_done, _never_ran(each.task, "cancelled", "Millpond was stopped."))

    def _pump(self) -> None:
        """Start whatever may start now."""
        refused: list[tuple[_Waiting, Outcome, str]] = []
        with self._lock:
            while not self._is_closed and self._books.queues:
                nodes = self.nodes()
                self._lately.known(nodes)
                chosen = self._choose(nodes)
                if chosen is None:
                    self._waiting_reason = self._tell_waiting(nodes)
                    break
                who, waiting, node, waits = chosen
                self._remove(who, waiting)
                try:
                    self._start(who, waiting, node, waits=waits)
                except BusyError:  # The node has just drained or gone: back to the head.
                    self._books.queues.setdefault(who, deque()).appendleft(waiting)
                    break
                except MillpondError as fault:
                    self._forget(waiting.task.key)
                    refused.append((waiting, "failed", f"{fault.message} {fault.next_step}"))
                except Exception as fault:  # noqa: BLE001 - one task must not hold up the others.
                    _log.exception("task %s could not be handed over", waiting.task.key)
                    self._forget(waiting.task.key)
                    refused.append((waiting, "lost", f"It could not be handed over: {fault!r}."))
        for each, outcome, reason in refused:
            self._tell(each.on_done, _never_ran(each.task, outcome, reason))

    def _tell_waiting(self, nodes: list[NodeInfo]) -> str:
        if self._engine.places_itself:
            return ""
        heads = (queue[0].task for queue in self._books.queues.values())
        return rules.tell_waiting(nodes) or rules.tell_too_large(heads, nodes)

    def _choose(self, nodes: list[NodeInfo]) -> tuple[tuple[str, str], _Waiting, str, bool] | None:
        """Choose what starts now and where, or else what may wait there for the end of another."""
        heads = [
            rules.Head(project, user, first.task, first.passes, first.since, first.held)
            for (project, user), queue in self._books.queues.items()
            for first in (queue[0],)
        ]
        if self._engine.places_itself:
            nodes = [_BOUNDLESS]
        choice = rules.choose_next(heads, nodes, self._books.served)
        waits = choice is None
        if choice is None:
            choice = self._ahead.choose(heads, nodes, self._books.served)
        if choice is None:
            return None
        head, node = choice
        self._count_passes(head, nodes)
        moment = next(self._counter)
        self._books.served[head.project] = moment
        self._books.served[f"{head.project}/{head.user}"] = moment
        who = (head.project, head.user)
        return who, self._books.queues[who][0], node.name, waits

    def _count_passes(self, chosen: rules.Head, nodes: list[NodeInfo]) -> None:
        for (project, user), queue in self._books.queues.items():
            first = queue[0]
            is_chosen = (project, user) == (chosen.project, chosen.user)
            if not is_chosen and not any(rules.fits(first.task, node) for node in nodes):
                first.passes += 1

    def _find_inputs(self, task: TaskSpec) -> Mapping[str, int]:
        """Tell how many bytes of a task's inputs lie on which node, where that matters."""
        inputs = [each for each in task.inputs if each.url.startswith(_OBJECT)]
        if self._holds is None or sum(each.size for each in inputs) <= rules.NEAR_BYTES:
            return {}
        largest = sorted(inputs, key=lambda each: each.size, reverse=True)[:_INPUTS_ASKED]
        held: dict[str, int] = {}
        try:
            places = self._holds([each.url.removeprefix(_OBJECT) for each in largest])
        except MillpondError:
            _log.exception("where inputs lie is not known; the task runs anywhere")
            return {}
        for sizes in places.values():
            for node, size in sizes.items():
                held[node] = held.get(node, 0) + size
        return held

    def _start(self, who: tuple[str, str], waiting: _Waiting, node: str, *, waits: bool) -> None:
        key = waiting.task.key

        def done(report: TaskReport) -> None:
            with self._lock:
                self._lately.note(report)
                self._ahead.end(report)
                if report.is_refused and key in self._books.cancelled:
                    report = _never_ran(waiting.task, "cancelled", "It was cancelled.")
                is_again = report.is_refused and not self._is_closed
                if is_again:
                    self._books.queues.setdefault(who, deque()).appendleft(waiting)
                else:
                    self._forget(key)
            self._pump()
            if not is_again:
                waiting.on_done(report)

        self._engine.submit(
            waiting.task,
            on_progress=waiting.on_progress,
            on_done=done,
            node=node,
            waits=waits,
        )
        self._ahead.begin(waiting.task, node, waits=waits)
        waiting.on_place(node)

    def _forget(self, key: str) -> None:
        """Let go of a task that has ended."""
        self._books.keys.discard(key)
        self._books.cancelled.discard(key)

    def _remove(self, who: tuple[str, str], waiting: _Waiting) -> None:
        queue = self._books.queues[who]
        queue.remove(waiting)
        if not queue:
            del self._books.queues[who]

    def _tell(self, on_done: OnDone, report: TaskReport) -> None:
        try:
            on_done(report)
        except Exception:  # noqa: BLE001 - a caller's fault must not stop the queue.
            _log.exception("the report of task %s was not taken", report.key)


def _put(queue: deque[_Waiting], waiting: _Waiting, before: str) -> None:
    """Put a task before those whose keys begin so; all others keep their places."""
    for place, each in enumerate(queue) if before else ():
        if not each.is_first and each.task.key.startswith(before):
            queue[place], waiting = waiting, each
    queue.append(waiting)


def _never_ran(task: TaskSpec, outcome: Outcome, reason: str) -> TaskReport:
    return TaskReport(
        key=task.key,
        outcome=outcome,
        exit_code=None,
        reason=reason,
        started_at=datetime.now(UTC),
        node="",
        isolated=False,
    )


_HUGE = 1 << 60
_BOUNDLESS = NodeInfo(
    name="",
    slots=_HUGE,
    free_slots=_HUGE,
    memory_bytes=_HUGE,
    isolated=True,
    reason="",
    free_memory_bytes=_HUGE,
    gpus=_HUGE,
    free_gpus=_HUGE,
)
