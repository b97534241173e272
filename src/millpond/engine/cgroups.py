"""Control groups, version 1 or 2: hold a sandbox to its limits, and read its true bill."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from millpond.engine.values import Limits

_PERIOD = 100_000
_QUOTA_LEAST = 2_000
_REMOVE_TRIES = 500
_ONE = ("memory", "pids", "cpu", "cpuacct")
_TWO = ("memory", "pids", "cpu")
_LEAF = "server"
_DELEGATED = ("user.delegate", "trusted.delegate")  # Systemd marks so what is the service's own.
OVERHEAD_PROCESSES = 2  # Bubblewrap's own and the runner count in the group too.


@dataclass(frozen=True)
class Bill:
    """What a group has used, since it was made.

    Attributes:
        cpu_seconds: user and system time.
        memory_peak_bytes: highest memory since the peak was last reset.
        memory_kills: processes that the kernel ended for want of memory.
    """

    cpu_seconds: float
    memory_peak_bytes: int
    memory_kills: int


class Groups:
    """A place of the file system where groups can be made, of one version."""

    def __init__(self, version: int, base: Path) -> None:
        """Use groups of a version (1 or 2) below ``base``; ``find_groups`` chooses both."""
        self.version = version
        self.base = base

    def make(self, name: str, limits: Limits) -> "Group":
        """Make a group that holds its members to the limits."""
        quota = max(_QUOTA_LEAST, int(limits.cpu_slots * _PERIOD))
        memory, pids = str(limits.memory_bytes), str(limits.processes + OVERHEAD_PROCESSES)
        if self.version == 1:
            group = Group(1, tuple(self.base / each / name for each in _ONE))
            for folder in group.folders:
                folder.mkdir(exist_ok=True)
            memory_at, pids_at, cpu_at, _ = group.folders
            (memory_at / "memory.limit_in_bytes").write_text(memory)
            with suppress(OSError):  # There only where swap is counted.
                (memory_at / "memory.memsw.limit_in_bytes").write_text(memory)
            (pids_at / "pids.max").write_text(pids)
            (cpu_at / "cpu.cfs_quota_us").write_text(str(quota))
            return group
        group = Group(2, (self.base / name,))
        folder = group.folders[0]
        folder.mkdir(exist_ok=True)
        (folder / "memory.max").write_text(memory)
        with suppress(OSError):  # There only where swap is counted.
            (folder / "memory.swap.max").write_text("0")
        (folder / "pids.max").write_text(pids)
        (folder / "cpu.max").write_text(f"{quota} {_PERIOD}")
        return group

    def sweep(self, prefix: str) -> int:
        """Remove groups whose names begin so, with what lives in them; give how many."""
        bases = [self.base / each for each in _ONE] if self.version == 1 else [self.base]
        names = {entry.name for base in bases for entry in base.glob(f"{prefix}*")}
        for name in names:
            group = Group(self.version, tuple(base / name for base in bases))
            group.kill()
            group.remove()
        return len(names)


class Group:
    """One control group; in version 1 that is one folder per controller."""

    def __init__(self, version: int, folders: tuple[Path, ...]) -> None:
        """Wrap folders that exist."""
        self.folders = folders
        self._version = version
        self._join = [str(folder / "cgroup.procs") for folder in folders]
        cpu, memory = str(folders[-1]), str(folders[0])  # Texts: paths are slow to join.
        self._peak = f"{memory}/memory.{'max_usage_in_bytes' if version == 1 else 'peak'}"
        self._used = f"{cpu}/{'cpuacct.usage' if version == 1 else 'cpu.stat'}"
        self._kills = f"{memory}/memory.{'oom_control' if version == 1 else 'events'}"
        self._now = f"{memory}/memory.{'usage_in_bytes' if version == 1 else 'current'}"
        self._shares = f"{memory}/memory.stat"
        self._dropped = "total_inactive_file" if version == 1 else "inactive_file"

    @property
    def join_files(self) -> list[str]:
        """Files that a process writes "0" into to become a member."""
        return self._join

    def read(self) -> Bill:
        """Read the bill."""
        cpu = self._cpu_seconds(_text(self._used))
        return Bill(cpu, int(_text(self._peak) or 0), _number(_text(self._kills), "oom_kill"))

    def usage(self) -> tuple[float, int] | None:
        """Read CPU seconds so far and the memory of now; None when the group is gone.

        Pages of files that the system would drop for others are not counted.
        """
        used, memory = _text(self._used), _text(self._now)
        if not (used and memory):
            return None
        dropped = _number(_text(self._shares), self._dropped)
        return self._cpu_seconds(used), max(0, int(memory) - dropped)

    def _cpu_seconds(self, used: str) -> float:
        return int(used or 0) / 1e9 if self._version == 1 else _number(used, "usage_usec") / 1e6

    def reset_peak(self) -> None:
        """Begin a new peak; version 2 can since kernel 6.12, before that the peak stays."""
        with suppress(OSError):
            _write(self._peak, b"0")

    def kill(self) -> None:
        """End every member."""
        for path in self._join:
            for pid in _text(path).split():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        """Remove the group; its last process may need a moment to go."""
        left = list(self.folders)
        for _ in range(_REMOVE_TRIES):
            for folder in list(left):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    left.remove(folder)
                except OSError:
                    continue
                else:
                    left.remove(folder)
            if not left:
                return True
            time.sleep(0.002)
        return False


def find_groups(root: Path = Path("/sys/fs/cgroup"), own: str = "") -> tuple[Groups | None, str]:
    """Find where groups can be made; else None and the reason with how to mend it.

    Args:
        root: where the groups are mounted.
        own: text of /proc/self/cgroup; read when empty.
    """
    if all((root / each / "cgroup.procs").exists() for each in _ONE):
        groups = Groups(1, root)
    elif (root / "cgroup.controllers").exists():
        groups = Groups(2, _base(root, own or Path("/proc/self/cgroup").read_text()))
    else:
        return None, "this system has no control groups for memory, processes and CPU time"
    reason = _try_out(groups)
    return (None, reason) if reason else (groups, "")


def _base(root: Path, own: str) -> Path:
    """Choose where groups of version 2 go: below our own when a service manager has given us it.

    All else belongs to that manager, which ends what is below our own together with us, and
    counts it as ours. Root may write everywhere all the same, as in a container.
    """
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
    ours = root / path.strip("/").removesuffix(f"/{_LEAF}")
    is_ours = any(_attribute(ours, name) == b"1" for name in _DELEGATED)
    return root if not is_ours and os.access(root, os.W_OK) else ours


def _attribute(folder: Path, name: str) -> bytes:
    try:
        return os.getxattr(folder, name)
    except OSError:
        return b""


def _try_out(groups: Groups) -> str:
    name = f"millpond-probe-{os.getpid()}"
    try:
        if groups.version == 2:  # noqa: PLR2004 - the version.
            _delegate(groups.base)
        group = groups.make(name, Limits())
        group.remove()
    except OSError as fault:
        groups.sweep(name)
        return (
            f"control groups can't be written ({fault.strerror}: {fault.filename}), so that limits"
            " hold per process, not per task; run Millpond as a system service with Delegate=yes"
        )
    return ""


def _delegate(base: Path) -> None:
    """Hand memory, pids and cpu down; a group of our own must first be empty of processes."""
    control = base / "cgroup.subtree_control"
    wanted = [each for each in _TWO if each not in control.read_text().split()]
    if not wanted:
        return
    text = " ".join(f"+{each}" for each in wanted)
    try:
        control.write_text(text)
    except OSError:
        leaf = base / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (base / "cgroup.procs").read_text().split():
            (leaf / "cgroup.procs").write_text(pid)
        control.write_text(text)


def _text(path: str) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(handle, 1 << 16).decode()
    except OSError:
        return ""
    finally:
        os.close(handle)


def _write(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def _number(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
