"""Values of usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

UsageBy = Literal["day", "project", "user", "pipeline", "node"]


@dataclass(frozen=True)
class Used:
    """An amount of work.

    Attributes:
        tasks: that have ended, failed tries included.
        cpu_hours: of processors, user and system.
        task_hours: from begin to end of each task, added up.
        memory_gb_hours: each task's peak of memory in GB (a thousand million bytes) times its
            hours, added up.
        cost: of the nodes' hours; None where no node that was used has a price.
    """

    tasks: int = 0
    cpu_hours: float = 0.0
    task_hours: float = 0.0
    memory_gb_hours: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class UsageRow:
    """What one of a kind used.

    Attributes:
        key: the day, or the name of the project, person, pipeline or node.
    """

    key: str
    used: Used


@dataclass(frozen=True)
class Usage:
    """What a project, or the whole site, has used in some days.

    Attributes:
        project: its name; empty for the whole site.
        since: the first day, in UTC.
        until: the last.
        total: all of it.
        days: one row for each day, also where nothing was used.
        projects: the most processor hours first; likewise the others.
        users: by who started the runs.
        pipelines: by name; programs that are no pipeline stand under ``program``.
        nodes: ``local`` is the host.
    """

    project: str
    since: date
    until: date
    total: Used
    days: Sequence[UsageRow]
    projects: Sequence[UsageRow]
    users: Sequence[UsageRow]
    pipelines: Sequence[UsageRow]
    nodes: Sequence[UsageRow]


@dataclass(frozen=True)
class StepUse:
    """What a step of a run used.

    Attributes:
        running: tasks that run now.
        memory_peak_bytes: the highest of one task.
        nodes: where its tasks ran.
    """

    step: str
    used: Used
    running: int
    memory_peak_bytes: int
    nodes: Sequence[str]


@dataclass(frozen=True)
class RunCurve:
    """How many tasks of a step, or on a node, ran at each time.

    Attributes:
        name: of the step or node.
        tasks: mean number by interval.
    """

    name: str
    tasks: Sequence[float]


@dataclass(frozen=True)
class RunUse:
    """What a run has used, and when.

    Attributes:
        run: its id.
        total: of ended tasks.
        steps: in the order in which they began.
        interval_seconds: that one number of the curves stands for.
        begins: of each interval.
        by_step: tasks that ran at a time.
        by_node: the same by node.
        processors: that were busy at a time, on the mean; each task's spread over its time.
        memory_bytes: the peaks of the tasks that ran at a time, added up.
    """

    run: str
    total: Used
    steps: Sequence[StepUse]
    interval_seconds: float
    begins: Sequence[datetime]
    by_step: Sequence[RunCurve]
    by_node: Sequence[RunCurve]
    processors: Sequence[float]
    memory_bytes: Sequence[float]
