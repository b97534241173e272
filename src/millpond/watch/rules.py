"""Decide, without reading or writing anything: which meters are believed, and how they fold."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millpond.ground.errors import Fault, InvalidError
from millpond.watch.values import LEVELS, RANGES, DiskNow, Flat, GpuNow, Level, NodeNow, Range

FRESH = timedelta(seconds=30)
"""What is older than this is not the present."""

_BYTES_MOST = float(1 << 60)
_RATE_MOST = 1e13
_PARTS_MOST, _NAME_MOST = 16, 120
_DIGITS = 6
_STEPS = (5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200)
_EMPTY: tuple[float, float] = (math.nan, math.nan)

Figures = Mapping[str, float | Sequence[float]]
"""As kept: by meter a number, or its mean and its peak."""


# What is told ------------------------------------------------------------------------------------


class _Reader:
    """Reads numbers out of a node's word, and collects what is wrong with it."""

    def __init__(self) -> None:
        self.flat: dict[str, float] = {}
        self.faults: list[Fault] = []

    def take(
        self, told: Mapping[str, Any], name: str, most: float, *, at: str = "", to: str = ""
    ) -> float:
        """Take a number from 0 to ``most``; None and what is missing are left out."""
        value, field = told.get(name), f"{at}{name}"
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.faults.append(Fault(field, "must be a number"))
            return 0.0
        if not 0 <= value <= most:  # What is no number at all fails here too.
            self.faults.append(Fault(field, f"is {value!r:.40}; 0 to {most:g} is possible"))
            return 0.0
        self.flat[to or name] = float(value)
        return float(value)

    def part(self, told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """Take an object."""
        value = told.get(name, {})
        if isinstance(value, dict):
            return value
        self.faults.append(Fault(name, "must be an object"))
        return {}

    def parts(self, told: Mapping[str, Any], name: str, title: str) -> list[Mapping[str, Any]]:
        """Take a list of objects, each of which has a title of its own."""
        value = told.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.faults.append(Fault(name, "must be a list of objects"))
            return []
        if len(value) > _PARTS_MOST:
            self.faults.append(Fault(name, f"has {len(value)} entries; {_PARTS_MOST} at most"))
            return []
        for place, each in enumerate(value):
            text = each.get(title)
            if not isinstance(text, str) or not 1 <= len(text) <= _NAME_MOST:
                self.faults.append(Fault(f"{name}.{place}.{title}", f"1 to {_NAME_MOST} letters"))
            elif not text.isprintable():
                self.faults.append(Fault(f"{name}.{place}.{title}", "holds control characters"))
        return value

    def not_above(self, part: float, whole: float, field: str) -> None:
        """Refuse a part that is larger than its whole, where that is known."""
        if part > whole > 0:
            self.faults.append(Fault(field, f"is {part:g}, more than the {whole:g} there are"))


def read_sample(told: Mapping[str, Any]) -> dict[str, float]:
    """Check what a node says of itself, and give it flat; what we do not know is left out.

    Raises:
        InvalidError: it cannot be; lists every fault.
    """
    reader = _Reader()
    reader.take(told, "cpu", 1)
    reader.take(told, "cpu_count", 1 << 16)
    reader.take(told, "load1", 1e6)
    total = reader.take(told, "memory_total", _BYTES_MOST)
    reader.not_above(reader.take(told, "memory_used", _BYTES_MOST), total, "memory_used")
    reader.take(told, "swap_used", _BYTES_MOST)
    network = reader.part(told, "network")
    for name in ("rx", "tx"):
        reader.take(network, name, _RATE_MOST, at="network.")
    for place, disk in enumerate(reader.parts(told, "disks", "mount")):
        _read_disk(reader, disk, f"disks.{place}.")
    for place, gpu in enumerate(reader.parts(told, "gpus", "name")):
        _read_gpu(reader, gpu, place)
    if reader.faults:
        said = "; ".join(f"{fault.field} {fault.message}" for fault in reader.faults[:5])
        raise InvalidError(
            f"The meters cannot be right: {said}.",
            next_step="Bring the node to the server's version, and look at its log.",
            faults=reader.faults,
        )
    return {name: shorten(value) for name, value in reader.flat.items()}


def _read_disk(reader: _Reader, disk: Mapping[str, Any], at: str) -> None:
    key = f"disk:{disk.get('mount')}:"
    total = reader.take(disk, "total", _BYTES_MOST, at=at, to=f"{key}total")
    free = reader.take(disk, "free", _BYTES_MOST, at=at, to=f"{key}free")
    reader.not_above(free, total, f"{at}free")
    # Of what is used, the highest is the worst, as with all other meters.
    reader.flat.pop(f"{key}free", None)
    reader.flat[f"{key}used"] = max(0.0, total - free)
    reader.take(disk, "read_bytes_per_second", _RATE_MOST, at=at, to=f"{key}read")
    reader.take(disk, "write_bytes_per_second", _RATE_MOST, at=at, to=f"{key}written")


def _read_gpu(reader: _Reader, gpu: Mapping[str, Any], place: int) -> None:
    key, at = f"gpu:{place} {gpu.get('name')}:", f"gpus.{place}."
    reader.take(gpu, "used", 1, at=at, to=f"{key}share")
    total = reader.take(gpu, "memory_total", _BYTES_MOST, at=at, to=f"{key}total")
    used = reader.take(gpu, "memory_used", _BYTES_MOST, at=at, to=f"{key}used")
    reader.not_above(used, total, f"{at}memory_used")


def shorten(value: float) -> float:
    """Keep six digits, which is enough for meters and small to store."""
    kept = float(f"{value:.{_DIGITS}g}")
    return int(kept) if kept.is_integer() else kept


def write_figures(figures: Figures) -> str:
    """Write figures as they are kept."""
    return json.dumps(figures, separators=(",", ":"), ensure_ascii=False)


def now_of(node: str, at: datetime, flat: Flat, now: datetime, fault: str = "") -> NodeNow:
    """Tell of a node as its newest sample does."""

    def whole(name: str) -> int:
        return int(flat.get(name, 0))

    return NodeNow(
        node=node,
        at=at,
        is_fresh=now - at <= FRESH,
        cpu_share=flat.get("cpu", 0.0),
        cpu_count=whole("cpu_count"),
        load=flat.get("load1", 0.0),
        memory_total_bytes=whole("memory_total"),
        memory_used_bytes=whole("memory_used"),
        swap_used_bytes=whole("swap_used"),
        received_bytes_per_second=flat.get("rx", 0.0),
        sent_bytes_per_second=flat.get("tx", 0.0),
        disks=[
            DiskNow(
                mount,
                whole(f"{key}total"),
                whole(f"{key}total") - whole(f"{key}used"),
                flat.get(f"{key}read"),
                flat.get(f"{key}written"),
            )
            for key, mount in parts_of(flat, "disk")
        ],
        gpus=[
            GpuNow(
                name.partition(" ")[2],
                flat.get(f"{key}share"),
                whole(f"{key}total"),
                whole(f"{key}used"),
            )
            for key, name in parts_of(flat, "gpu")
        ],
        fault=fault,
    )


def parts_of(names: Iterable[str], kind: str) -> list[tuple[str, str]]:
    """Give the beginning of the meters' names, and the title, of each disk or GPU."""
    found = {
        name.rpartition(":")[0] + ":": name[len(kind) + 1 : name.rindex(":")]
        for name in names
        if name.startswith(f"{kind}:")
    }
    return list(found.items())


# Folding -----------------------------------------------------------------------------------------


def mean_and_peak(value: float | Sequence[float]) -> tuple[float, float]:
    """Give both of what is kept of a meter."""
    if isinstance(value, (int, float)):
        return float(value), float(value)
    mean, peak = value
    return float(mean), float(peak)


def fold(rows: Iterable[tuple[float, Figures]]) -> dict[str, float | list[float]]:
    """Fold rows, each with its weight, into one: of each meter the mean and the peak."""
    sums: dict[str, tuple[float, float, float]] = {}
    for weight, figures in rows:
        for name, value in figures.items():
            mean, peak = mean_and_peak(value)
            total, weights, highest = sums.get(name, (0.0, 0.0, peak))
            sums[name] = (total + weight * mean, weights + weight, max(highest, peak))
    folded: dict[str, float | list[float]] = {}
    for name, (total, weights, highest) in sums.items():
        mean, peak = shorten(total / weights), shorten(highest)
        folded[name] = mean if mean == peak else [mean, peak]
    return folded


def coarser_of(level: Level) -> Level | None:
    """Give the next coarser level."""
    place = LEVELS.index(level)
    return LEVELS[place + 1] if place + 1 < len(LEVELS) else None


def begin_of(second: float, seconds: int) -> int:
    """Give the second at which the step begins that this second lies in."""
    return math.floor(second / seconds) * seconds


# Showing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """The steps of time of a plot.

    Attributes:
        first: second of 1970 at which the first step begins.
        step: its seconds.
        steps: how many.
        levels: those to read, from the coarsest that is fine enough; each gives what the one
            before does not have yet.
    """

    first: int
    step: int
    steps: int
    levels: Sequence[Level]

    def place_of(self, second: float) -> int | None:
        """Give which step a second lies in."""
        place = (begin_of(second, self.step) - self.first) // self.step
        return place if 0 <= place < self.steps else None


def plan_grid(wanted: Range, now: float, most: int) -> Grid:
    """Cut a time that ends now into at most so many steps, or a few more where none is longer."""
    seconds = RANGES[wanted].total_seconds()
    step = next((each for each in _STEPS if each * most >= seconds), _STEPS[-1])
    steps = math.ceil(seconds / step)
    first = begin_of(now, step) - (steps - 1) * step
    fits = [level for level in LEVELS if level.seconds <= step] or [LEVELS[0]]
    kept = [level for level in fits if level.kept >= RANGES[wanted]]
    coarsest = kept[-1] if kept else LEVELS[-1]
    levels = [level for level in reversed(LEVELS) if level.seconds <= coarsest.seconds]
    return Grid(first, step, steps, levels)
