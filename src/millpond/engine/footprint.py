"""Measure from outside what running tasks take: by their control group, else by their processes.

A look costs three small files a task with a group. Where there is none, all processes of the
machine are read once for all tasks together.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.engine.cgroups import Group
from millpond.engine.values import Limits

_LEAST_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Held:
    """A running task, and where it can be measured.

    Attributes:
        limits: what it may take.
        group: its control group; None where there are none.
        pid: its first process, as this machine counts; 0 when that is not known.
    """

    limits: Limits
    group: Group | None
    pid: int


@dataclass(frozen=True)
class _Before:
    """What was seen of a task the last time.

    Attributes:
        at: by a clock that is never set.
        cpu_seconds: used until then.
        cores: that it had kept busy; None while that is not known.
    """

    at: float
    cpu_seconds: float
    cores: float | None


def number_of(pidfd: int) -> int:
    """Give the number of the process behind a pidfd; 0 when it has gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
            if line.startswith("Pid:"):
                return max(0, int(line.removeprefix("Pid:")))
    return 0


class TaskMeter:
    """Measures the tasks that run here; keeps the counters of the last time. For one thread."""

    def __init__(
        self,
        held: Callable[[], Mapping[str, Held]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        processes: Path = Path("/proc"),
    ) -> None:
        """Prepare; nothing is read.

        Args:
            held: gives by key the tasks that run.
            monotonic: a clock that is never set, in seconds.
            processes: where the system tells of its processes.
        """
        self._held, self._monotonic, self._processes = held, monotonic, processes
        self._before: dict[str, _Before] = {}

    def sample(self) -> list[dict[str, Any]]:
        """Give what each task takes now, as plain JSON; what cannot be read is left out.

        ``cpu`` is how many cores it has kept busy since the sample before; None in its first.
        Memory is without files' pages that the system would drop.
        """
        held, now = self._held(), self._monotonic()
        is_bare = any(each.group is None for each in held.values())
        table = _read_processes(self._processes) if is_bare else {}
        rows, seen = [], {}
        for key, each in held.items():
            used = each.group.usage() if each.group else _tree(table, each.pid)
            if used is None:
                continue
            cpu, memory = used
            seen[key] = now_seen = _follow(self._before.get(key), now, cpu)
            rows.append(
                {
                    "key": key,
                    "cpu": now_seen.cores,
                    "memory_bytes": memory,
                    "memory_limit_bytes": each.limits.memory_bytes,
                    "slots": each.limits.cpu_slots,
                }
            )
        self._before = seen
        return rows


def _follow(before: _Before | None, now: float, cpu: float) -> _Before:
    """Give what is known of a task; two looks right after each other tell nothing new."""
    if before is None or cpu < before.cpu_seconds:  # It was begun again in another sandbox.
        return _Before(now, cpu, None)
    if now - before.at < _LEAST_SECONDS:
        return before
    return _Before(now, cpu, round((cpu - before.cpu_seconds) / (now - before.at), 3))


@dataclass(frozen=True)
class _Process:
    parent: int
    cpu_seconds: float
    memory_bytes: int


def _read_processes(folder: Path) -> dict[int, _Process]:
    """Read every process that there is."""
    found = {}
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - names alone, and many of them.
            if name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    found[int(name)] = _read_process(f"{folder}/{name}/stat")
    return found


def _read_process(path: str) -> _Process:
    with open(path, "rb") as file:  # noqa: PTH123 - many, and quick.
        # A program's name may hold anything, also brackets: what counts follows the last one.
        words = file.read().rpartition(b")")[2].split()
    ended = sum(int(word) for word in words[11:15])  # Its own time, and that of ended children.
    return _Process(int(words[1]), ended / _TICKS, int(words[21]) * _PAGE)


def _tree(table: Mapping[int, _Process], pid: int) -> tuple[float, int] | None:
    """Add up a process and all that came from it; None when it is gone."""
    if pid not in table:
        return None
    children: dict[int, list[int]] = {}
    for number, each in table.items():
        children.setdefault(each.parent, []).append(number)
    family = [table[number] for number in _descend(children, pid)]
    return sum(each.cpu_seconds for each in family), sum(each.memory_bytes for each in family)


def _descend(children: Mapping[int, list[int]], pid: int) -> Iterator[int]:
    left = [pid]
    while left:
        number = left.pop()
        yield number
        left += children.get(number, ())
