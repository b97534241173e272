"""What machines are made of: nodes, their tokens and certificates, what is done with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from millpond.ground.findings import Finding
from millpond.machines.port import OrderKind, StepState
from millpond.machines.running import NodeTask

NodeState = Literal["joining", "up", "suspect", "lost", "draining", "other version", "removed"]
NODE_STATES: tuple[NodeState, ...] = (
    "joining",
    "up",
    "suspect",
    "lost",
    "draining",
    "other version",
    "removed",
)
RESERVED_NAMES = frozenset({"add", "host", "local", "new", "join", "sources", "tokens", "work"})
"""No node is called so: addresses of pages, and the host itself, are."""
TOKEN_PREFIX = "mpj"  # noqa: S105 - how a token begins, no secret.
DATA_PORT, WORKER_PORT = 8788, 8789
CLOCK_SECONDS_MOST = 60.0
"""By how much a node's clock may differ from the server's."""
PYTHON_LEAST = (3, 11)


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself, when it joins and with each heartbeat.

    Attributes:
        slots: cores that tasks may count for.
        cores: that the machine has, or that its control group allows.
        memory_bytes: memory that tasks may count for.
        gpus: graphics processors.
        python: its version, such as ``3.11.2``.
        isolated: whether tasks run in a sandbox there.
        reason: why not, or what the sandbox cannot hold to.
        address: by which other nodes and the host reach it.
        data_port: port of its data route; 0 without a data disk.
        worker_port: port that the scheduler reaches it by.
        data_disk: folder of its objects; empty for none.
        system: kind and version of its system, for people.
    """

    slots: float = 1
    cores: float = 1
    memory_bytes: int = 0
    gpus: int = 0
    python: str = ""
    isolated: bool = False
    reason: str = ""
    address: str = ""
    data_port: int = DATA_PORT
    worker_port: int = WORKER_PORT
    data_disk: str = ""
    system: str = ""


@dataclass(frozen=True)
class NodePrice:
    """What a node costs, and what it is shared by.

    Attributes:
        per_hour: of the whole node, in the currency of the house.
        slots: that tasks may count for.
        gpus: graphics processors that tasks may have.
    """

    per_hour: float
    slots: float
    gpus: int = 0

    def of_task(self, slots: float, gpus: int = 0) -> float:
        """Give what an hour of a task costs that takes so much of the node.

        The larger share counts: a task that has every graphics processor has the whole node.
        """
        shares = (slots / self.slots, gpus / self.gpus if self.gpus else 0.0)
        return self.per_hour * min(1.0, max(shares))


@dataclass(frozen=True)
class DiskUse:
    """How full a disk of a node is.

    Attributes:
        mount: where it is mounted.
        total_bytes: its size.
        free_bytes: what is free.
    """

    mount: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Meters:
    """The newest figures of a node that guards and people look at.

    Attributes:
        load: the mean number of processes that want to run, of one minute.
        cores: that share this load.
        cpu: share of all cores that was busy, 0 to 1.
        memory_total_bytes: of the machine, or of its control group.
        memory_used_bytes: of it, taken.
        disks: those that hold the node's folders.
    """

    load: float = 0.0
    cores: float = 1.0
    cpu: float = 0.0
    memory_total_bytes: int = 0
    memory_used_bytes: int = 0
    disks: tuple[DiskUse, ...] = ()

    @property
    def load_per_core(self) -> float:
        """The load of one core."""
        return self.load / max(self.cores, 0.01)


@dataclass(frozen=True)
class StoreState:
    """How a node's data disk is.

    Attributes:
        is_ok: whether it takes and gives bytes.
        reason: why not.
        free_bytes: free on it.
        total_bytes: its size.
        epoch: how often the server has heard of it, as the disk itself remembers.
        disk: the disk's own id.
        set_aside: damaged files that were set aside so far.
    """

    is_ok: bool = False
    reason: str = ""
    free_bytes: int = 0
    total_bytes: int = 0
    epoch: str = ""
    disk: str = ""
    set_aside: int = 0


@dataclass(frozen=True)
class Certificate:
    """A node's certificate.

    Attributes:
        serial: its number, upper-case hexadecimal.
        node: whose it is.
        issued_at: when it was signed.
        expires_at: from when nobody takes it.
        revoked_at: from when we don't, although it has not expired.
        reason: why it was revoked.
    """

    serial: str
    node: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True)
class Node:
    """A machine that runs tasks, as its last heartbeat showed it.

    Attributes:
        name: unique; stands in its certificate.
        state: ``joining`` until its first heartbeat; ``suspect`` and ``lost`` when it is silent;
            ``draining`` when it ends what it has and takes no more; ``other version`` while it
            answers and is refused for its version of Millpond.
        address: by which it is reached.
        version: of Millpond on it.
        slots: cores that tasks may count for, not above ``slots_most``.
        slots_most: what the installation takes from it at most; 0 for no bound.
        gpus: graphics processors that tasks may have, not above ``gpus_most``.
        gpus_most: what the installation takes from it at most; -1 for no bound.
        slots_used: cores that running tasks count for; as many as tasks where it is not known.
        labels: words about it.
        price_per_hour: what an hour of it costs, in the currency of the house.
        paused: why a guard gives it no new tasks now; empty when none does.
        refused: why its heartbeats are refused, or other than told; empty when they are not.
        is_draining: whether it takes no more tasks.
        facts: what it says of itself.
        meters: the newest figures; None before the first heartbeat.
        store: its data disk; None without one.
        running: keys of the tasks on it.
        serial: number of its certificate.
        certificate_expires_at: when that ends.
        source: where the machine comes from, such as ``ssh``; empty when it joined by itself.
        host_key: fingerprint of its SSH host key; empty when it joined by itself.
        joined_at: when it joined.
        seen_at: its last heartbeat that was taken.
        removed_at: when it was removed.
    """

    name: str
    state: NodeState
    address: str
    version: str
    slots: float
    slots_most: int
    gpus: int
    gpus_most: int
    slots_used: float
    labels: dict[str, str]
    price_per_hour: float
    paused: str
    refused: str
    is_draining: bool
    facts: NodeFacts
    meters: Meters | None
    store: StoreState | None
    running: list[str]
    serial: str
    certificate_expires_at: datetime | None
    source: str
    host_key: str
    joined_at: datetime
    seen_at: datetime | None
    removed_at: datetime | None


@dataclass(frozen=True)
class NodeEvent:
    """Something that happened to a node.

    Attributes:
        node: which.
        at: when.
        kind: past tense or a state, such as ``joined`` or ``lost``.
        text: in words for people.
    """

    node: str
    at: datetime
    kind: str
    text: str


@dataclass(frozen=True)
class NodeDetails:
    """A node with what runs on it, and what happened to it and its certificates, newest first."""

    node: Node
    events: list[NodeEvent]
    certificates: list[Certificate]
    tasks: list[NodeTask] = field(default_factory=list)


@dataclass(frozen=True)
class NodeReport:
    """What was found about one node: all that is wrong, each with how to mend it."""

    node: str
    status: str
    findings: list[Finding]


@dataclass(frozen=True)
class NewJoinToken:
    """Leave to join one machine; the only time that the token is shown.

    Attributes:
        token: ``mpj_SECRET.FINGERPRINT``: the end is the beginning of the authority's own, by
            which the machine knows that it speaks to the right server.
        command: what to run on the machine.
        expires_at: from when it is good no more.
    """

    token: str = field(repr=False)
    command: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class Joined:
    """What a machine gets when it has joined.

    Attributes:
        name: its name.
        certificate: PEM.
        authority: PEM of the authority that signs all certificates here.
        address: by which it reaches the host.
        scheduler_port: of the scheduler there.
        door_port: of the door there.
        token_key: PEM of the public key by which it checks the server's permits for objects.
        heartbeat_seconds: how often it tells how it is.
        slots_most: what the installation takes from it at most.
    """

    name: str
    certificate: str
    authority: str
    address: str
    scheduler_port: int
    door_port: int
    token_key: str
    heartbeat_seconds: float
    slots_most: int


@dataclass(frozen=True)
class WorkLine:
    """One line of what is being done with a machine.

    Attributes:
        number: from 1.
        at: when.
        name: what is being done, short.
        state: how far it is.
        text: in words for people.
    """

    number: int
    at: datetime
    name: str
    state: StepState
    text: str


@dataclass(frozen=True)
class NodeWork:
    """A machine that is being added, upgraded or taken down.

    Attributes:
        id: of the job that does it.
        node: the node's name.
        kind: what is being done.
        state: the job's: ``waiting``, ``running``, ``done``, ``dead`` or ``cancelled``.
        reason: what went wrong, in words for people.
        lines: what was done so far, oldest first.
    """

    id: str
    node: str
    kind: OrderKind
    state: str
    reason: str
    lines: list[WorkLine]


@dataclass(frozen=True)
class SourceInfo:
    """A way to get machines, and what a machine must know before it can be added."""

    name: str
    introduction: str


@dataclass(frozen=True)
class Heartbeat:
    """What a node tells every few seconds.

    Attributes:
        version: of Millpond on it.
        sent_at: by its own clock.
        facts: what it says of itself.
        meters: one sample as ``machines.meters`` gives it.
        running: keys of the tasks on it.
        store: its data disk; None without one.
    """

    version: str
    sent_at: datetime
    facts: NodeFacts
    meters: Mapping[str, Any]
    running: tuple[str, ...]
    store: StoreState | None
