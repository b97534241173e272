"""Plots of meters: what each shows, in which unit, and what it says in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.watch.rules import parts_of
from millpond.watch.values import Line, Monitor, NodeNow, NodeSeries
from millpond.web.words import write_number, write_size

Points = list[float | None]
_GB, _MB = 1e9, 1e6
_GIVEN = 4
_LEAST = {"": 1.0, "MB/s": 0.1}
"""The lowest end of an axis by its unit, so that next to nothing does not look like much."""


@dataclass(frozen=True)
class Plot:
    """A plot of one machine.

    Attributes:
        key: names it within the page.
        title: what it shows.
        facts: what draws it.
        said: the same in a few words.
    """

    key: str
    title: str
    facts: Mapping[str, Any]
    said: str


class _Drawing:
    """Makes the plots of one machine over the steps of a monitor."""

    def __init__(self, monitor: Monitor, series: NodeSeries, *, is_small: bool) -> None:
        self._x = [int(begin.timestamp()) for begin in monitor.begins]
        self._node, self._is_small = series.node, is_small
        self.lines: Mapping[str, Line] = {line.meter: line for line in series.lines}

    def of(self, name: str, per: float = 1, *, peak: bool = False) -> Points:
        """Give a meter's points in a unit."""
        line = self.lines.get(name)
        if line is None:
            return [None] * len(self._x)
        return [_short(value, per) for value in (line.peaks if peak else line.means)]

    def share(self, part: str, whole: str) -> Points:
        """Give one meter in percent of another."""
        pairs = zip(self.of(part), self.of(whole), strict=True)
        return [_short(a, b / 100) if a is not None and b else None for a, b in pairs]

    def total(self, names: Sequence[str], per: float) -> Points:
        """Give the sum of some meters."""
        columns = [self.of(name) for name in names]
        return [
            _short(sum(value for value in row if value is not None), per)
            if any(value is not None for value in row)
            else None
            for row in zip(*columns, strict=True)
        ] or [None] * len(self._x)

    def plot(
        self,
        key: str,
        title: str,
        unit: str,
        series: Sequence[tuple[str, Points]],
        most: float | None = None,
    ) -> Plot:
        """Put a plot together."""
        facts: dict[str, Any] = {
            "x": self._x,
            "x_label": "Time",
            "time": True,
            "unit": unit,
            "from_zero": True,
            "small": self._is_small,
            "series": [{"label": label, "values": values} for label, values in series],
        }
        if most is not None:
            facts["most"] = most
        elif unit in _LEAST:
            facts["least"] = _LEAST[unit]
        words = "; ".join(_words(label, values, unit) for label, values in series)
        return Plot(f"{self._node}/{key}", title, facts, f"{title} of {self._node}: {words}")


def _short(value: float | None, per: float) -> float | None:
    return None if value is None else float(f"{value / per:.{_GIVEN}g}")


def _words(label: str, values: Points, unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return f"{label} not known"
    mean = sum(known) / len(known)
    texts = [write_number(round(value, 3)) for value in (known[-1], mean, max(known))]
    return f"{label} {texts[0]} {unit}, mean {texts[1]}, highest {texts[2]}"


def draw_small(monitor: Monitor, series: NodeSeries) -> list[Plot]:
    """Draw a machine at a glance: six small plots, the same for each machine."""
    draw = _Drawing(monitor, series, is_small=True)
    disks = parts_of(draw.lines, "disk")
    plots = [
        draw.plot("cpu", "Processors", "%", [("busy", draw.of("cpu", 0.01))], 100),
        draw.plot(
            "memory", "Memory", "%", [("used", draw.share("memory_used", "memory_total"))], 100
        ),
        draw.plot("load", "Load", "", [("load", draw.of("load1"))]),
        draw.plot(
            "space",
            "Disk space",
            "%",
            [(mount, draw.share(f"{key}used", f"{key}total")) for key, mount in disks],
            100,
        ),
        draw.plot(
            "io",
            "Disk traffic",
            "MB/s",
            [
                ("read", draw.total([f"{key}read" for key, _ in disks], _MB)),
                ("written", draw.total([f"{key}written" for key, _ in disks], _MB)),
            ],
        ),
        _network(draw),
    ]
    gpus = parts_of(draw.lines, "gpu")
    if gpus:
        shares = [(name, draw.of(f"{key}share", 0.01)) for key, name in gpus]
        plots.append(draw.plot("gpus", "Graphics processors", "%", shares, 100))
    return plots


def draw_large(monitor: Monitor, series: NodeSeries) -> list[Plot]:
    """Draw one machine in full, with the highest of each step beside its mean."""
    draw = _Drawing(monitor, series, is_small=False)

    def both(name: str, per: float) -> list[tuple[str, Points]]:
        return [("mean", draw.of(name, per)), ("highest", draw.of(name, per, peak=True))]

    plots = [
        draw.plot("cpu", "Processors", "%", both("cpu", 0.01), 100),
        draw.plot("load", "Load", "", both("load1", 1)),
        draw.plot(
            "memory",
            "Memory",
            "GB",
            [
                *both("memory_used", _GB),
                ("all there is", draw.of("memory_total", _GB)),
                ("swap", draw.of("swap_used", _GB)),
            ],
        ),
        _network(draw),
    ]
    for number, (key, mount) in enumerate(parts_of(draw.lines, "disk")):
        plots += _disk(draw, number, key, mount)
    for number, (key, name) in enumerate(parts_of(draw.lines, "gpu")):
        title = name.partition(" ")[2]
        used = [("used", draw.of(f"{key}used", _GB)), ("all", draw.of(f"{key}total", _GB))]
        plots += [
            draw.plot(f"gpu{number}", title, "%", both(f"{key}share", 0.01), 100),
            draw.plot(f"gpu{number}-memory", f"Memory of {title}", "GB", used),
        ]
    return plots


def _network(draw: _Drawing) -> Plot:
    lines = [("received", draw.of("rx", _MB)), ("sent", draw.of("tx", _MB))]
    return draw.plot("network", "Network", "MB/s", lines)


def _disk(draw: _Drawing, number: int, key: str, mount: str) -> list[Plot]:
    space = [("used", draw.of(f"{key}used", _GB)), ("all there is", draw.of(f"{key}total", _GB))]
    traffic = [("read", draw.of(f"{key}read", _MB)), ("written", draw.of(f"{key}written", _MB))]
    return [
        draw.plot(f"space{number}", f"Space on {mount}", "GB", space),
        draw.plot(f"io{number}", f"Traffic of {mount}", "MB/s", traffic),
    ]


# The present, in words ---------------------------------------------------------------------------

_NOW: Mapping[str, Callable[[NodeNow], str]] = {
    "cpu": lambda now: f"{now.cpu_share:.0%} of {now.cpu_count}",
    "load": lambda now: write_number(round(now.load, 2)),
    "memory": lambda now: (
        f"{write_size(now.memory_used_bytes)} of {write_size(now.memory_total_bytes)}"
    ),
    "space": lambda now: (
        ", ".join(f"{disk.mount}: {write_size(disk.free_bytes)}" for disk in now.disks) or "-"
    ),
    "network": lambda now: (
        f"{write_size(now.received_bytes_per_second)} in,"
        f" {write_size(now.sent_bytes_per_second)} out"
    ),
}


def texts_of(series: NodeSeries) -> dict[str, str]:
    """Tell the present of a machine, by what it is about."""
    now = series.now
    return {
        f"{series.node}/{name}": write(now) if now and now.is_fresh else "\N{EN DASH}"
        for name, write in _NOW.items()
    }
