"""Keep idle warm sandboxes at hand: by key, the least lately used go first, none grows old."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from millpond.engine.values import TaskSpec
from millpond.engine.warm import WarmSandbox

Key = tuple[object, ...]


def sandbox_key(task: TaskSpec) -> Key:
    """Give all that two tasks must have in common to share a sandbox, one after the other."""
    return (
        task.user_id,
        task.project_id,
        task.environment,
        task.code_digest,
        task.preload,
        task.grants,
        task.limits,
        tuple(sorted(task.secrets.items())),
    )


class Shelf:
    """Idle sandboxes. Safe to share between threads."""

    def __init__(
        self, *, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep at most ``most``, each for at most ``seconds``."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._idle: OrderedDict[int, tuple[Key, WarmSandbox]] = OrderedDict()
        self._lock = threading.Lock()
        self._number = 0
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def take(self, key: Key) -> WarmSandbox | None:
        """Take the sandbox of this key that was used last."""
        with self._lock:
            for number in reversed(self._idle):
                if self._idle[number][0] == key:
                    return self._idle.pop(number)[1]
        return None

    def put(self, key: Key, sandbox: WarmSandbox) -> None:
        """Put one back; what there is no room for is stopped."""
        sandbox.idle_since = self._clock()
        with self._lock:
            self._number += 1
            self._idle[self._number] = (key, sandbox)
            surplus = [] if not self._is_closed else list(self._idle)
            surplus = surplus or list(self._idle)[: max(0, len(self._idle) - self._most)]
            stopped = [self._idle.pop(number)[1] for number in surplus]
            self._set_timer()
        for each in stopped:
            each.stop()

    def drop_old(self) -> None:
        """Stop what has been idle for too long."""
        with self._lock:
            self._timer = None
            oldest = self._clock() - self._seconds
            old = [n for n, (_, each) in self._idle.items() if each.idle_since <= oldest]
            stopped = [self._idle.pop(number)[1] for number in old]
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
        for each in stopped:
            each.stop()

    def _set_timer(self) -> None:
        if self._timer is None and self._idle and not self._is_closed:
            first = next(iter(self._idle.values()))[1].idle_since
            wait = max(0.1, first + self._seconds - self._clock())
            self._timer = threading.Timer(wait, self.drop_old)
            self._timer.daemon = True
            self._timer.start()
