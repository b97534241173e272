"""Read how busy this machine is: load, memory, disks, network, graphics cards.

Everything is plain JSON: a node sends it with its heartbeat, the server samples itself the same
way. Rates are per second since the sample before; the first sample has none.
"""

import csv
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

TaskMeters = Callable[[], list[dict[str, Any]]]
"""Gives ``{key, cpu?, memory_bytes?, memory_limit_bytes?, slots?}`` of each task that is here."""

_GPU_SECONDS = 10.0
_GPU_QUERY = "index,name,utilization.gpu,memory.total,memory.used"
_SYSTEM_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


class Sampler:
    """Samples this machine; keeps the counters of the last time. For one thread."""

    def __init__(
        self,
        folders: Iterable[Path] = (),
        *,
        tasks: TaskMeters = list,
        groups: Path = _SYSTEM_GROUPS,
        own_group: Path = Path("/proc/self/cgroup"),
    ) -> None:
        """Watch the disks that hold these folders.

        Args:
            folders: whose disks are told; several on one disk are told once.
            tasks: tells of the tasks that run here.
            groups: where control groups are mounted.
            own_group: tells which of them is this process' own.
        """
        self._folders = tuple(folders)
        self._tasks = tasks
        self._limits = list(_find_limits(groups, own_group))
        self._counters: dict[str, tuple[float, tuple[int, ...]]] = {}
        self._gpus: list[dict[str, Any]] = []
        self._gpus_at: float | None = None
        self._nvidia = shutil.which("nvidia-smi")
        psutil.cpu_percent()  # The first answer is about nothing: from the second on it counts.

    def sample(self) -> dict[str, Any]:
        """Give one sample; never fails for a single meter that can't be read."""
        cores = psutil.cpu_count() or 1
        received, sent = self._rates("net", *_network())
        return {
            "at": datetime.now(UTC).isoformat(),
            "load1": os.getloadavg()[0],
            "cpu": min(1.0, psutil.cpu_percent() / 100),
            "cpu_count": cores,
            **self._memory(),
            "disks": self._disks(),
            "network": {"rx": received, "tx": sent},
            "gpus": self._read_gpus(),
            "tasks": self._tasks(),
        }

    def _memory(self) -> dict[str, int]:
        """Give the machine's memory, or that of the control group when it allows less."""
        machine = psutil.virtual_memory()
        total, used = machine.total, machine.total - machine.available
        for limit, usage, statistics in self._limits:
            with suppress(OSError, ValueError):
                text = limit.read_text().strip()
                allowed = _UNLIMITED if text == "max" else int(text)
                if allowed < total:
                    cached = _line_of(statistics, ("inactive_file", "total_inactive_file"))
                    total, used = allowed, max(0, int(usage.read_text()) - cached)
        swap = 0
        with suppress(OSError):  # Some containers hide it.
            swap = psutil.swap_memory().used
        return {"memory_total": total, "memory_used": used, "swap_used": swap}

    def _disks(self) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        busy: dict[str, Any] = {}
        with suppress(OSError, RuntimeError):
            busy = psutil.disk_io_counters(perdisk=True) or {}
        for folder in self._folders:
            with suppress(OSError):
                number = folder.stat().st_dev
                if number in found:
                    continue
                usage = shutil.disk_usage(folder)
                counted = busy.get(_device_name(number))
                counters = (counted.read_bytes, counted.write_bytes) if counted else (0, 0)
                read, written = self._rates(f"disk{number}", *counters)
                found[number] = {
                    "mount": str(_mount_of(folder)),
                    "total": usage.total,
                    "free": usage.free,
                    "read_bytes_per_second": read,
                    "write_bytes_per_second": written,
                }
        return list(found.values())

    def _rates(self, name: str, *values: int) -> tuple[float, ...]:
        """Give by how much counters have grown per second since the last time."""
        now = time.monotonic()
        before, old = self._counters.get(name, (now, values))
        self._counters[name] = (now, values)
        seconds = max(now - before, 1e-3)
        return tuple(max(0.0, (new - was) / seconds) for new, was in zip(values, old, strict=True))

    def _read_gpus(self) -> list[dict[str, Any]]:
        """Ask the driver's program at most every ten seconds: it is slow."""
        now = time.monotonic()
        if self._nvidia and (self._gpus_at is None or now - self._gpus_at >= _GPU_SECONDS):
            self._gpus, self._gpus_at = _ask_nvidia(self._nvidia), now
        return self._gpus


def _ask_nvidia(program: str) -> list[dict[str, Any]]:
    command = [program, f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return read_nvidia(done.stdout)


def read_nvidia(text: str) -> list[dict[str, Any]]:
    """Read what ``nvidia-smi`` prints; what it does not know comes as None."""
    return [
        {
            "index": int(row[0]),
            "name": row[1],
            "used": None if (share := _number(row[2])) is None else share / 100,
            "memory_total": None if (total := _number(row[3])) is None else int(total) << 20,
            "memory_used": None if (held := _number(row[4])) is None else int(held) << 20,
        }
        for row in csv.reader(text.splitlines(), skipinitialspace=True)
        if len(row) == _GPU_QUERY.count(",") + 1 and row[0].strip().isdigit()
    ]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _network() -> tuple[int, int]:
    """Count the bytes that came and went, without those that stayed on the machine."""
    counted = [
        each
        for name, each in psutil.net_io_counters(pernic=True, nowrap=True).items()
        if name != "lo"
    ]
    return sum(each.bytes_recv for each in counted), sum(each.bytes_sent for each in counted)


def _device_name(number: int) -> str:
    """Give the name of a disk's device; empty for a file system without one."""
    described = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent")
    with suppress(OSError):
        for line in described.read_text().splitlines():
            if line.startswith("DEVNAME="):
                return line.removeprefix("DEVNAME=")
    return ""


def _mount_of(folder: Path) -> Path:
    path = folder.resolve()
    while not path.is_mount():
        path = path.parent
    return path


def _find_limits(groups: Path, own_group: Path) -> Iterable[tuple[Path, Path, Path]]:
    """Give limit, usage and statistics of this process' control group and of those above it."""
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                root, limit, usage = groups, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                root, limit, usage = (
                    groups / "memory",
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                )
            else:
                continue
            inside = Path(path.lstrip("/"))
            for each in (inside, *inside.parents):
                folder = root / each
                if (folder / limit).is_file():
                    yield folder / limit, folder / usage, folder / "memory.stat"


def _line_of(statistics: Path, names: tuple[str, ...]) -> int:
    found = dict(line.split() for line in statistics.read_text().splitlines() if line.count(" "))
    return max((int(found[name]) for name in names if name in found), default=0)
