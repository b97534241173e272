"""What the tasks of a run that goes on take at this moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from millpond.ground.actor import Actor
from millpond.machines.live import LiveTasks
from millpond.machines.running import TaskNow
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.graph import task_key
from millpond.pipelines.runs.values import Try
from millpond.pipelines.values import RUN_ENDED, Run, Task
from millpond.storage.database import Transaction

_SHOWN, _READ = 12, 200


@dataclass(frozen=True)
class Busy:
    """What runs of a run now.

    Attributes:
        tasks: some of those that machines have told of.
        told: how many machines have told of: they are in a sandbox.
        untold: how many more the run has given away: they wait there, or have only just begun.
        nodes: names of the machines that they are on, as far as these have told.
        cpu_cores: that all of them keep busy.
        memory_bytes: of all of them.
    """

    tasks: Sequence[Task]
    told: int
    untold: int
    nodes: Sequence[str]
    cpu_cores: float
    memory_bytes: int


def add_figures(tasks: Sequence[Task], run_id: str, live: LiveTasks) -> list[Task]:
    """Give tasks, those that run with what they take and where."""
    if not any(task.state == "running" for task in tasks):
        return list(tasks)
    told = _by_key(run_id, live)
    return [_with(task, told.get(_key_of(task, run_id), ())) for task in tasks]


def _by_key(run_id: str, live: LiveTasks) -> Mapping[str, Sequence[TaskNow]]:
    by_key: dict[str, list[TaskNow]] = {}
    for (_, key), now in sorted(live.of_run(run_id).items()):
        by_key.setdefault(key, []).append(now)
    return by_key


def _key_of(task: Task, run_id: str) -> str:
    return task_key(run_id, Try(task.step, task.partition, task.attempt))


def _with(task: Task, told: Sequence[TaskNow]) -> Task:
    fits = [now for now in told if task.node in ("", now.node)]
    if task.state != "running" or not fits:
        return task
    return replace(task, node=fits[0].node, now=fits[0])


def look_at_busy(
    tx: Transaction, actor: Actor, project_id: str, run_id: str, live: LiveTasks
) -> Busy | None:
    """Read what runs of a run now; None once it has ended."""
    run = actions.get_run(tx, actor, project_id, run_id)
    if run.state in RUN_ENDED:
        return None
    return see_busy(tx, actor, run, actions.count_tasks(tx, actor, project_id, run_id), live)


def see_busy(
    tx: Transaction,
    actor: Actor,
    run: Run,
    counts: Mapping[str, Mapping[str, int]],
    live: LiveTasks,
) -> Busy:
    """Tell what runs of a run that goes on; ``counts`` are its tasks by step and state."""
    found = actions.list_tasks(
        tx, actor, run.project_id, run.id, state="running", limit=_READ
    ).items
    told = _by_key(run.id, live)
    now = [each[0] for each in told.values()]  # Each task once, whoever else speaks of it.
    given = sum(each.get("running", 0) for each in counts.values())
    seen = (_with(task, told.get(_key_of(task, run.id), ())) for task in found)
    return Busy(
        tasks=[task for task in seen if task.now is not None][:_SHOWN],
        told=len(now),
        untold=max(0, given - len(now)),
        nodes=sorted({each.node for each in now}),
        cpu_cores=sum(each.cpu_cores or 0.0 for each in now),
        memory_bytes=sum(each.memory_bytes for each in now),
    )
