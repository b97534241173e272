"""What a run's collection says of the run, in the form that the report and the record share."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from millpond.pipelines.outputs.values import RunFacts, StepFacts
from millpond.pipelines.values import RunCollection, StepRun, Task


def facts_of(collection: RunCollection) -> RunFacts:
    """Give the facts of a run."""
    run, known = collection.run, collection.environment
    return RunFacts(
        run={
            "id": run.id,
            "state": _state(collection),
            "by": run.created_by,
            "started": _moment(run.started_at),
        },
        pipeline={
            **collection.pipeline,
            "title": (collection.spec.title or run.what).removesuffix("."),
            "description": collection.spec.description,
            "spec_digest": run.spec_digest,
        },
        parameters=dict(run.parameters),
        inputs=tuple(
            {
                "name": each.name,
                "dataset": f"{each.dataset}@{each.number}",
                "kind": each.kind,
                "file_count": each.file_count,
                "size_bytes": each.size_bytes,
                "digest": each.digest,
            }
            for each in run.inputs
        ),
        environment={"address": run.environment, "lock_digest": run.lock_digest, **known},
        code={"digest": run.code_digest, "seed": run.seed},
        machine={**collection.machine, "isolated": run.isolated, "nodes": _nodes(collection.tasks)},
        times=_times(collection),
        counts=_counts(collection),
        steps=tuple(_step(each, collection.tasks) for each in collection.steps),
        warnings=_warnings(collection),
    )


def _state(collection: RunCollection) -> str:
    """Tell the state the run is about to have: outputs are gathered just before its end."""
    states = {step.state for step in collection.steps}
    if collection.run.state == "running" and states <= {"succeeded", "skipped"}:
        return "succeeded"
    return collection.run.state


def _nodes(tasks: Iterable[Task]) -> list[str]:
    return sorted({task.node for task in tasks if task.node})


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _between(start: datetime | None, end: datetime | None) -> float:
    return round((end - start).total_seconds(), 3) if start and end else 0.0


def _last_end(collection: RunCollection) -> datetime | None:
    ends = [step.ended_at for step in collection.steps if step.ended_at]
    return collection.run.ended_at or max(ends, default=None)


def _times(collection: RunCollection) -> dict[str, Any]:
    run, end = collection.run, _last_end(collection)
    return {
        "created_at": _moment(run.created_at),
        "started_at": _moment(run.started_at),
        "last_step_ended_at": _moment(end),
        "seconds_waiting": _between(run.created_at, run.started_at),
        "seconds_running": _between(run.started_at, end),
        "processor_seconds": round(sum(step.cpu_seconds for step in collection.steps), 3),
    }


def _counts(collection: RunCollection) -> dict[str, Any]:
    counts: dict[str, Any] = {
        f"files in {each.name}": each.file_count for each in collection.run.inputs
    }
    counts["tasks"] = sum(step.partitions for step in collection.steps)
    counts["failed tries"] = sum(task.state == "failed" for task in collection.tasks)
    counts["lost tries"] = sum(task.state == "lost" for task in collection.tasks)
    counts["seconds"] = _between(collection.run.started_at, _last_end(collection))
    counts["processor seconds"] = round(sum(step.cpu_seconds for step in collection.steps), 1)
    return counts


def _step(step: StepRun, tasks: Iterable[Task]) -> StepFacts:
    return StepFacts(
        name=step.name,
        state=step.state,
        tasks=step.partitions,
        failed=sum(task.step == step.name and task.state == "failed" for task in tasks),
        cpu_seconds=round(step.cpu_seconds, 3),
        wall_seconds=_between(step.started_at, step.ended_at),
        memory_peak_bytes=step.memory_peak_bytes,
    )


def _warnings(collection: RunCollection) -> tuple[str, ...]:
    found = []
    if not collection.run.isolated:
        found.append("The code ran without a sandbox: this machine, or a node, offers none.")
    found += [
        f"The step {step.name} {step.state}{': ' + step.reason if step.reason else '.'}"
        for step in collection.steps
        if step.state in ("failed", "cancelled", "skipped")
    ]
    again = sum(task.state == "failed" for task in collection.tasks)
    if again:
        found.append(f"{again} of the tries failed; the log of their step tells why.")
    lost = Counter(task.node for task in collection.tasks if task.state == "lost")
    found += [
        f"{count} of the tries were lost{' on ' + node if node else ''} and were made again."
        for node, count in sorted(lost.items())
    ]
    return tuple(found)
