"""Read a run's log: the chunks of its tasks in the object store, in order, from a cursor on."""

import re
from dataclasses import dataclass

from millpond.engine.values import log_key
from millpond.ground.errors import Fault, InvalidError
from millpond.pipelines.runs import store
from millpond.pipelines.runs.staging import task_prefix
from millpond.pipelines.runs.values import LogPart, Try
from millpond.pipelines.values import RUN_ENDED, Run, Task
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore

_BYTES_MOST = 256 << 10
_TASKS_MOST = 100
_CURSOR = re.compile(r"([0-9]{1,9})\.(-?[0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,8})")


@dataclass(frozen=True)
class Cursor:
    """Where a reader is: before this chunk of this task."""

    place: int = 0
    partition: int = -2
    attempt: int = 0
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.place}.{self.partition}.{self.attempt}.{self.chunk}"

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Read back what ``str`` gave; nothing stands for the beginning.

        Raises:
            InvalidError: it is not a cursor of a log.
        """
        if not text or text == "0":
            return cls()
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise InvalidError(
                "This is no place in a log.",
                next_step="Send `next` of the answer before, or leave `after` out.",
                faults=[Fault("after", "is not a place that this log has given out")],
            )
        return cls(*map(int, found.groups()))


def list_logged(
    tx: Transaction, run: Run, cursor: Cursor, step: str | None, partition: int | None
) -> list[tuple[int, Task]]:
    """List the tasks whose logs come next, the cursor's own first."""
    after = (cursor.place, cursor.partition, cursor.attempt - 1)
    return store.list_tasks(
        tx, run.id, after=after, limit=_TASKS_MOST, step=step, partition=partition
    )


def read_log(
    objects: ObjectStore, run: Run, tasks: list[tuple[int, Task]], cursor: Cursor
) -> LogPart:
    """Give the next piece of a log.

    The tasks must have been listed before: what has ended by then has all its chunks there.
    """
    pieces: list[bytes] = []
    for place, task in tasks:
        here = (place, task.partition, task.attempt)
        is_same = here == (cursor.place, cursor.partition, cursor.attempt)
        cursor = Cursor(*here, cursor.chunk if is_same else 0)
        prefix = task_prefix(run.project_id, run.id, Try(task.step, task.partition, task.attempt))
        after = log_key(prefix, cursor.chunk - 1) if cursor.chunk else ""
        for found in objects.list(f"{prefix}.log/", after) if task.log_bytes else ():
            if sum(map(len, pieces)) >= _BYTES_MOST:
                return _part(pieces, cursor, is_complete=False)
            if cursor.chunk == 0:
                pieces.append(_heading(task))
            pieces.append(objects.get(found.key))
            cursor = Cursor(*here, int(found.key.rpartition("/")[2]) + 1)
        if task.state == "running":
            return _part(pieces, cursor, is_complete=False)
    is_all = len(tasks) < _TASKS_MOST
    if tasks and not is_all:
        cursor = Cursor(cursor.place, cursor.partition, cursor.attempt + 1)
    return _part(pieces, cursor, is_complete=is_all and run.state in RUN_ENDED)


def _heading(task: Task) -> bytes:
    partition = "splitting" if task.partition < 0 else f"partition {task.partition}"
    again = f", try {task.attempt}" if task.attempt > 1 else ""
    return f"== {task.step}, {partition}{again} ==\n".encode()


def _part(pieces: list[bytes], cursor: Cursor, *, is_complete: bool) -> LogPart:
    text = b"".join(pieces).decode("utf-8", "replace")
    return LogPart(text, str(cursor), is_complete)
