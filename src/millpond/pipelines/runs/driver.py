"""Drive one run under a lease: plan, hand over, settle what ended, until every step has ended.

One transaction per wave settles all tasks that have ended and marks the next ones running. Each
such transaction holds the lease and compares the run's fencing number, so that a driver which was
stopped past its lease writes nothing. Outputs lie under their attempt's own prefix and count from
the commit that marks the task done.
"""

import json
import queue
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from millpond.engine.values import TaskProgress, TaskReport, is_own_output
from millpond.ground.errors import BusyError, ConflictError, MillpondError
from millpond.jobs.port import Lease, LeaseLostError, StoppingError
from millpond.pipelines.port import PipelineTools
from millpond.pipelines.runs import store, tries
from millpond.pipelines.runs.graph import Graph, StepNow, never_ran
from millpond.pipelines.runs.measure import count_items, is_over_table, measure
from millpond.pipelines.runs.rules import must_split, window_of
from millpond.pipelines.runs.staging import (
    Staging,
    counted_argument,
    data_arguments,
    task_parts,
    task_prefix,
)
from millpond.pipelines.runs.values import (
    SPLITTING,
    DataFaultError,
    Loaded,
    Placed,
    TaskOutputs,
    Try,
    Wave,
)
from millpond.pipelines.specs.actions import forbid_fork
from millpond.pipelines.values import STEP_ENDED, Progress, StoredObject
from millpond.storage.database import Transaction
from millpond.storage.events import publish

_OUTPUTS_INLINE = 40
_KILL_SECONDS = 30.0
_GATHER_SECONDS = 0.05
_WORDS_MOST = 1000
_STOPPED = "The server stopped while it ran; it was run again."


class CancelledError(Exception):
    """Somebody cancelled the run."""


class Driver:
    """Drives one run; used by one thread, told of tasks by others."""

    def __init__(
        self, tools: PipelineTools, lease: Lease, loaded: Loaded, staging: Staging
    ) -> None:
        """Take over a run that this lease is good for."""
        self._tools, self._lease, self._loaded, self._staging = tools, lease, loaded, staging
        pace = tools.pace
        self.graph = Graph(loaded, pace.retries, pace.retry_seconds)
        self._news: queue.SimpleQueue[TaskReport | TaskProgress | Placed] = queue.SimpleQueue()
        self._live: dict[str, TaskProgress] = {}
        self._placed: dict[str, str] = {}  # Nodes of running tasks that are not written down yet.
        self._told_at = 0.0
        self._looked_at = time.monotonic()
        self._fork_told = False
        self._begun = len(loaded.tasks)
        self._began = time.monotonic()
        self._before: int | None = None
        self.progress = Progress(steps_total=len(loaded.spec.steps))
        self.isolated = loaded.run.isolated

    def drive(self) -> None:
        """Go on until every step has ended and no task runs.

        Raises:
            CancelledError: somebody cancelled the run; its tasks are dead.
            LeaseLostError: the job has passed on; nothing more is written.
            StoppingError: this server stops.
        """
        try:
            self._take_over()
            wave = Wave()
            self._adopt(wave)
            while True:
                self._advance(wave)
                if self.graph.is_over and not self.graph.running_count():
                    return
                wave = self._listen()
        except (LeaseLostError, StoppingError):
            if not self._tools.dispatcher.outlives:  # Else whoever drives the run next has them.
                self._kill()
            raise
        except BusyError:  # Of the store or the database: the job is tried again soon.
            is_last = self._lease.job.tries >= self._lease.job.max_tries
            if is_last or not self._tools.dispatcher.outlives:
                self._kill()
            raise
        except BaseException:
            self._kill()
            raise

    def _adopt(self, wave: Wave) -> None:
        """Take over the tasks that a driver before handed over, where they outlived it.

        Of the others those are lost that a node had; the rest only waited, and does so again.
        """
        keys, dispatcher, put = self.graph.running_keys(), self._tools.dispatcher, self._news.put
        alive = dispatcher.reattach(keys, put, put) if keys and dispatcher.outlives else set()
        for key in keys - alive:
            node = self.graph.begun.get(key)
            if node is None:
                self.graph.queue_again(key, wave)
            else:
                put(never_ran(key, "lost", _STOPPED, node))
        for step in self.graph.steps.values():
            for key in alive & set(step.running) if step.state in STEP_ENDED else ():
                dispatcher.cancel(key)

    def _take_over(self) -> None:
        """Read lists of outputs too long for the database, and what ended maps had split."""
        for task in self._loaded.tasks:
            if task.outputs is not None and task.outputs_key:
                rows = json.loads(self._tools.objects.get(task.outputs_key))
                outputs = TaskOutputs(store.unpack_outputs(rows), task.outputs.rows)
                self.graph.steps[task.step].done[task.partition] = outputs
        for step in self.graph.steps.values():
            if step.state in STEP_ENDED and step.cuts is not None and step.spec.split:
                self._resolve(step)  # Its items are still counted in the run's progress.

    def _advance(self, wave: Wave) -> None:
        """Plan what has become ready, settle the wave in one commit, hand the next tasks over."""
        while True:
            ready = self.graph.ready()
            for step in ready:
                self._plan(step, wave)
            if not any(step.state != "running" for step in ready):
                break  # A step without partitions has ended at once, so others may be ready now.
        room = self._window() - self.graph.running_count()
        taken = self.graph.take(room, time.monotonic(), wave)
        self._measure()
        is_due = time.monotonic() - self._told_at >= self._tools.pace.event_seconds
        if wave or is_due:
            self._commit(wave, self._take_placed() if is_due else {})
        for step, tried in taken:
            self._hand_over(step, tried)
        for name in wave.steps:
            step = self.graph.steps[name]
            if step.state == "failed":
                for key in list(step.running):
                    self._tools.dispatcher.cancel(key)

    def _window(self) -> int:
        return window_of(self._tools.pace.window, self._tools.dispatcher.slots)

    def _plan(self, step: StepNow, wave: Wave) -> None:
        now = datetime.now(UTC)
        try:
            self._resolve(step)
        except DataFaultError as fault:
            self.graph.fail(step, str(fault), now, wave)
            return
        self.graph.plan(step, self._cut(step), now, wave)

    def _resolve(self, step: StepNow) -> None:
        done = {name: self.graph.steps[name].done for name in step.spec.needs}
        counted = counted_argument(step.spec)
        for name, argument in data_arguments(step.spec).items():
            parts = self._staging.resolve(argument, done)
            if name == counted:
                step.over = parts
            else:
                step.rest[name] = parts
        split = step.spec.split
        if split is not None and SPLITTING in step.done:
            cut = step.done[SPLITTING]
            step.over = task_parts(cut, f"{split.over}/", cut.rows.get(split.over))

    def _cut(self, step: StepNow) -> list[int] | None:
        split = step.spec.split
        if split is None:
            return [0, max(len(step.over), 1)]
        is_cut = SPLITTING in step.done or not is_over_table(step.spec)
        if not is_cut and must_split([part.rows for part in step.over], split.rows):
            return None
        if step.cuts is not None and step.cuts[-1] == len(step.over):
            return step.cuts
        return self._staging.cut(step.spec, step.over, self._tools.pace.partitions)

    def _hand_over(self, step: StepNow, tried: Try) -> None:
        over = step.slice_of(tried.partition)
        items = count_items(step.spec, over)
        rest = {} if tried.partition == SPLITTING else step.rest
        task = self._staging.task(step.spec, tried, over, items, rest)
        run = self._loaded.run
        self.graph.hand_over(step, task.key, tried)
        try:
            share = f"{run.project_id}/{self._loaded.user_id}"
            self._tools.dispatcher.submit(
                task,
                share,
                self._news.put,
                self._news.put,
                on_place=lambda node: self._news.put(Placed(task.key, node)),
                before=f"{run.id}/" if tried.is_again else "",
            )
        except MillpondError as fault:
            self._news.put(never_ran(task.key, "failed", f"{fault.message} {fault.next_step}"))

    def _listen(self) -> Wave:
        """Wait for news, then take all there is; look now and then whether to stop."""
        wave = Wave()
        wait = self._tools.pace.tick_seconds
        moment = self.graph.next_moment()
        if moment is not None and self.graph.running_count() < self._window():
            wait = min(wait, max(moment - time.monotonic(), 0.0))
        with suppress(queue.Empty):
            self._take(self._news.get(timeout=wait), wave)
            end = time.monotonic() + _GATHER_SECONDS
            while True:
                left = end - time.monotonic() if wave.ended and self._may_gather() else 0.0
                self._take(self._news.get(left > 0, max(left, 0.001)), wave)
        if self._lease.lost():
            raise LeaseLostError
        if self._lease.stopping():
            raise StoppingError
        if time.monotonic() - self._looked_at >= self._tools.pace.tick_seconds:
            self._looked_at = time.monotonic()
            state = self._tools.database.read(lambda tx: store.read_state(tx, self._loaded.run.id))
            self._obey(state)
        return wave

    def _may_gather(self) -> bool:
        """Say whether settling can wait for more tasks to end without leaving the engine idle."""
        running = self.graph.running_count()
        if running == 0 or self.graph.ready():
            return False
        return running * 2 >= self._window() or self.graph.next_moment() is None

    def _take(self, news: TaskReport | TaskProgress | Placed, wave: Wave) -> None:
        if isinstance(news, Placed):
            self._placed[news.key] = news.node
            return
        if isinstance(news, TaskProgress):
            self._live[news.key] = news
            return
        self._live.pop(news.key, None)
        self._placed.pop(news.key, None)
        news = self._checked(news)
        outputs, key = None, ""
        is_silent = not news.node or news.outcome == "lost"  # Nobody told how it ran.
        self.isolated = self.isolated and (news.isolated or is_silent)
        if news.outcome == "done":
            outputs = TaskOutputs(
                tuple(StoredObject(o.path, o.key, o.size, o.digest) for o in news.outputs),
                _rows_of(news.result),
            )
            key = self._keep_outputs(news.key, outputs)
        self.graph.end(news, outputs, key, datetime.now(UTC), time.monotonic(), wave)

    def _checked(self, report: TaskReport) -> TaskReport:
        """Count a report as lost that names what lies outside of its attempt's own prefix."""
        _, step, partition, attempt = report.key.split("/")
        run, tried = self._loaded.run, Try(step, int(partition), int(attempt))
        prefix = task_prefix(run.project_id, run.id, tried)
        if all(is_own_output(prefix, each) for each in report.outputs):
            return report
        return never_ran(report.key, "lost", "Its node told of outputs that are not the task's.")

    def _keep_outputs(self, task_key: str, outputs: TaskOutputs) -> str:
        if len(outputs.objects) <= _OUTPUTS_INLINE:
            return ""
        _, step, partition, attempt = task_key.split("/")
        run = self._loaded.run
        tried = Try(step, int(partition), int(attempt))
        key = f"{task_prefix(run.project_id, run.id, tried)}.outputs"
        with suppress(ConflictError):  # This very attempt was settled half before.
            self._tools.objects.put(key, json.dumps(store.pack_outputs(outputs.objects)).encode())
        return key

    def _measure(self) -> None:
        elapsed = time.monotonic() - self._began
        waits_for = self._tools.dispatcher.why_waiting() if self.graph.running_count() else ""
        measured = measure(self.graph, self._live, self._before, elapsed)
        self.progress = replace(measured, waits_for=waits_for[:_WORDS_MOST])
        if self._before is None and self.progress.items_total:
            self._before = self.progress.items_done

    def _take_placed(self) -> dict[Try, str]:
        """Give what is to be written down of where tasks run: short ones have ended before that."""
        placed, self._placed = self._placed, {}
        found = {self.graph.try_of(key): node for key, node in placed.items()}
        return {tried: node for tried, node in found.items() if tried is not None}

    def _commit(self, wave: Wave, placed: Mapping[Try, str]) -> None:
        state = self._tools.database.change(lambda tx: self._settle(tx, wave, placed))
        self._obey(state)

    def _settle(self, tx: Transaction, wave: Wave, placed: Mapping[Try, str]) -> str:
        self._lease.hold(tx)
        run_id = self._loaded.run.id
        progress = dict(vars(self.progress))
        cpu = sum(step.cpu_seconds for step in self.graph.steps.values())
        values = {"progress": progress, "cpu_seconds": cpu, "isolated": self.isolated}
        state = store.touch_run(tx, run_id, self._loaded.fence, values)
        if state is None:
            raise LeaseLostError
        if wave.ended:
            tries.end_tasks(tx, run_id, wave.ended)
        if placed:
            tries.place_tasks(tx, run_id, placed)
        if wave.moved:
            tries.begin_anew(tx, run_id, wave.moved)
        if wave.started:
            tries.start_tasks(tx, run_id, wave.started, self._begun)
            begun = self._begun + len(wave.started)
            tx.after_commit(lambda: setattr(self, "_begun", begun))
        if wave.steps:
            rows = [_step_row(run_id, self.graph.steps[name]) for name in sorted(wave.steps)]
            store.move_steps(tx, rows)
        version_id = self._loaded.run.pipeline_version_id
        if self.graph.no_fork and version_id and not self._fork_told:
            forbid_fork(tx, version_id)
            tx.after_commit(lambda: setattr(self, "_fork_told", True))
        self._tell(tx, progress)
        return state

    def _tell(self, tx: Transaction, progress: dict[str, Any]) -> None:
        moment = time.monotonic()
        if moment - self._told_at < self._tools.pace.event_seconds:
            return
        self._told_at = moment
        run = self._loaded.run
        topic = f"run/{run.id}"
        publish(tx, project_id=run.project_id, topic=topic, kind="progress", facts=progress)

    def _obey(self, state: str | None) -> None:
        if state != "running":
            raise CancelledError

    def _kill(self) -> None:
        """End every task of ours, and wait until each is dead."""
        left = {key for step in self.graph.steps.values() for key in step.running}
        for key in left:
            self._tools.dispatcher.cancel(key)
        end = time.monotonic() + _KILL_SECONDS
        while left and time.monotonic() < end:
            with suppress(queue.Empty):
                news = self._news.get(timeout=0.1)
                if isinstance(news, TaskReport):
                    left.discard(news.key)


def _rows_of(result: Any) -> dict[str, Any]:
    rows = result.get("rows") if isinstance(result, dict) else None
    return rows if isinstance(rows, dict) else {}


def _step_row(run_id: str, step: StepNow) -> dict[str, Any]:
    return {
        "b_run_id": run_id,
        "b_name": step.spec.name,
        "state": step.state,
        "reason": step.reason[:4000],
        "cuts": step.cuts,
        "partitions": step.partitions,
        "partitions_done": step.partitions_done,
        "cpu_seconds": step.cpu_seconds,
        "memory_peak_bytes": step.memory_peak_bytes,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
    }
