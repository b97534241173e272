"""What the tasks that run take now, in memory: told by nodes with each heartbeat, and by the host.

Nothing is kept: a server that was started anew knows it again with the next heartbeats.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from millpond.machines.running import TaskNow, TaskOwner
from millpond.storage.database import Transaction

FRESH_SECONDS = 30.0
_KEY_MOST, _TASKS_MOST = 400, 10_000
_CORES_MOST, _BYTES_MOST = 1 << 16, 1 << 60

Whose = Callable[[Transaction, Sequence[str]], Mapping[str, TaskOwner]]
"""Tell by key whose tasks are; those of no run are left out."""


def nobodys(_: Transaction, __: Sequence[str]) -> Mapping[str, TaskOwner]:
    """Know of no task whose it is: where nothing runs pipelines."""
    return {}


class LiveTasks:
    """The newest figures of each machine's tasks. Safe to share between threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know of nothing yet; the clock is one that is never set, in seconds."""
        self._monotonic = monotonic
        self._nodes: dict[str, tuple[float, Mapping[str, TaskNow]]] = {}
        self._lock = threading.Lock()

    def hear(self, node: str, told: object) -> None:
        """Take what a machine tells of its tasks, in place of what it told before."""
        tasks = {each.key: each for each in read_tasks(node, told)}
        with self._lock:
            self._nodes[node] = (self._monotonic(), tasks)

    def forget(self, node: str) -> None:
        """Forget a machine that was removed."""
        with self._lock:
            self._nodes.pop(node, None)

    def on(self, node: str) -> Mapping[str, TaskNow]:
        """Give by key what the tasks on a machine take; of one that is silent, nothing."""
        oldest = self._monotonic() - FRESH_SECONDS
        with self._lock:
            at, tasks = self._nodes.get(node, (oldest, {}))
        return tasks if at > oldest else {}

    def of_run(self, run_id: str) -> Mapping[tuple[str, str], TaskNow]:
        """Give by node and key what the tasks of a run take."""
        with self._lock:
            names = list(self._nodes)
        begin = f"{run_id}/"
        return {
            (name, key): each
            for name in names
            for key, each in self.on(name).items()
            if key.startswith(begin)
        }


def read_tasks(node: str, told: object) -> list[TaskNow]:
    """Read a machine's word of its tasks; what cannot be is left out."""
    rows = told if isinstance(told, list) else []
    found = (_read_task(node, each) for each in rows[:_TASKS_MOST] if isinstance(each, dict))
    return [each for each in found if each is not None]


def _read_task(node: str, told: Mapping[str, Any]) -> TaskNow | None:
    key, memory = told.get("key"), _number(told, "memory_bytes", _BYTES_MOST)
    if not isinstance(key, str) or not 1 <= len(key) <= _KEY_MOST or memory is None:
        return None  # One that is being made ready is told by its key alone.
    return TaskNow(
        key=key,
        node=node,
        cpu_cores=_number(told, "cpu", _CORES_MOST),
        memory_bytes=int(memory),
        memory_limit_bytes=int(_number(told, "memory_limit_bytes", _BYTES_MOST) or 0),
        slots=_number(told, "slots", _CORES_MOST) or 0.0,
    )


def _number(told: Mapping[str, Any], name: str, most: float) -> float | None:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= most else None  # What is no number fails both.
