"""Decide, without reading or writing anything, whether a node is held back, and say why."""

from collections.abc import Mapping
from typing import Any

from millpond.ground.room_settings import ClusterSettings
from millpond.machines.running import Pause
from millpond.machines.values import DiskUse, Meters

_HOLD = 0.8
"""A guard lets go only when the figure is so much better than where it took hold."""


def read_meters(sample: Mapping[str, Any]) -> Meters | None:
    """Read the figures that guards need of a sample; None where there is none.

    What is missing or no number counts as nothing to complain of.
    """
    if not sample:
        return None
    disks = sample.get("disks")
    found = [
        DiskUse(str(each.get("mount", ""))[:200], int(total), int(_number(each, "free")))
        for each in (disks if isinstance(disks, list) else [])
        if isinstance(each, Mapping) and (total := _number(each, "total")) > 0
    ]
    return Meters(
        load=_number(sample, "load1"),
        cores=max(1.0, _number(sample, "cpu_count")),
        cpu=min(1.0, _number(sample, "cpu")),
        memory_total_bytes=int(_number(sample, "memory_total")),
        memory_used_bytes=int(_number(sample, "memory_used")),
        disks=tuple(found[:20]),
    )


def guard_reasons(
    meters: Meters, limits: ClusterSettings, *, is_paused: bool = False
) -> list[Pause]:
    """Say why a node shall get no new tasks now, each reason with its figures.

    Args:
        meters: its newest figures.
        limits: the thresholds.
        is_paused: whether it was held back before: then it must be clearly better to be let go, so
            that it does not flap about a threshold.
    """
    ease, above, below = 1.0, "is above", "is below"
    if is_paused:
        ease, above, below = _HOLD, "is not yet below", "is not yet above"
    reasons = []
    load_most = limits.load_most * ease
    if meters.load_per_core > load_most:
        text = f"load {meters.load_per_core:.1f} per core {above} {load_most:.1f}"
        reasons.append(Pause("load", text))
    memory_least = min(limits.free_memory_least / ease, 0.95)
    if meters.memory_total_bytes:
        free = max(0.0, 1 - meters.memory_used_bytes / meters.memory_total_bytes)
        if free < memory_least:
            text = f"free memory, {_percent(free)}, {below} {_percent(memory_least)}"
            reasons.append(Pause("memory", text))
    disk_least = min(limits.free_disk_least / ease, 0.95)
    for disk in meters.disks:
        free = disk.free_bytes / disk.total_bytes
        if free < disk_least:
            share = f"{_percent(free)}, {below} {_percent(disk_least)}"
            reasons.append(Pause("disk", f"free space of the disk at {disk.mount}, {share}"))
    return reasons


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 <= value < float("inf") else 0.0  # NaN fails both.


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
