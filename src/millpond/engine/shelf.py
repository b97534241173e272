"""Keep idle warm sandboxes at hand: by key, the least lately used go first, none grows old."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from millpond.engine.gpus import Gpu
from millpond.engine.values import TaskSpec
from millpond.engine.warm import WarmSandbox

Key = tuple[object, ...]


def sandbox_key(task: TaskSpec, gpus: tuple[Gpu, ...] = ()) -> Key:
    """Give all that two tasks must have in common to share a sandbox, one after the other.

    Args:
        task: a task.
        gpus: the graphics processors that it is given.
    """
    return (
        task.user_id,
        task.project_id,
        task.environment,
        task.code_digest,
        task.preload,
        task.grants,
        task.limits,
        tuple(sorted(task.secrets.items())),
        gpus,
    )


class Shelf:
    """Idle sandboxes. Safe to share between threads."""

    def __init__(
        self, *, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep at most ``most``, each for at most ``seconds``."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._idle: OrderedDict[int, tuple[Key, WarmSandbox]] = OrderedDict()
        self._holds: dict[int, Collection[Gpu]] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def take(self, key: Key) -> WarmSandbox | None:
        """Take the sandbox of this key that was used last."""
        with self._lock:
            for number in reversed(self._idle):
                if self._idle[number][0] == key:
                    return self._pop(number)
        return None

    def put(self, key: Key, sandbox: WarmSandbox, gpus: Collection[Gpu] = ()) -> None:
        """Put one back, with the processors that it can open; what has no room is stopped."""
        sandbox.idle_since = self._clock()
        with self._lock:
            self._number += 1
            self._idle[self._number] = (key, sandbox)
            self._holds[self._number] = gpus
            surplus = [] if not self._is_closed else list(self._idle)
            surplus = surplus or list(self._idle)[: max(0, len(self._idle) - self._most)]
            stopped = [self._pop(number) for number in surplus]
            self._set_timer()
        for each in stopped:
            each.stop()

    def drop_holding(self, gpus: Collection[Gpu]) -> None:
        """Stop what can open any of these processors: another task has them now."""
        with self._lock:
            holding = [n for n, held in self._holds.items() if any(each in gpus for each in held)]
            stopped = [self._pop(number) for number in holding]
        for each in stopped:
            each.stop()

    def drop_old(self) -> None:
        """Stop what has been idle for too long."""
        with self._lock:
            self._timer = None
            oldest = self._clock() - self._seconds
            old = [n for n, (_, each) in self._idle.items() if each.idle_since <= oldest]
            stopped = [self._pop(number) for number in old]
            self._set_timer()
        for each in stopped:
            each.stop()

    def __len__(self) -> int:
        return len(self._idle)

    def close(self) -> None:
        """Stop all, and from now on whatever is put back."""
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            stopped = [sandbox for _, sandbox in self._idle.values()]
            self._idle.clear()
            self._holds.clear()
        for each in stopped:
            each.stop()

    def _pop(self, number: int) -> WarmSandbox:
        del self._holds[number]
        return self._idle.pop(number)[1]

    def _set_timer(self) -> None:
        if self._timer is None and self._idle and not self._is_closed:
            first = next(iter(self._idle.values()))[1].idle_since
            wait = max(0.1, first + self._seconds - self._clock())
            self._timer = threading.Timer(wait, self.drop_old)
            self._timer.daemon = True
            self._timer.start()
