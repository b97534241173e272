"""What a run's driver works with; nothing of it leaves the room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millpond.engine.values import TaskReport
from millpond.pipelines.values import PipelineSpec, Run, RunState, StoredObject

SPLITTING = -1
"""Number of the partition that cuts a table for the others."""


class DataFaultError(Exception):
    """Data does not fit the step that asks for it; says what to mend."""


@dataclass(frozen=True)
class Part:
    """One file on its way into a step; ``rows`` is None where nobody has counted."""

    stored: StoredObject
    rows: int | None = None


@dataclass(frozen=True)
class TaskOutputs:
    """What a task left: files, and rows of each table's parts as runs of ``[rows, parts]``."""

    objects: tuple[StoredObject, ...] = ()
    rows: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Try:
    """One try of one partition.

    Attributes:
        ready_at: not before this moment of the monotonic clock.
        is_again: whether a try of the partition went before it, so that it goes first.
    """

    step: str
    partition: int
    attempt: int
    fork: bool = True
    ready_at: float = 0.0
    is_again: bool = False


@dataclass(frozen=True)
class Placed:
    """The word that a task was given to a node."""

    key: str
    node: str


@dataclass(frozen=True)
class KeptTask:
    """A task as the database has it, for a driver that takes over.

    Attributes:
        node: where it ran or runs; empty when it was handed over and nobody has begun it.
    """

    step: str
    partition: int
    attempt: int
    state: str
    outcome: str
    fork: bool
    cpu_seconds: float
    memory_peak_bytes: int
    outputs: TaskOutputs | None
    outputs_key: str
    node: str = ""


@dataclass(frozen=True)
class KeptStep:
    """A step as the database has it."""

    name: str
    state: str
    reason: str
    cuts: list[int] | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Loaded:
    """All that a driver starts from.

    Attributes:
        fence: this driver's number; a later driver has a higher one.
        no_fork: whether the pipeline version must not be forked.
    """

    run: Run
    spec: PipelineSpec
    user_id: str
    code_key: str
    fence: int
    lock: str
    secrets: Mapping[str, str] = field(repr=False)
    no_fork: bool
    steps: tuple[KeptStep, ...]
    tasks: tuple[KeptTask, ...]


@dataclass(frozen=True)
class Ended:
    """A try with the engine's report, and what became of it."""

    tried: Try
    report: TaskReport
    state: str
    outputs: TaskOutputs | None
    outputs_key: str


@dataclass(frozen=True)
class RunFilter:
    """Which runs are wanted; what is empty counts for any.

    Attributes:
        states: any of these.
        pipeline: ``NAME`` or ``NAME@N``.
        by: name of who started it.
        since: started then or later.
        until: started before.
        text: stands in its id, in the name of what it runs, or of who started it; upper and lower
            case are alike.
    """

    states: tuple[RunState, ...] = ()
    pipeline: str = ""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""


@dataclass
class Wave:
    """Changes of one transaction.

    Attributes:
        started: tries that were marked running.
        moved: tries that nobody began, each with the one in its place.
        ended: tries that ended.
        steps: names of steps that changed.
    """

    started: list[Try] = field(default_factory=list)
    moved: list[tuple[Try, Try]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    steps: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.started or self.moved or self.ended or self.steps)
