"""The tools that compiling and running need; ``main`` gives them."""

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from millpond.engine.port import OnDone, OnProgress
from millpond.engine.values import TaskSpec
from millpond.environments.port import Builder, name_for_nodes
from millpond.pipelines.outputs.values import Collected
from millpond.pipelines.values import RunCollection
from millpond.storage.database import Database
from millpond.storage.port import ObjectStore


class Dispatcher(Protocol):
    """Hands tasks to an engine, fairly by share, never more than fit."""

    @property
    def outlives(self) -> bool:
        """Whether tasks go on when this server ends, for the next one to take over."""
        ...

    @property
    def slots(self) -> float:
        """How many slots there are in all, as they were seen last."""
        ...

    def submit(
        self,
        task: TaskSpec,
        share: str,
        on_progress: OnProgress,
        on_done: OnDone,
        *,
        on_place: Callable[[str], None] = ...,
        before: str = ...,
    ) -> None:
        """Take a task; it starts when it is its turn. ``on_done`` is called exactly once.

        ``on_place`` hears to which node it was given; it goes before the tasks of its share that
        wait and whose keys begin with ``before``.
        """
        ...

    def cancel(self, key: str) -> None:
        """End a task, waiting or running; unknown keys are passed over."""
        ...

    def why_waiting(self) -> str:
        """Say why nothing starts although tasks wait; empty when they wait for one another."""
        ...

    def reattach(self, keys: Iterable[str], on_progress: OnProgress, on_done: OnDone) -> set[str]:
        """Take over tasks that were started before; tell which of them are still there.

        Of these ``on_done`` is called exactly once, of the others never.
        """
        ...


Collect = Callable[[ObjectStore, RunCollection], Collected]
"""Writes a run's outputs and their manifest."""


@dataclass(frozen=True)
class Pace:
    """Limits and rhythms of compiling and running.

    Attributes:
        compile_seconds: longest time to read a pipeline.
        partitions: most partitions of a step.
        retries: most retries that a step may ask for.
        retry_seconds: wait before the first retry; doubled for each further one, at most a minute.
        tick_seconds: how often a driver looks whether its run was cancelled.
        event_seconds: progress is told at most this often.
        window: tasks of one run that are handed over at the same time, at least; more where there
            are many slots.
        wait_seconds: how often a compilation looks whether its environment is ready.
    """

    compile_seconds: float = 60.0
    partitions: int = 10_000
    retries: int = 10
    retry_seconds: float = 1.0
    tick_seconds: float = 0.5
    event_seconds: float = 0.5
    window: int = 64
    wait_seconds: float = 0.5


@dataclass(frozen=True)
class PipelineTools:
    """What compiling and running are given.

    Attributes:
        database: facts.
        objects: bytes.
        dispatcher: runs tasks.
        builder: makes environments on this machine.
        collect: writes a run's outputs.
        version: of Millpond.
        pace: limits and rhythms.
        makes_environments: whether they are made here, before a task is handed over; else the
            node that it goes to makes them.
    """

    database: Database
    objects: ObjectStore
    dispatcher: Dispatcher
    builder: Builder
    collect: Collect
    version: str = ""
    pace: Pace = field(default_factory=Pace)
    makes_environments: bool = True


def environment_of(tools: PipelineTools, lock: str) -> tuple[str, str]:
    """Give what a task is told of its environment, and the version of its Python.

    Here it is the folder, made when it is not there. Where tasks run on nodes, it is the lock's
    digest: each node makes it for itself, when a task first needs it.

    Raises:
        InvalidError: it can't be made of this lock.
        BusyError: not now.
    """
    if not lock:
        return "", platform.python_version()
    if not tools.makes_environments:
        return name_for_nodes(lock)
    place = tools.builder.ensure(lock, lambda _: None)
    return str(place.path), place.python_version
