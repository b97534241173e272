"""How far a run is: files or rows of its map steps, done and in all."""

from collections.abc import Mapping, Sequence

from millpond.engine.values import TaskProgress
from millpond.pipelines.runs.graph import Graph
from millpond.pipelines.runs.rules import seconds_left
from millpond.pipelines.runs.values import SPLITTING, Part
from millpond.pipelines.values import STEP_ENDED, Progress, StepSpec


def measure(
    graph: Graph, live: Mapping[str, TaskProgress], before: int | None, elapsed: float
) -> Progress:
    """Add up all map steps that are planned, and what their running tasks say of themselves.

    Args:
        graph: the run's steps.
        live: the newest word of each running task.
        before: items that were done when this driver began; None when not known yet.
        elapsed: seconds since then.
    """
    done = total = bytes_done = bytes_total = 0
    units = set()
    ended = 0
    for step in graph.steps.values():
        ended += step.state in STEP_ENDED
        if step.spec.split is None or step.cuts is None:
            continue
        units.add("rows" if is_over_table(step.spec) else "files")
        total += count_items(step.spec, step.over)
        bytes_total += _size(step.over)
        for partition in step.done:
            if partition != SPLITTING:
                done += count_items(step.spec, step.slice_of(partition))
                bytes_done += _size(step.slice_of(partition))
        for key, tried in step.running.items():
            if key in live and tried.partition != SPLITTING:
                parts, word = step.slice_of(tried.partition), live[key]
                done += int(min(max(word.done or 0, 0), count_items(step.spec, parts)))
                said = word.numbers.get("bytes", 0)
                bytes_done += int(min(max(said, 0), _size(parts)))
    left = None if before is None else seconds_left(done, before, total, elapsed)
    return Progress(
        steps_done=ended,
        steps_total=len(graph.steps),
        items_done=done,
        items_total=total,
        unit=units.pop() if len(units) == 1 else "items" if units else "steps",
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        seconds_left=left,
    )


def is_over_table(spec: StepSpec) -> bool:
    """Say whether a step splits a table."""
    return spec.split is not None and spec.arguments[spec.split.over]["kind"] == "table"


def count_items(spec: StepSpec, parts: Sequence[Part]) -> int:
    """Count the rows of a table's parts as far as they are known, or files."""
    return sum(part.rows or 0 for part in parts) if is_over_table(spec) else len(parts)


def _size(parts: Sequence[Part]) -> int:
    return sum(part.stored.size for part in parts)
