"""Sum up usage, and spread a run's tasks over time; nothing is read or written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from millpond.ground.errors import Fault, InvalidError
from millpond.machines.values import NodePrice
from millpond.pipelines.usage.values import DayUse, TaskSpan
from millpond.watch.usage.values import RunCurve, RunUse, StepUse, Usage, UsageRow, Used

DAYS_MOST = 366
_HOUR, _GB = 3600.0, 1e9
_INTERVALS = 120
_INTERVAL_LEAST = 0.5
_NAMES_MOST = 12
PROGRAM = "program"


def choose_days(since: date | None, until: date | None, today: date) -> tuple[date, date]:
    """Choose the days: the last thirty unless they are named.

    Raises:
        InvalidError: they are turned around, or too many.
    """
    last = until or today
    first = since or last - timedelta(days=29)
    if not timedelta(0) <= last - first < timedelta(days=DAYS_MOST):
        text = f"from {first} to {last} are not 1 to {DAYS_MOST} days"
        raise InvalidError(
            f"The usage of these days cannot be shown: {text}.",
            next_step="Name a first day and a last one, at most a year apart.",
            faults=[Fault("since", text)],
        )
    return first, last


def moments(first: date, last: date) -> tuple[datetime, datetime]:
    """Give the beginning of the first day and the end of the last."""
    end = last + timedelta(days=1)
    return datetime.combine(first, time(), UTC), datetime.combine(end, time(), UTC)


def sum_up(rows: Iterable[DayUse], prices: Mapping[str, NodePrice]) -> Used:
    """Add rows up.

    Args:
        rows: what was used.
        prices: by node, what it costs in an hour; no price is no entry.
    """
    total, cost = Used(), None
    for row in rows:
        hours = row.wall_seconds / _HOUR
        total = Used(
            tasks=total.tasks + row.tasks,
            cpu_hours=total.cpu_hours + row.cpu_seconds / _HOUR,
            task_hours=total.task_hours + hours,
            memory_gb_hours=total.memory_gb_hours + row.memory_byte_seconds / _HOUR / _GB,
        )
        if row.node in prices:
            cost = (cost or 0.0) + hours * prices[row.node].of_task(row.slots, row.gpus)
    return Used(total.tasks, total.cpu_hours, total.task_hours, total.memory_gb_hours, cost)


def tell_usage(
    rows: Sequence[DayUse],
    *,
    project: str,
    days: tuple[date, date],
    names: Mapping[str, str],
    prices: Mapping[str, NodePrice],
) -> Usage:
    """Sum up rows by each of what they tell.

    Args:
        rows: what was used.
        project: name of the one project; empty for all.
        days: the first and the last.
        names: of projects, by id.
        prices: as for ``sum_up``.
    """

    def grouped(key: Callable[[DayUse], str]) -> list[UsageRow]:
        groups: dict[str, list[DayUse]] = {}
        for row in rows:
            groups.setdefault(key(row), []).append(row)
        found = [UsageRow(name, sum_up(part, prices)) for name, part in groups.items()]
        return sorted(found, key=lambda one: (-one.used.cpu_hours, one.key))

    by_day = {row.key: row for row in grouped(lambda row: row.day.isoformat())}
    first, last = days
    every = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    return Usage(
        project=project,
        since=first,
        until=last,
        total=sum_up(rows, prices),
        days=[by_day.get(day, UsageRow(day, Used())) for day in every],
        projects=grouped(lambda row: names.get(row.project_id, row.project_id)),
        users=grouped(lambda row: row.user),
        pipelines=grouped(lambda row: row.pipeline or PROGRAM),
        nodes=grouped(lambda row: row.node or "unknown"),
    )


# One run -----------------------------------------------------------------------------------------


def tell_run(
    run_id: str, spans: Sequence[TaskSpan], now: datetime, prices: Mapping[str, NodePrice]
) -> RunUse:
    """Tell what a run has used, and spread its tasks over the time from the first to the last."""
    uses = [_as_use(span) for span in spans]
    begin = min((span.started_at for span in spans), default=now)
    end = max((span.ended_at or now for span in spans), default=now)
    seconds = max((end - begin).total_seconds(), 1e-3)
    step = max(seconds / _INTERVALS, _INTERVAL_LEAST)
    count = max(1, int(-(-seconds // step)))
    spread = _Spread(begin, step, count, now)
    return RunUse(
        run=run_id,
        total=sum_up((use for use in uses if use), prices),
        steps=_steps(spans, uses, prices),
        interval_seconds=step,
        begins=[begin + timedelta(seconds=step * place) for place in range(count)],
        by_step=_curves(spread, spans, lambda span: span.step),
        by_node=_curves(spread, spans, lambda span: span.node or "unknown"),
        processors=spread.sum(spans, _processors),
        memory_bytes=spread.sum(spans, lambda span: float(span.memory_peak_bytes)),
    )


def _as_use(span: TaskSpan) -> DayUse | None:
    if span.ended_at is None:
        return None
    memory = span.memory_peak_bytes * span.wall_seconds
    day = span.ended_at.date()
    return DayUse(
        day=day,
        project_id="",
        user="",
        pipeline="",
        node=span.node,
        tasks=1,
        cpu_seconds=span.cpu_seconds,
        wall_seconds=span.wall_seconds,
        memory_byte_seconds=memory,
        slots=span.slots,
        gpus=span.gpus,
    )


def _processors(span: TaskSpan) -> float:
    if span.ended_at is None:
        return 0.0  # Its bill comes at its end.
    return span.cpu_seconds / max((span.ended_at - span.started_at).total_seconds(), 1e-3)


def _steps(
    spans: Sequence[TaskSpan], uses: Sequence[DayUse | None], prices: Mapping[str, NodePrice]
) -> list[StepUse]:
    found = []
    for name in dict.fromkeys(span.step for span in spans):
        own = [(span, use) for span, use in zip(spans, uses, strict=True) if span.step == name]
        found.append(
            StepUse(
                step=name,
                used=sum_up((use for _, use in own if use), prices),
                running=sum(use is None for _, use in own),
                memory_peak_bytes=max(span.memory_peak_bytes for span, _ in own),
                nodes=sorted({span.node for span, _ in own if span.node}),
            )
        )
    return found


def _curves(
    spread: "_Spread", spans: Sequence[TaskSpan], key: Callable[[TaskSpan], str]
) -> list[RunCurve]:
    names = list(dict.fromkeys(key(span) for span in spans))[:_NAMES_MOST]
    return [
        RunCurve(name, spread.sum([span for span in spans if key(span) == name], lambda _: 1.0))
        for name in names
    ]


class _Spread:
    """Spreads what tasks had over intervals of time."""

    def __init__(self, begin: datetime, step: float, count: int, now: datetime) -> None:
        self._begin, self._step, self._count, self._now = begin, step, count, now

    def sum(self, spans: Sequence[TaskSpan], height: Callable[[TaskSpan], float]) -> list[float]:
        """Give by interval the mean of what all tasks had at a time."""
        totals = [0.0] * self._count
        # Of the intervals that a task fills, only the change is noted, so that each costs alike.
        changes = [0.0] * (self._count + 1)
        for span in spans:
            first = (span.started_at - self._begin).total_seconds() / self._step
            ended = span.ended_at or self._now
            last = min((ended - self._begin).total_seconds() / self._step, float(self._count))
            each, left, right = height(span), int(first), int(last)
            if left >= right:
                totals[min(left, self._count - 1)] += each * max(0.0, last - first)
                continue
            totals[left] += each * (left + 1 - first)
            changes[left + 1] += each
            changes[right] -= each
            if right < self._count:
                totals[right] += each * (last - right)
        level = 0.0
        for place in range(self._count):
            level += changes[place]
            totals[place] = round(totals[place] + level, 6)
        return totals
