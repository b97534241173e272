"""A run's steps while it is driven: which wait, which run, what ended; no I/O."""

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from millpond.engine.values import Outcome, TaskReport
from millpond.pipelines.runs.rules import judge, lost_wait, retry_wait
from millpond.pipelines.runs.values import SPLITTING, Ended, Loaded, Part, TaskOutputs, Try, Wave
from millpond.pipelines.values import STEP_ENDED, StepSpec, StepState


@dataclass
class StepNow:
    """One step as its driver knows it.

    Attributes:
        cuts: places where ``over`` is cut; None until it is planned.
        over: files of the argument that is split or counted.
        rest: files of the other data arguments.
        waiting: first tries to come.
        again: further tries to come, soonest first; they go before the others.
        running: tries handed over, by key.
        unbegun: tries that were handed over and that nobody began, by partition: the next try takes
            the place of each.
        is_adopted: whether some of these were handed over by a driver before this one, and the
            step was not planned since.
        done: outputs by partition.
    """

    spec: StepSpec
    place: int
    fork: bool
    state: StepState = "waiting"
    reason: str = ""
    cuts: list[int] | None = None
    over: Sequence[Part] = ()
    rest: dict[str, Sequence[Part]] = field(default_factory=dict)
    waiting: deque[Try] = field(default_factory=deque)
    again: list[tuple[float, int, Try]] = field(default_factory=list)
    running: dict[str, Try] = field(default_factory=dict)
    unbegun: dict[int, Try] = field(default_factory=dict)
    is_adopted: bool = False
    done: dict[int, TaskOutputs] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def partitions(self) -> int:
        """How many partitions there are; 0 until it is planned."""
        return max(len(self.cuts or ()) - 1, 0)

    @property
    def partitions_done(self) -> int:
        """How many partitions are done."""
        return len(self.done) - (SPLITTING in self.done)

    def slice_of(self, partition: int) -> Sequence[Part]:
        """Give the files of a partition."""
        if partition == SPLITTING or self.cuts is None or self.spec.split is None:
            return self.over
        return self.over[self.cuts[partition] : self.cuts[partition + 1]]


def task_key(run_id: str, tried: Try) -> str:
    """Give the key of a try's task: the same each time, for whoever asks the engine about it."""
    return f"{run_id}/{tried.step}/{tried.partition}/{tried.attempt}"


def never_ran(key: str, outcome: Outcome, reason: str, node: str = "") -> TaskReport:
    """Make the report of a task that no engine has told of."""
    return TaskReport(
        key=key, outcome=outcome, exit_code=None, reason=reason, started_at=datetime.now(UTC),
        node=node, isolated=False,
    )  # fmt: skip


class Graph:
    """The state machine of one run. The driver asks it what to do and tells it what happened."""

    def __init__(self, loaded: Loaded, retries: int, retry_seconds: float) -> None:
        """Take over what the database has of the run."""
        self.steps: dict[str, StepNow] = {}
        self.followers: dict[str, list[str]] = {}
        self.no_fork = False
        self.begun: dict[str, str] = {}  # Where tries run that were handed over before this driver.
        self._retries, self._retry_seconds = retries, retry_seconds
        self._order = itertools.count()
        self._open = len(loaded.spec.steps)
        self._running: dict[str, StepNow] = {}  # By key of the task.
        self._ripe: dict[str, StepNow] = {}  # Open steps that have all they need, by name.
        self._missing: dict[str, int] = {}  # How many of a step's needs are not there yet.
        kept = {each.name: each for each in loaded.steps}
        for place, spec in enumerate(loaded.spec.steps):
            now = StepNow(spec, place, spec.fork and not loaded.no_fork)
            before = kept[spec.name]
            now.state, now.reason, now.cuts = (
                cast("StepState", before.state),
                before.reason,
                before.cuts,
            )
            now.started_at, now.ended_at = before.started_at, before.ended_at
            self.steps[spec.name] = now
            self._open -= now.state in STEP_ENDED
            for need in dict.fromkeys(spec.needs):
                self.followers.setdefault(need, []).append(spec.name)
        for name, step in self.steps.items():
            needs = set(step.spec.needs)
            self._missing[name] = sum(self.steps[need].state != "succeeded" for need in needs)
            self._note_ripe(step)
        self._take_over(loaded)

    def _note_ripe(self, step: StepNow) -> None:
        if not self._missing[step.spec.name] and step.state in ("waiting", "running"):
            self._ripe[step.spec.name] = step

    def _take_over(self, loaded: Loaded) -> None:
        for task in loaded.tasks:
            step = self.steps[task.step]
            step.attempts[task.partition] = max(step.attempts.get(task.partition, 0), task.attempt)
            step.cpu_seconds += task.cpu_seconds
            step.memory_peak_bytes = max(step.memory_peak_bytes, task.memory_peak_bytes)
            if task.outputs is not None:
                step.done[task.partition] = task.outputs
            elif task.state == "running":
                tried = Try(task.step, task.partition, task.attempt, task.fork)
                key = task_key(loaded.run.id, tried)
                self.hand_over(step, key, tried)
                if task.node:
                    self.begun[key] = task.node
                step.is_adopted = True
            elif task.outcome == "lost":
                step.lost[task.partition] = step.lost.get(task.partition, 0) + 1
            elif task.state == "failed":
                step.failed[task.partition] = step.failed.get(task.partition, 0) + 1

    @property
    def is_over(self) -> bool:
        """Whether every step has ended."""
        return self._open == 0

    def ready(self) -> list[StepNow]:
        """Give the steps that may begin: not planned in this process, all they need is there."""
        ready = [
            step
            for step in self._ripe.values()
            if not (step.waiting or step.again) and (not step.running or step.is_adopted)
        ]
        return sorted(ready, key=lambda step: step.place)

    def plan(self, step: StepNow, cuts: list[int] | None, now: datetime, wave: Wave) -> None:
        """Give a step its partitions; None asks for the task that cuts its table first."""
        step.cuts, step.state, step.is_adopted = cuts, "running", False
        step.started_at = step.started_at or now
        wave.steps.add(step.spec.name)
        wanted = [SPLITTING] if cuts is None else range(len(cuts) - 1)
        under_way = {tried.partition for tried in step.running.values()}
        for partition in wanted:
            if partition not in step.done and partition not in under_way:
                step.waiting.append(self._next_try(step, partition, step.fork))
        if not step.waiting and not step.running and cuts is not None:
            self._end(step, "succeeded", "", now, wave)

    def _next_try(self, step: StepNow, partition: int, fork: bool, ready_at: float = 0.0) -> Try:
        attempt = step.attempts[partition] = step.attempts.get(partition, 0) + 1
        return Try(step.spec.name, partition, attempt, fork, ready_at, is_again=ready_at > 0)

    def _push_again(self, step: StepNow, partition: int, fork: bool, ready_at: float) -> None:
        tried = self._next_try(step, partition, fork, ready_at)
        heapq.heappush(step.again, (ready_at, next(self._order), tried))

    def take(self, room: int, moment: float, wave: Wave) -> list[tuple[StepNow, Try]]:
        """Take up to so many tries that may start now: further tries first, steps in their order.

        What was lost with a node is not to wait behind all that was never tried.
        """
        taken: list[tuple[StepNow, Try]] = []
        steps = sorted(self._ripe.values(), key=lambda step: step.place)
        for step in steps:
            while step.again and len(taken) < room and step.again[0][0] <= moment:
                taken.append((step, heapq.heappop(step.again)[2]))
        for step in steps:
            while step.waiting and len(taken) < room:
                taken.append((step, step.waiting.popleft()))
        for step, tried in taken:
            old = step.unbegun.pop(tried.partition, None)
            if old is None:
                wave.started.append(tried)
            else:
                wave.moved.append((old, tried))
        return taken

    def next_moment(self) -> float | None:
        """Give the moment at which the next try may start; None when none waits."""
        ripe = self._ripe.values()
        if any(step.waiting for step in ripe):
            return 0.0
        return min((step.again[0][0] for step in ripe if step.again), default=None)

    def running_count(self) -> int:
        """Count the tries handed over."""
        return len(self._running)

    def running_keys(self) -> set[str]:
        """Give the keys of the tries handed over."""
        return set(self._running)

    def hand_over(self, step: StepNow, key: str, tried: Try) -> None:
        """Take note that a try is with the engine."""
        step.running[key] = tried
        self._running[key] = step

    def try_of(self, key: str) -> Try | None:
        """Give a try that is with the engine; None when it has ended."""
        step = self._running.get(key)
        return None if step is None else step.running[key]

    def queue_again(self, key: str, wave: Wave) -> None:
        """Take back a try that nobody began: its partition waits as if it had never been taken.

        The next try has another number all the same: the word that it began may have been on its
        way, and what two tries leave must not meet.
        """
        step = self._running.pop(key)
        tried = step.running.pop(key)
        step.unbegun[tried.partition] = tried
        if step.state in STEP_ENDED:
            self._drop_unbegun(step, wave)

    def _take_back(self, step: StepNow, key: str, moment: float, wave: Wave) -> None:
        """Take back a try for which its node had no room, and wait a little."""
        tried = step.running[key]
        self.queue_again(key, wave)
        if step.state == "running":
            self._push_again(step, tried.partition, tried.fork, moment + lost_wait(2))

    def _drop_unbegun(self, step: StepNow, wave: Wave) -> None:
        for tried in step.unbegun.values():
            report = never_ran("", "cancelled", "Its step had ended before it began.")
            wave.ended.append(Ended(tried, report, "cancelled", None, ""))
        step.unbegun = {}

    def end(
        self,
        report: TaskReport,
        outputs: TaskOutputs | None,
        outputs_key: str,
        now: datetime,
        moment: float,
        wave: Wave,
    ) -> None:
        """Take a report; outputs are there when it is done."""
        step = self._running.get(report.key)
        if step is None:
            return
        if report.is_refused:
            self._take_back(step, report.key, moment, wave)
            return
        del self._running[report.key]
        tried = step.running.pop(report.key)
        step.cpu_seconds += report.cpu_seconds
        step.memory_peak_bytes = max(step.memory_peak_bytes, report.memory_peak_bytes)
        wave.steps.add(step.spec.name)
        state = "done" if outputs is not None else "failed"
        if report.outcome in ("cancelled", "lost"):
            state = report.outcome
        wave.ended.append(Ended(tried, report, state, outputs, outputs_key))
        if step.state != "running":
            return
        if outputs is None:
            self._try_again(step, tried, report, now, moment, wave)
            return
        step.done[tried.partition] = outputs
        if report.needed_fresh and step.fork:
            step.fork, self.no_fork = False, True  # It crashed when forked and not when run alone.
        if tried.partition != SPLITTING and step.partitions_done == step.partitions:
            self._end(step, "succeeded", "", now, wave)

    def _try_again(
        self,
        step: StepNow,
        tried: Try,
        report: TaskReport,
        now: datetime,
        moment: float,
        wave: Wave,
    ) -> None:
        part = tried.partition
        failed, lost = step.failed.get(part, 0), step.lost.get(part, 0)
        retries = min(step.spec.retries, self._retries)
        verdict = judge(report.outcome, failed=failed, lost=lost, retries=retries)
        if verdict == "give_up":
            self.fail(step, self._reason(step, tried, report), now, wave)
        elif report.outcome == "lost":
            step.lost[part] = lost + 1
            self._push_again(step, part, tried.fork, moment + lost_wait(lost + 1))
        else:
            step.failed[part] = failed + 1
            wait = retry_wait(self._retry_seconds, failed + 1)
            self._push_again(step, part, tried.fork and step.fork, moment + wait)

    def _reason(self, step: StepNow, tried: Try, report: TaskReport) -> str:
        where = "" if step.partitions <= 1 else f" in partition {tried.partition}"
        lost, failed = step.lost.get(tried.partition, 0), step.failed.get(tried.partition, 0)
        tries = f" after {lost + failed + 1} tries" if lost + failed else ""
        if report.outcome == "lost":
            lost += 1
            tries += (
                f", of which {lost} were lost through no fault of its own. Look at the nodes, then"
                " start the run again. The last one"
            )
        return f"Failed{where}{tries}: {report.reason or report.outcome}"

    def fail(self, step: StepNow, reason: str, now: datetime, wave: Wave) -> None:
        """End a step as failed and skip all that need it."""
        self._end(step, "failed", reason, now, wave)
        self._skip(step, now, wave)

    def _skip(self, step: StepNow, now: datetime, wave: Wave) -> None:
        for name in self.followers.get(step.spec.name, ()):
            follower = self.steps[name]
            if follower.state == "waiting":
                reason = f"It needs {step.spec.name}, which did not succeed."
                self._end(follower, "skipped", reason, now, wave)
                self._skip(follower, now, wave)

    def _end(self, step: StepNow, state: StepState, reason: str, now: datetime, wave: Wave) -> None:
        step.state, step.reason, step.ended_at = state, reason, now
        step.waiting, step.again = deque(), []
        self._drop_unbegun(step, wave)
        self._open -= 1
        self._ripe.pop(step.spec.name, None)
        for name in self.followers.get(step.spec.name, ()) if state == "succeeded" else ():
            self._missing[name] -= 1
            self._note_ripe(self.steps[name])
        wave.steps.add(step.spec.name)
