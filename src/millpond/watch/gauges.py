"""What Prometheus is told beside the counters of requests: machines, tasks, the queue, the record.

All of it is read when Prometheus asks, and nothing in between. What the database does not tell, as
it is away, is left out, and `millpond_database_up` says so.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millpond.engine.values import NodeInfo
from millpond.ground.errors import MillpondError
from millpond.storage.database import Database, Transaction
from millpond.storage.nodes.counting import Copies
from millpond.watch.rules import parts_of
from millpond.watch.values import Flat

log = logging.getLogger("millpond.watch")

_STATES = ("joining", "up", "suspect", "lost", "draining", "other version")
_MACHINE = (
    ("cpu", "millpond_node_cpu_share", "Share of all processors that is busy, 0 to 1."),
    ("cpu_count", "millpond_node_cpus", "Processors."),
    ("load1", "millpond_node_load1", "Load of the last minute."),
    ("memory_total", "millpond_node_memory_bytes", "Memory, or the limit of the container."),
    ("memory_used", "millpond_node_memory_used_bytes", "Memory that is used."),
    ("swap_used", "millpond_node_swap_used_bytes", "Swap that is used."),
    ("rx", "millpond_node_network_received_bytes_per_second", "Bytes received in a second."),
    ("tx", "millpond_node_network_sent_bytes_per_second", "Bytes sent in a second."),
)
_DISK = (
    ("total", "millpond_node_disk_bytes", "Size of the disk."),
    ("read", "millpond_node_disk_read_bytes_per_second", "Bytes read in a second."),
    ("written", "millpond_node_disk_written_bytes_per_second", "Bytes written in a second."),
)
_GPU = (
    ("share", "millpond_node_gpu_share", "Share of the graphics processor that is busy, 0 to 1."),
    ("total", "millpond_node_gpu_memory_bytes", "Its memory."),
    ("used", "millpond_node_gpu_memory_used_bytes", "Of that, what is used."),
)


@dataclass(frozen=True)
class Told:
    """What one look into the database tells.

    Attributes:
        nodes: how many are in each state.
        paused: by node, what holds it back: a few words, the same each time.
        copies: how many objects have too few copies; nothing where they lie on no nodes.
        jobs: how many are in each state.
        wait_seconds: how long a job has been due that nobody takes.
        unsealed_seconds: how long an entry of the record has waited for its seal.
        certificates: when each ends; ``server`` or the node's name.
    """

    nodes: Mapping[str, int]
    paused: Mapping[str, Sequence[str]]
    copies: Copies
    jobs: Mapping[str, int]
    wait_seconds: float
    unsealed_seconds: float
    certificates: Mapping[str, datetime]


@dataclass(frozen=True)
class Sources:
    """Where the gauges come from.

    Attributes:
        newest: each machine's newest meters.
        nodes: what tasks may count for on each machine.
        waiting: how many tasks wait for a slot.
        look: reads the rest.
    """

    newest: Callable[[], Mapping[str, Flat]]
    nodes: Callable[[], Sequence[NodeInfo]]
    waiting: Callable[[], int]
    look: Callable[[Transaction], Told]


class Gauges(Collector):
    """Gives the gauges anew for each answer to Prometheus."""

    def __init__(self, database: Database, sources: Sources) -> None:
        """Take where they come from; nothing is read before somebody asks."""
        self._database, self._sources = database, sources

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that being registered reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read them all."""
        yield from _machines(self._sources.newest())
        yield from _tasks(self._sources)
        up = GaugeMetricFamily("millpond_database_up", "1 while the database answers, else 0.")
        try:
            told = self._database.read(self._sources.look)
        except MillpondError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _facts(told)


def _machines(newest: Mapping[str, Flat]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "millpond_node_measured", "1 for a machine that told its meters just now.", labels=["node"]
    )
    for node in newest:
        up.add_metric([node], 1)
    yield up
    for meter, name, text in _MACHINE:
        family = GaugeMetricFamily(name, text, labels=["node"])
        for node, flat in newest.items():
            if meter in flat:
                family.add_metric([node], flat[meter])
        yield family
    yield from _parts(newest, "disk", "mount", _DISK)
    yield from _parts(newest, "gpu", "gpu", _GPU)
    free = GaugeMetricFamily(
        "millpond_node_disk_free_bytes", "Free space of the disk.", labels=["node", "mount"]
    )
    for node, flat in newest.items():
        for key, mount in parts_of(flat, "disk"):
            free.add_metric([node, mount], flat.get(f"{key}total", 0) - flat.get(f"{key}used", 0))
    yield free


def _parts(
    newest: Mapping[str, Flat], kind: str, label: str, families: Sequence[tuple[str, str, str]]
) -> Iterator[Metric]:
    for meter, name, text in families:
        family = GaugeMetricFamily(name, text, labels=["node", label])
        for node, flat in newest.items():
            for key, title in parts_of(flat, kind):
                if f"{key}{meter}" in flat:
                    family.add_metric([node, title], flat[f"{key}{meter}"])
        yield family


def _tasks(sources: Sources) -> Iterator[Metric]:
    slots = GaugeMetricFamily("millpond_node_slots", "Slots for tasks.", labels=["node"])
    free = GaugeMetricFamily("millpond_node_slots_free", "Of these, free.", labels=["node"])
    for node in sources.nodes():
        slots.add_metric([node.name], node.slots)
        free.add_metric([node.name], node.free_slots)
    yield slots
    yield free
    waiting = GaugeMetricFamily("millpond_tasks_waiting", "Tasks that wait for a slot.")
    waiting.add_metric([], sources.waiting())
    yield waiting


def _facts(told: Told) -> Iterator[Metric]:
    nodes = GaugeMetricFamily("millpond_nodes", "Nodes by state.", labels=["state"])
    for state in _STATES:
        nodes.add_metric([state], told.nodes.get(state, 0))
    yield nodes
    paused = GaugeMetricFamily(
        "millpond_node_paused",
        "1 for a node that gets no new tasks for now, by reason.",
        labels=["node", "reason"],
    )
    for node, reasons in told.paused.items():
        for reason in reasons:
            paused.add_metric([node, reason], 1)
    yield paused
    jobs = GaugeMetricFamily("millpond_jobs", "Jobs of the queue by state.", labels=["state"])
    for state, number in told.jobs.items():
        jobs.add_metric([state], number)
    yield jobs
    yield from _numbers(told)
    ends = GaugeMetricFamily(
        "millpond_certificate_left_seconds",
        "Time until a certificate ends; of the server or of a node.",
        labels=["of"],
    )
    now = datetime.now(UTC)
    for owner, moment in told.certificates.items():
        ends.add_metric([owner], (moment - now).total_seconds())
    yield ends


def _numbers(told: Told) -> Iterator[Metric]:
    for name, text, value in (
        (
            "millpond_objects_few_copies",
            "Objects with one living copy, where two are kept on nodes.",
            told.copies.few,
        ),
        (
            "millpond_objects_no_copy",
            "Objects without any copy on a node that is there.",
            told.copies.none,
        ),
        (
            "millpond_job_wait_seconds",
            "How long a job is due that nobody takes.",
            told.wait_seconds,
        ),
        (
            "millpond_log_unsealed_seconds",
            "How long an entry of the record has waited for its seal.",
            told.unsealed_seconds,
        ),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], value)
        yield family
