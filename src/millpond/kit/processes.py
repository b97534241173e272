"""This process and those below it, seen from the first of a sandbox."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Optional

_SIGKILL = 9


class Passing:
    """Pass over faults, as ``contextlib.suppress`` does; that module is not small."""

    def __init__(self, *kinds: "type[BaseException]") -> None:
        """Pass over these kinds."""
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        fault: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


def set_process(option: int, value: int) -> None:
    """Call ``prctl`` for this process.

    Raises:
        OSError: the kernel refuses.
    """
    if call("prctl", (option, value, 0, 0, 0)) != 0:
        raise OSError(f"prctl {option} was refused")


def call(name: str, arguments: "tuple[Optional[int], ...]") -> int:
    """Call a function of the C library with whole numbers."""
    import _ctypes  # What ``ctypes`` is made of, at a quarter of its price.

    place = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    return int(_ctypes.call_function(place, arguments))


def kill_others() -> bool:
    """Kill and reap everything else of ours; True if anything was alive.

    One task at a time makes this right. As pid 1 that is the whole namespace; without a
    namespace it is our descendants, who come back to us as their parents die.
    """
    found = _reap(os.WNOHANG)
    alive = found
    while alive:
        signal_others()
        alive = _reap(0)
    return found


def _reap(flags: int) -> bool:
    """Reap what has ended, or with no flags one that ends; True while any is left."""
    while True:
        try:
            pid = os.waitpid(-1, flags)[0]
        except ChildProcessError:
            return False
        if pid == 0 or not flags:
            return True


def signal_others() -> None:
    """Kill everything else of ours, without waiting for it."""
    if os.getpid() == 1:
        with Passing(ProcessLookupError):
            os.kill(-1, _SIGKILL)
        return
    for pid in _descendants():
        with Passing(ProcessLookupError, PermissionError):
            os.kill(pid, _SIGKILL)


def _descendants() -> "list[int]":
    children: "dict[int, list[int]]" = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, waiting = [], [os.getpid()]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def threads_of_user() -> int:
    """Count the threads of our uid on this machine."""
    count = 0
    for name in os.listdir("/proc"):
        with Passing(OSError):
            if name.isdigit() and os.stat("/proc/" + name).st_uid == os.getuid():
                with open(f"/proc/{name}/stat", "rb") as file:
                    count += int(file.read().rpartition(b")")[2].split()[17])
    return count
