"""What the pages of runs show: read in one go, told in words, drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args

from millpond.ground.actor import Actor
from millpond.ground.canonical import digest_of
from millpond.ground.errors import Fault, InvalidError
from millpond.ground.page import Page
from millpond.machines.live import LiveTasks
from millpond.pipelines.drawing import draw_dag
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.figures import Busy, add_figures, see_busy
from millpond.pipelines.runs.values import SPLITTING, RunFilter
from millpond.pipelines.values import RUN_ENDED, Run, RunState, StepRun, Task, TaskState
from millpond.storage.database import Transaction

LIVE: tuple[RunState, ...] = ("queued", "preparing", "running", "cancelling")
STATES: tuple[RunState, ...] = get_args(RunState)
_TASKS_SHOWN = 10
_REASONS_SHOWN = 3
_LOSSES_READ = 500


@dataclass(frozen=True)
class TasksAsked:
    """Which of a run's tasks are to be shown.

    Attributes:
        step: of this step; empty for all.
        which: in this state; empty for all.
    """

    step: str = ""
    which: str = ""
    cursor: str | None = None


@dataclass(frozen=True)
class Lost:
    """Tries that were lost with the same machine for the same reason."""

    node: str
    reason: str
    count: int


@dataclass(frozen=True)
class Looked:
    """A run with all that its page tells of it."""

    run: Run
    steps: Sequence[StepRun]
    counts: Mapping[str, Mapping[str, int]]
    tasks: Page[Task]
    losses: Sequence[Lost]
    asked: TasksAsked
    now: datetime
    busy: Busy | None

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.run.state not in RUN_ENDED

    @property
    def mark(self) -> str:
        """Give what changes whenever any of it does."""
        # What tasks take has a part of its own; whether they have begun has not.
        tasks = [(replace(task, now=None), task.now is None) for task in self.tasks.items]
        return digest_of(repr((self.run, self.steps, self.counts, tasks)))[:16]

    @property
    def wall_seconds(self) -> float | None:
        """How long it took, or has taken so far."""
        return wall_seconds(self.run, self.now)

    def count(self, step: str, state: TaskState) -> int:
        """Count the tries of a step that are in a state."""
        return self.counts.get(step, {}).get(state, 0)


def look_at(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    run_id: str,
    asked: TasksAsked,
    live: LiveTasks,
) -> Looked:
    """Read a run, its steps, the tasks that are asked for, and what those that run take."""
    run = actions.get_run(tx, actor, project_id, run_id)
    tasks = actions.list_tasks(
        tx,
        actor,
        project_id,
        run_id,
        step=asked.step or None,
        state=asked.which or None,
        cursor=asked.cursor,
        limit=_TASKS_SHOWN,
    )
    steps = actions.list_steps(tx, actor, project_id, run_id)
    counts = actions.count_tasks(tx, actor, project_id, run_id)
    losses: list[Lost] = []
    if any(each.get("lost") for each in counts.values()):
        lost = actions.list_tasks(
            tx, actor, project_id, run_id, state="lost", limit=_LOSSES_READ
        ).items
        grouped = Counter((task.node, task.reason) for task in lost)
        losses = [Lost(node, reason, count) for (node, reason), count in grouped.most_common()]
    tasks = replace(tasks, items=add_figures(tasks.items, run_id, live))
    busy = None if run.state in RUN_ENDED else see_busy(tx, actor, run, counts, live)
    return Looked(run, steps, counts, tasks, losses, asked, tx.now, busy)


def wall_seconds(run: Run | StepRun, now: datetime) -> float | None:
    """Give the seconds from begin to end, or until now."""
    if run.started_at is None:
        return None
    return max(((run.ended_at or now) - run.started_at).total_seconds(), 0.0)


def draw(looked: Looked, project: str) -> str:
    """Draw the run's steps; each leads to its tasks and its log."""
    steps = looked.steps
    at = f"/projects/{project}/runs/{looked.run.id}"
    return draw_dag(
        [step.name for step in steps],
        [(needed, step.name) for step in steps for needed in step.needs],
        states={step.name: step.state for step in steps},
        links={step.name: f"{at}?step={step.name}#tasks" for step in steps},
        counts={
            step.name: (step.partitions_done, step.partitions)
            for step in steps
            if step.state == "running" and step.partitions > 1
        },
        notes={step.name: _note(looked, step) for step in steps},
        title=f"Steps of {looked.run.what}",
    )


def _note(looked: Looked, step: StepRun) -> str:
    words: list[str] = [step.state]
    if step.partitions > 1:
        words.append(f"{step.partitions_done} of {step.partitions}")
    for state in ("failed", "lost"):
        count = looked.count(step.name, state)
        if count and step.state != "failed":
            words.append(f"{count} {state}")
    return " · ".join(words)


@dataclass(frozen=True)
class Cause:
    """Why a run failed, in one place: the step, and the tries of it that failed last."""

    step: str
    reason: str
    tasks: Sequence[Task]


def causes_of(tx: Transaction, actor: Actor, looked: Looked) -> list[Cause]:
    """Find the steps that failed, with some of their failed tasks."""
    if looked.run.state != "failed":
        return []
    run = looked.run
    return [
        Cause(
            step.name,
            step.reason,
            actions.list_tasks(
                tx, actor, run.project_id, run.id, step=step.name,
                state="failed" if looked.count(step.name, "failed") else "lost",
                limit=_REASONS_SHOWN,
            ).items,
        )
        for step in looked.steps
        if step.state == "failed"
    ]  # fmt: skip


def name_partition(task: Task) -> str:
    """Write a task's partition for people."""
    return "splitting" if task.partition == SPLITTING else str(task.partition)


def plots_of(looked: Looked) -> list[tuple[str, dict[str, Any]]]:
    """Give the plots of what each step used: title and facts."""
    names = [step.name for step in looked.steps]
    kinds: list[tuple[str, str, list[float]]] = [
        ("Processor time", "s", [step.cpu_seconds for step in looked.steps]),
        ("Time from begin to end", "s", [wall_seconds(s, looked.now) or 0.0 for s in looked.steps]),
        ("Peak of memory", "MB", [step.memory_peak_bytes / 1e6 for step in looked.steps]),
    ]
    return [
        (
            title,
            {
                "x": list(range(len(names))),
                "labels": names,
                "x_label": "Step",
                "bars": True,
                "unit": unit,
                "series": [{"label": title, "values": [round(value, 3) for value in values]}],
            },
        )
        for title, unit, values in kinds
        if any(values)
    ]


# Filters ---------------------------------------------------------------------------------------


def read_filter(query: Mapping[str, str]) -> RunFilter:
    """Read the filter of a list from a page's address; what is empty counts for any.

    Raises:
        InvalidError: a state or a day is none.
    """
    faults: list[Fault] = []
    states: tuple[RunState, ...] = ()
    chosen = query.get("state", "")
    if chosen == "live":
        states = LIVE
    elif chosen:
        states = tuple(state for state in STATES if state == chosen)
        if not states:
            faults.append(Fault("state", f"must be live or one of {', '.join(STATES)}"))
    days = {name: _day(name, query.get(name, ""), faults) for name in ("since", "until")}
    if faults:
        raise InvalidError(
            "The list can't be narrowed like this.",
            next_step="Mend what is listed, or leave it out.",
            faults=faults,
        )
    until = days["until"]
    return RunFilter(
        states=states,
        pipeline=query.get("pipeline", "").strip()[:100],
        by=query.get("by", "").strip()[:80],
        since=days["since"],
        until=until and until + timedelta(days=1),
        text=query.get("text", "").strip()[:100],
    )


def _day(name: str, text: str, faults: list[Fault]) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        faults.append(Fault(name, "must be a day, such as 2026-05-01"))
        return None
