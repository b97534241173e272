"""Values of the watch: what machines tell, as kept and as shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millpond.machines.running import NodeTask

Flat = Mapping[str, float]
"""One sample: by meter its number. ``cpu`` is a share; sizes are bytes; ``rx`` and ``tx`` bytes per
second; disks and GPUs have the meters ``disk:MOUNT:used`` and so on."""

Range = Literal["15m", "1h", "1d", "30d"]

RANGES: Mapping[Range, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "30d": timedelta(days=30),
}
"""The times that pages offer."""


@dataclass(frozen=True)
class Level:
    """One resolution at which meters are kept.

    Attributes:
        seconds: that a row tells of.
        kept: how long rows are kept.
        grace: how long after its end a row of this level is made from the finer ones.
    """

    seconds: int
    kept: timedelta
    grace: timedelta = timedelta(0)


LEVELS = (
    Level(5, timedelta(hours=1)),
    Level(60, timedelta(days=2), timedelta(seconds=20)),
    Level(900, timedelta(days=30), timedelta(seconds=120)),
)
"""From the finest to the coarsest."""


@dataclass(frozen=True)
class DiskNow:
    """A disk as it was last seen; the rates are None where they are not known."""

    mount: str
    total_bytes: int
    free_bytes: int
    read_bytes_per_second: float | None = None
    write_bytes_per_second: float | None = None


@dataclass(frozen=True)
class GpuNow:
    """A graphics processor as it was last seen; the share is None where it is not known."""

    name: str
    used_share: float | None
    memory_total_bytes: int
    memory_used_bytes: int


@dataclass(frozen=True)
class NodeNow:
    """A node as it was last seen.

    Attributes:
        node: its name; ``local`` is the host.
        at: when.
        is_fresh: whether that is recent enough to count as now.
        cpu_share: of all its processors, 0 to 1.
        load: mean number of processes that wanted a processor in the last minute.
        fault: why its newest meters were refused; empty when they were not.
    """

    node: str
    at: datetime
    is_fresh: bool
    cpu_share: float
    cpu_count: int
    load: float
    memory_total_bytes: int
    memory_used_bytes: int
    swap_used_bytes: int
    received_bytes_per_second: float
    sent_bytes_per_second: float
    disks: Sequence[DiskNow] = ()
    gpus: Sequence[GpuNow] = ()
    fault: str = ""


@dataclass(frozen=True)
class Line:
    """One meter over time.

    Attributes:
        meter: its name.
        means: by step, the mean; None where nothing is known.
        peaks: by step, the highest.
    """

    meter: str
    means: Sequence[float | None]
    peaks: Sequence[float | None]


@dataclass(frozen=True)
class NodeSeries:
    """A node's meters over time.

    Attributes:
        node: its name; ``local`` is the host.
        now: as it was last seen; None when it was not seen in the time asked for.
        lines: by meter.
    """

    node: str
    now: NodeNow | None
    lines: Sequence[Line]


@dataclass(frozen=True)
class Monitor:
    """The meters of some nodes over the same steps of time.

    Attributes:
        range: how far back it reaches.
        step_seconds: that one number stands for.
        begins: the beginning of each step.
        nodes: the host first, then by name.
        tasks: what runs now on the one machine that was asked for.
    """

    range: Range
    step_seconds: int
    begins: Sequence[datetime]
    nodes: Sequence[NodeSeries]
    tasks: Sequence[NodeTask] = ()
