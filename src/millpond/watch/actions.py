"""What can be done with meters: keep them, fold and forget them, look at them."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from millpond.ground.actor import Actor
from millpond.ground.errors import NotFoundError
from millpond.machines.running import NodeTask
from millpond.people.actions import require
from millpond.storage.database import Transaction
from millpond.watch import rules, store
from millpond.watch.rules import Figures, Grid
from millpond.watch.values import LEVELS, Flat, Level, Line, Monitor, NodeNow, NodeSeries, Range

HOST = "local"
"""The name under which the host's own meters stand, as it does among the nodes."""

POINTS_GLANCE, POINTS_NODE = 60, 180

TasksOn = Callable[[Transaction, str], Sequence[NodeTask]]
"""Tells what runs on the machine of this name now."""


def nothing_runs(_: Transaction, __: str) -> Sequence[NodeTask]:
    """Know of no task: where nobody tells."""
    return ()


def keep(tx: Transaction, samples: Mapping[tuple[str, int], Flat]) -> None:
    """Write samples, by node and the second of 1970 at which their five seconds begin."""
    for (node, begin), flat in samples.items():
        store.add(tx, node, LEVELS[0].seconds, _moment(begin), flat)


def tidy(tx: Transaction) -> None:
    """Fold what is due into coarser rows, then forget what is old; a chore of every minute."""
    for level in LEVELS:
        coarser = rules.coarser_of(level)
        if coarser is not None:
            _fold(tx, level, coarser)
    for level in LEVELS:
        store.forget(tx, level, tx.now - level.kept)


def _fold(tx: Transaction, level: Level, coarser: Level) -> None:
    step = timedelta(seconds=coarser.seconds)
    folded = store.newest_at(tx, coarser)
    until = _moment(rules.begin_of((tx.now - coarser.grace).timestamp(), coarser.seconds))
    since = until - level.kept
    rows: dict[tuple[str, int], list[tuple[float, Figures]]] = defaultdict(list)
    for node in store.newest_at(tx, level):
        begin = max(since, folded[node] + step) if node in folded else since
        for _, at, figures in store.read(tx, level, begin, until, node):
            bucket = rules.begin_of(at.timestamp(), coarser.seconds)
            rows[node, bucket].append((level.seconds, figures))
    for (node, bucket), found in rows.items():
        store.add(tx, node, coarser.seconds, _moment(bucket), rules.fold(found))


def get_monitor(
    tx: Transaction,
    actor: Actor,
    wanted: Range = "1h",
    *,
    node: str | None = None,
    faults: Mapping[str, str] | None = None,
    tasks_on: TasksOn = nothing_runs,
) -> Monitor:
    """Give the meters of all nodes, or of one in finer steps.

    Args:
        tx: the transaction.
        actor: who asks.
        wanted: how far back.
        node: this one only.
        faults: by node, why its newest meters were refused.
        tasks_on: tells what runs on one machine now.

    Raises:
        NotFoundError: nothing is kept of a node of this name.
    """
    require(tx, actor, "monitor.read")
    grid = rules.plan_grid(
        wanted, tx.now.timestamp(), POINTS_GLANCE if node is None else POINTS_NODE
    )
    steps = _read(tx, grid, node)
    newest = _newest(tx, node, faults or {})
    names = sorted({*steps, *newest}, key=lambda name: (name != HOST, name))
    if node is not None and not names:
        raise NotFoundError(
            f"No meters of a node {node!r} are kept.",
            next_step="See the nodes there are with `millpond monitor`; a node is measured from"
            " its first heartbeat on, and its meters are kept for 30 days.",
            node=node,
        )
    return Monitor(
        range=wanted,
        step_seconds=grid.step,
        begins=[_moment(grid.first + place * grid.step) for place in range(grid.steps)],
        nodes=[
            NodeSeries(name, newest.get(name), _lines(steps.get(name, {}), grid)) for name in names
        ],
        tasks=[] if node is None else tasks_on(tx, node),
    )


def list_tasks_now(
    tx: Transaction, actor: Actor, node: str, tasks_on: TasksOn
) -> Sequence[NodeTask]:
    """Give what runs on one machine now."""
    require(tx, actor, "monitor.read")
    return tasks_on(tx, node)


def _read(
    tx: Transaction, grid: Grid, node: str | None
) -> Mapping[str, Mapping[int, dict[str, float | list[float]]]]:
    """Give by node and step what the meters were; where a level ends, a finer one goes on."""
    begin, until = _moment(grid.first), tx.now + timedelta(days=1)
    rows: dict[str, dict[int, list[tuple[float, Figures]]]] = {}
    ends: dict[str, datetime] = {}
    for level in grid.levels:
        known = dict(ends)
        for name, at, figures in store.read(tx, level, begin, until, node):
            place = grid.place_of(at.timestamp())
            if place is not None and at >= known.get(name, begin):
                rows.setdefault(name, {}).setdefault(place, []).append((level.seconds, figures))
                ends[name] = at + timedelta(seconds=level.seconds)
    return {
        name: {place: rules.fold(found) for place, found in by_place.items()}
        for name, by_place in rows.items()
    }


def _newest(tx: Transaction, node: str | None, faults: Mapping[str, str]) -> Mapping[str, NodeNow]:
    rows = store.newest(tx, LEVELS[0], node)
    return {
        name: rules.now_of(
            name,
            at,
            {meter: rules.mean_and_peak(value)[0] for meter, value in figures.items()},
            tx.now,
            faults.get(name, ""),
        )
        for name, at, figures in rows
    }


def _lines(steps: Mapping[int, Mapping[str, float | Sequence[float]]], grid: Grid) -> list[Line]:
    names = dict.fromkeys(name for figures in steps.values() for name in figures)
    lines = []
    for name in names:
        means: list[float | None] = [None] * grid.steps
        peaks: list[float | None] = [None] * grid.steps
        for place, figures in steps.items():
            if name in figures:
                means[place], peaks[place] = rules.mean_and_peak(figures[name])
        lines.append(Line(name, means, peaks))
    return lines


def _moment(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)
