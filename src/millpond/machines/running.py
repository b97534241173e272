"""What runs on machines, and what holds more of it back: values."""

from dataclasses import dataclass
from typing import Literal

PauseKind = Literal["load", "memory", "disk", "silent", "refused", "version", "no room"]


@dataclass(frozen=True)
class Pause:
    """A reason why a node gets no new tasks for now.

    Attributes:
        kind: what it is about; few, so that alerts can ask for it.
        text: in words for people, with its figures.
    """

    kind: PauseKind
    text: str


@dataclass(frozen=True)
class TaskNow:
    """What a task that runs takes now, as its machine measures it every few seconds.

    Attributes:
        key: of the task.
        node: where it runs.
        cpu_cores: how many cores it keeps busy; None until it was measured twice.
        memory_bytes: memory of all its processes.
        memory_limit_bytes: with how much it would be ended.
        slots: cores that it counts for.
    """

    key: str
    node: str
    cpu_cores: float | None = None
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    slots: float = 0


@dataclass(frozen=True)
class TaskOwner:
    """Whose a task is.

    Attributes:
        project: its name.
        run: id of the run.
        what: that runs.
        step: of it.
        partition: of the step; -1 for the task that cuts its table.
        user: name of who started it.
    """

    project: str
    run: str
    what: str
    step: str
    partition: int
    user: str


@dataclass(frozen=True)
class NodeTask:
    """A task on a node.

    Attributes:
        key: of the task.
        now: what it takes; None until it is measured, as while it is made ready.
        owner: whose it is; None for one that belongs to no run, such as a build.
    """

    key: str
    now: TaskNow | None
    owner: TaskOwner | None
