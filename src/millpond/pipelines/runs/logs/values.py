"""Places in a run's log, and what reading and searching it gives."""

import re
from dataclasses import dataclass

from millpond.ground.errors import Fault, InvalidError

END = "end"
"""Stands for the place after all that is there by now."""

_PLACE = re.compile(r"([0-9]{1,9})\.([0-9]{1,8})\.([0-9]{1,9})")


@dataclass(frozen=True)
class LogPlace:
    """Where a reader is: before this byte of this chunk of the task with this number.

    A run's log is its tasks' logs one after the other, in the order in which the tasks began: what
    comes later is only ever added at the end.
    """

    number: int = 0
    chunk: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.number}.{self.chunk}.{self.offset}"

    @property
    def is_start_of_task(self) -> bool:
        """Whether nothing of the task's log lies before."""
        return not (self.chunk or self.offset)

    @classmethod
    def read(cls, text: str, field: str = "after") -> "LogPlace":
        """Read back what ``str`` gave; nothing, or 0, stands for the beginning.

        Raises:
            InvalidError: it is no place in a log.
        """
        if text in ("", "0"):
            return cls()
        found = _PLACE.fullmatch(text)
        if found is None:
            raise InvalidError(
                "This is no place in a log.",
                next_step=f"Send `next` or `previous` of the answer before, or leave `{field}`"
                " out.",
                faults=[Fault(field, "is not a place that this log has given out")],
            )
        return cls(*map(int, found.groups()))


@dataclass(frozen=True)
class LogPart:
    """A piece of a run's log.

    Attributes:
        text: as the steps wrote it, with a heading before each task; bytes that are no UTF-8 are
            replaced.
        next: what to ask for next (``after``).
        previous: what to ask for to see what lies before (``before``); None at the beginning.
        is_complete: whether nothing more will come after it.
        follows: the task that is still writing what comes next, such as ``score, partition 3``.
    """

    text: str
    next: str
    is_complete: bool
    previous: str | None = None
    follows: str = ""


@dataclass(frozen=True)
class LogMatch:
    """A line in which the text stands.

    Attributes:
        at: place of the line's beginning: ``after`` shows it and what follows, ``before`` what
            led to it.
    """

    step: str
    partition: int
    attempt: int
    text: str
    at: str


@dataclass(frozen=True)
class LogMatches:
    """Lines found so far.

    Attributes:
        next: what to ask for to search on (``after``); None when all was searched.
        searched_bytes: how much was read for this answer.
    """

    items: list[LogMatch]
    next: str | None
    searched_bytes: int
