"""Values of what tasks have used."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class DayUse:
    """What ended tasks of one kind, each of so many slots, used on one day.

    Attributes:
        day: on which they ended, in UTC.
        project_id: whose they are.
        user: name of who started their runs.
        pipeline: its name; empty for programs.
        node: where they ran; empty where that is not known.
        tasks: how many, failed tries included.
        cpu_seconds: of their sandboxes, user and system.
        wall_seconds: from begin to end, added up.
        memory_byte_seconds: the peak of memory times the time from begin to end, added up.
        slots: that each of them counted for.
        gpus: graphics processors that each of them had.
    """

    day: date
    project_id: str
    user: str
    pipeline: str
    node: str
    tasks: int
    cpu_seconds: float
    wall_seconds: float
    memory_byte_seconds: float
    slots: float = 1.0
    gpus: int = 0


@dataclass(frozen=True)
class TaskSpan:
    """When and where one task of a run ran, and what it used.

    Attributes:
        ended_at: None while it runs.
        slots: that it counts for.
        gpus: graphics processors that it has.
    """

    step: str
    node: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    cpu_seconds: float
    memory_peak_bytes: int
    wall_seconds: float
    slots: float = 1.0
    gpus: int = 0
