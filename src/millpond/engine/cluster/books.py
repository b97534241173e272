"""What the host knows of nodes and of the tasks on them; no I/O. Its owner holds a lock."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond.engine.port import OnDone, OnProgress
from millpond.engine.values import (
    Limits,
    NodeInfo,
    TaskProgress,
    TaskReport,
    TaskSpec,
    is_own_output,
)

_ENDED_MOST = 20_000
_STRANGER_SECONDS = 300.0
_WORDS_MOST = 500
_HUGE_SLOTS, _HUGE_BYTES = 4096.0, 1 << 50


@dataclass(frozen=True)
class NodeLimits:
    """What the host grants a node; a node's own word counts up to that.

    Attributes:
        slots: most cores; None: as many as it says.
        memory_bytes: most memory; None: as much as it says.
        gpus: most graphics processors; None: as many as it says.
        is_draining: whether it takes no more tasks.
        labels: words about it.
    """

    slots: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    is_draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """A node that is joined, by its own word, as far as that is to be believed.

    Attributes:
        address: where Dask reaches it.
        boot: another one each time its process starts.
        told: rises with each word of this boot.
        running: limits of the tasks that it says it has, by key.
    """

    address: str
    name: str
    boot: str
    told: int
    slots: float
    memory_bytes: int
    gpus: int
    isolated: bool
    reason: str
    running: Mapping[str, Limits]


def read_member(address: str, facts: Mapping[str, Any]) -> Member | None:
    """Read what a node tells of itself; None when it makes no sense."""
    try:
        running = {
            str(key): Limits(cpu_slots=float(each[0]), memory_bytes=int(each[1]), gpus=int(each[2]))
            for key, each in facts["running"].items()
        }
        return Member(
            address=address,
            name=str(facts["name"]),
            boot=str(facts["boot"]),
            told=int(facts["told"]),
            slots=min(max(float(facts["slots"]), 0.0), _HUGE_SLOTS),
            memory_bytes=min(max(int(facts["memory_bytes"]), 0), _HUGE_BYTES),
            gpus=min(max(int(facts["gpus"]), 0), int(_HUGE_SLOTS)),
            isolated=bool(facts["isolated"]),
            reason=str(facts["reason"])[:_WORDS_MOST],
            running=running,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return None


@dataclass
class Flight:
    """A task that is with a node.

    Attributes:
        task: None when it was taken over from a server before this one.
        address: of its node in Dask.
        boot: of its node's process.
        is_followed: whether Dask will tell of its end; else the node's word is looked at.
    """

    key: str
    node: str
    address: str
    boot: str
    limits: Limits
    on_progress: OnProgress
    on_done: OnDone
    since: float
    task: TaskSpec | None = None
    is_followed: bool = True
    is_cancelled: bool = False
    has_ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, news: TaskProgress) -> None:
        """Pass progress on, never after the end."""
        with self.lock:
            if not self.has_ended:
                self.on_progress(news)


class Books:
    """Members and flights, and what they leave free."""

    def __init__(self, limits: Callable[[str], NodeLimits]) -> None:
        """Believe nodes up to these limits."""
        self._limits = limits
        self.members: dict[str, Member] = {}
        self.flights: dict[str, Flight] = {}
        self.draining: set[str] = set()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._over: OrderedDict[str, None] = OrderedDict()
        self._strangers: dict[str, float] = {}

    def nodes(self) -> list[NodeInfo]:
        """Tell what is free on each node, by name."""
        return [self.node(each) for each in sorted(self.members.values(), key=lambda m: m.name)]

    def node(self, member: Member) -> NodeInfo:
        """Tell what is free on a node: its own word up to the limits, less what we know of."""
        most = self._limits(member.name)
        slots = _capped(member.slots, most.slots)
        memory = int(_capped(member.memory_bytes, most.memory_bytes))
        gpus = int(_capped(member.gpus, most.gpus))
        taken = [each.limits for each in self.flights.values() if each.address == member.address]
        taken += [limits for key, limits in member.running.items() if self.is_strange(key)]
        return NodeInfo(
            name=member.name,
            slots=slots,
            free_slots=max(0.0, slots - sum(each.cpu_slots for each in taken)),
            memory_bytes=memory,
            isolated=member.isolated,
            reason=member.reason,
            free_memory_bytes=memory - sum(each.memory_bytes for each in taken),
            gpus=gpus,
            free_gpus=gpus - sum(each.gpus for each in taken),
            is_draining=most.is_draining or member.name in self.draining,
            labels=most.labels,
            takes_ahead=True,
        )

    def is_strange(self, key: str) -> bool:
        """Tell whether a task that a node says it has is not ours, and has not told its end.

        What was called lost counts as strange: if its node has it still, it takes its share there.
        """
        return key not in self.flights and key not in self._ended

    def learn(self, members: Iterable[Member]) -> None:
        """Take the nodes that are joined now; an older word of a node does not undo a newer one."""
        known = self.members
        self.members = {}
        for each in members:
            old = known.get(each.address)
            is_older = old is not None and old.boot == each.boot and old.told > each.told
            self.members[each.address] = old if old is not None and is_older else each

    def drop(self, address: str, boot: str) -> None:
        """Forget a node that went down, until it is heard of again."""
        member = self.members.get(address)
        if member is not None and member.boot == boot:
            del self.members[address]

    def find(self, name: str) -> Member | None:
        """Give a node by its name."""
        return next((each for each in self.members.values() if each.name == name), None)

    def end(self, key: str, *, is_over: bool = False) -> Flight | None:
        """Take a flight out; None when it has ended before.

        Args:
            key: of its task.
            is_over: whether it ended without its node's word, which may have it still.
        """
        flight = self.flights.pop(key, None)
        if flight is not None:
            kept = self._over if is_over else self._ended
            kept[key] = None
            while len(kept) > _ENDED_MOST:
                kept.popitem(last=False)
        return flight

    def is_over(self, key: str, node: str) -> bool:
        """Tell whether nothing is taken of a task on this node any more: it was called lost."""
        flight = self.flights.get(key)
        return key in self._over if flight is None else flight.node != node

    def orphans(self) -> list[tuple[str, str]]:
        """Give address and key of tasks that nodes say they have and that were called lost."""
        return [
            (member.address, key)
            for member in self.members.values()
            for key in member.running
            if self.is_over(key, member.name)
        ]

    def begin(self, flight: Flight) -> None:
        """Take a flight in."""
        self.flights[flight.key] = flight
        self._ended.pop(flight.key, None)
        self._over.pop(flight.key, None)
        self._strangers.pop(flight.key, None)

    def gone(self) -> list[Flight]:
        """Give the flights whose node is no longer joined, or was started anew."""
        return [each for each in self.flights.values() if self._member_of(each) is None]

    def doubtful(self, now: float, seconds: float) -> list[Flight]:
        """Give the flights that their node says it does not have, and that are that old."""
        return [
            each
            for each in self.flights.values()
            if (not each.is_followed or now - each.since > seconds)
            and (member := self._member_of(each)) is not None
            and each.key not in member.running
        ]

    def strangers(self) -> dict[str, str]:
        """Give the tasks that nodes say they have and that nobody has asked for: key to address."""
        return {
            key: member.address
            for member in self.members.values()
            for key in member.running
            if self.is_strange(key) and key not in self._over
        }

    def old_strangers(self, now: float) -> Iterable[tuple[str, str]]:
        """Give address and key of tasks that nobody has asked for since long."""
        there = self.strangers()
        self._strangers = {key: self._strangers.get(key, now) for key in there}
        return [
            (there[key], key)
            for key, since in self._strangers.items()
            if now - since > _STRANGER_SECONDS
        ]

    def _member_of(self, flight: Flight) -> Member | None:
        member = self.members.get(flight.address)
        return member if member is not None and member.boot == flight.boot else None


def check_report(flight: Flight, report: TaskReport) -> str:
    """Say what is wrong with a report: a node speaks for its own task and its prefix only."""
    if report.key != flight.key or report.node != flight.node:
        return "it is another task's"
    task = flight.task
    if task and not all(is_own_output(task.output_prefix, each) for each in report.outputs):
        return "it names outputs that are not the task's"
    return ""


def _capped(said: float, most: float | None) -> float:
    return said if most is None else min(said, most)
