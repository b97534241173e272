"""The port to compute: an engine runs tasks on nodes, a transfer moves their bytes.

Promises of every engine, held by ``tests/contracts/test_engine.py``:

- ``submit`` returns at once. ``on_done`` is called exactly once per submitted task, from a thread
  of the engine, after its slots are free again; ``on_progress`` never after it.
- A task is ``done`` only after its outputs were checked and published under its prefix. Outputs
  of any other outcome are not published; its log always is.
- A cancelled or timed-out task leaves no process behind, two seconds later at most.
- Tasks share a warm sandbox only when user, project, environment, code, preload, grants,
  secrets and limits are the same. A task never sees files of another one.
- Execution is at least once: a node may be lost after the work and before the word. Outputs go
  to the attempt's own prefix, so that a second try never meets the first one's.

- An engine that ``outlives`` this process leaves its tasks running when it is left, and the next
  process takes them over by ``reattach``; of another one all tasks end with the process.
- A node that is lost ends each task on it once, as ``lost``; a late word of it is dropped.

An engine either places tasks itself (``places_itself``: Slurm, Kubernetes) or is told the node.
The local engine and Dask are told: the dispatcher keeps the books of free slots.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from millpond.engine.values import NodeInfo, StoredOutput, TaskProgress, TaskReport, TaskSpec

OnProgress = Callable[[TaskProgress], None]
OnDone = Callable[[TaskReport], None]


class Engine(Protocol):
    """Runs tasks. Safe to call from many threads."""

    places_itself: bool
    outlives: bool

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call this from a thread of the engine when nodes have come or gone."""
        ...

    def submit(
        self,
        task: TaskSpec,
        *,
        on_progress: OnProgress,
        on_done: OnDone,
        node: str = "",
        waits: bool = False,
    ) -> None:
        """Start a task; its slots must be free on that node (any node when none is named).

        With ``waits`` they need not be: on a node that ``takes_ahead`` it is made ready, and
        starts when they are. It counts as there from now on; its memory must be free.

        Raises:
            BusyError: the slots are not free, or the node drains or is gone.
            ConflictError: a task of that key is running.
        """
        ...

    def cancel(self, key: str) -> None:
        """Stop a task with its whole tree of processes; unknown keys are passed over."""
        ...

    def nodes(self) -> list[NodeInfo]:
        """Tell what machines there are and what is free on each."""
        ...

    def reattach(
        self,
        keys: Iterable[str],
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> set[str]:
        """Send the news of these tasks to these from now on; tell which of them still run.

        Those that have ended and that nobody was told of count among them: their reports come. May
        take some seconds in a process that has just begun.
        """
        ...

    def drain(self, node: str) -> None:
        """Let a node end what it has and take no more."""
        ...

    def leave(self) -> None:
        """End this process' part in it; ``on_done`` of tasks that go on is not called any more."""
        ...

    def close(self) -> None:
        """Stop every task, as cancelled, and leave no process, control group or folder."""
        ...


class Transfer(Protocol):
    """Moves bytes between a node's disk and where they are kept. Safe to call from many threads."""

    def fetch(self, url: str, target: bytes, size: int) -> None:
        """Bring the bytes of a URL to a new file, readable by the sandbox, never writable.

        Raises:
            NotFoundError: nothing lies there, or not that many bytes.
        """
        ...

    def publish(self, prefix: str, path: str, fd: int, size: int) -> StoredOutput:
        """Keep ``size`` bytes of an open file as an output; never overwrites.

        Raises:
            ConflictError: that attempt has published this path before.
        """
        ...

    def publish_small(self, prefix: str, files: Sequence[tuple[str, bytes]]) -> list[StoredOutput]:
        """Keep small outputs, each with its path; in the same order, and as ``publish``.

        Raises:
            ConflictError: that attempt has published one of these paths before.
        """
        ...

    def append_log(self, prefix: str, sequence: int, data: bytes) -> None:
        """Keep one chunk of a task's log; chunks of a task come in order, from 0."""
        ...
