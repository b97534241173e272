"""Read what a run's running tasks write, side by side: as ``tail -f`` does of several files.

A run's log is its tasks' logs one after the other, so that what the second task writes comes only
when the first has ended. Who follows a run wants to see both.
"""

import re
from dataclasses import dataclass

from millpond.ground.errors import Fault, InvalidError
from millpond.pipelines.runs import store
from millpond.pipelines.runs.logs.reading import (
    TASKS_MOST,
    Begun,
    Scope,
    heading,
    name_task,
    read_backward,
    read_forward,
)
from millpond.pipelines.runs.logs.values import LogPart, LogPlace
from millpond.pipelines.values import RUN_ENDED, Run
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore

PLACE_LENGTH_MOST = 4000
_BESIDE_MOST = 32
_BYTES_MOST = 256 << 10
_NAMED = 3
_PLACES = re.compile(r"((?:[0-9.]+,)*[0-9.]*);([0-9]{1,9});([0-9]{1,9})")


@dataclass(frozen=True)
class Places:
    """Where a reader is.

    Attributes:
        open: a place in the log of each task that may write more.
        seen: number of the last task that was seen.
        last: number of the task whose words came last.
    """

    open: tuple[LogPlace, ...] = ()
    seen: int = 0
    last: int = 0

    def __str__(self) -> str:
        return f"{','.join(map(str, self.open))};{self.seen};{self.last}"

    @classmethod
    def read(cls, text: str) -> "Places":
        """Read back what ``str`` gave.

        Raises:
            InvalidError: it is no such text.
        """
        found = _PLACES.fullmatch(text)
        places = found[1].split(",") if found and found[1] else []
        if found is None or len(places) > TASKS_MOST + _BESIDE_MOST:
            raise InvalidError(
                "These are no places in a log.",
                next_step="Send `next` of the answer before, or leave `after` out.",
                faults=[Fault("after", "is not what a log that is followed has given out")],
            )
        return cls(tuple(map(LogPlace.read, places)), int(found[2]), int(found[3]))


def list_beside(tx: Transaction, run: Run, places: Places | None, scope: Scope) -> Begun:
    """List the tasks to read: those that may write more and new ones, or the newest at first."""
    step, partition = scope.step, scope.partition
    if places is None:
        newest = store.list_begun(
            tx, run.id, step=step, partition=partition, limit=TASKS_MOST, newest_first=True
        )
        return newest[::-1]
    found: list[Begun] = [
        store.list_begun(
            tx,
            run.id,
            step=step,
            partition=partition,
            first=place.number,
            last=place.number,
            limit=1,
        )
        for place in places.open
    ]
    new = store.list_begun(
        tx, run.id, step=step, partition=partition, first=places.seen + 1, limit=TASKS_MOST
    )
    return [task for tasks in (*found, new) for task in tasks]


def read_beside(
    objects: ObjectStore, run: Run, tasks: Begun, places: Places | None, lines: int
) -> LogPart:
    """Give what was written since; without places the last lines of what runs now.

    The tasks must have been listed before: what has ended by then has all its chunks there.
    """
    if places is None:
        return _begin(objects, run, tasks, lines)
    written = _Written(places.last)
    known = {place.number: place for place in places.open}
    still, seen = list[LogPlace](), places.seen
    for number, task in tasks:
        here = known.get(number, LogPlace(number))
        if written.size >= _BYTES_MOST:
            if number in known:
                still.append(here)
            continue
        part = read_forward(objects, run, [(number, task)], here, lines)
        head = "" if here.is_start_of_task else heading(task).decode()
        written.add(number, head, part.text)
        seen = max(seen, number)
        # An ended task is done with when nothing more of it comes.
        if task.state == "running" or part.text:
            still.append(LogPlace.read(part.next))
    is_all = len(tasks) - len(known) < TASKS_MOST and written.size < _BYTES_MOST
    is_complete = is_all and not still and run.state in RUN_ENDED
    following = Places(tuple(still), seen, written.last)
    return LogPart(written.text, str(following), is_complete, None, _name(tasks))


def _begin(objects: ObjectStore, run: Run, tasks: Begun, lines: int) -> LogPart:
    running = [one for one in tasks if one[1].state == "running"][-_BESIDE_MOST:]
    seen = tasks[-1][0] if tasks else 0
    written, still = _Written(0), list[LogPlace]()
    for number, task in running:
        part = read_backward(objects, run, [(number, task)], None, lines // len(running) or 1)
        head = heading(task).decode()
        written.add(number, "" if part.text.startswith(head) else head, part.text)
        still.append(LogPlace.read(part.next))
    if not running:
        part = read_backward(objects, run, tasks[::-1], None, lines)
        written.add(seen, "", part.text)
    is_complete = not running and run.state in RUN_ENDED
    following = Places(tuple(still), seen, written.last)
    return LogPart(written.text, str(following), is_complete, None, _name(running))


class _Written:
    """Puts together what tasks wrote, with a heading where another one writes."""

    def __init__(self, last: int) -> None:
        self.text, self.size, self.last = "", 0, last

    def add(self, number: int, head: str, text: str) -> None:
        if not text:
            return
        if self.last not in (0, number) and not self.text.endswith("\n") and self.text:
            self.text += "\n"
        self.text += text if number == self.last else head + text
        self.size += len(text)
        self.last = number


def _name(tasks: Begun) -> str:
    names = [name_task(task) for _, task in tasks if task.state == "running"]
    more = len(names) - _NAMED
    told = "; ".join(names[:_NAMED])
    return f"{told}; and {more} more" if more > 0 else told
