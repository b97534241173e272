"""Let the successor of a short task wait in its slot, so that no slot idles between the two.

Between two tasks a slot far away stands still while outputs are published, the end is told and
the next is sent and made ready: a third of a second, which matters when tasks take two.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from millpond.engine import rules
from millpond.engine.values import NodeInfo, TaskReport, TaskSpec

SHORT_SECONDS = 10.0
_KINDS_MOST = 10_000


@dataclass
class _Flight:
    kind: str
    node: str
    slots: float
    waits: bool


class Ahead:
    """What runs where and how long its like took. Its owner holds a lock.

    A task's like are the tasks of the same step of the same run; the first that ended tells of
    all. A slot with a long task takes no successor, for another may be free much sooner.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._flights: dict[str, _Flight] = {}
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def begin(self, task: TaskSpec, node: str, *, waits: bool) -> None:
        """Hear that a task was sent to a node, perhaps to wait there."""
        self._flights[task.key] = _Flight(_kind(task.key), node, task.limits.cpu_slots, waits)

    def end(self, report: TaskReport) -> None:
        """Hear how a task ended; the oldest that waits on its node has its slot now."""
        flight = self._flights.pop(report.key, None)
        if flight is None:
            return
        if report.outcome == "done":
            self._seconds[flight.kind] = report.wall_seconds
            self._seconds.move_to_end(flight.kind)
            while len(self._seconds) > _KINDS_MOST:
                self._seconds.popitem(last=False)
        if not flight.waits:
            for each in self._flights.values():
                if each.waits and each.node == flight.node:
                    each.waits = False
                    break

    def choose(
        self, heads: Sequence[rules.Head], nodes: Sequence[NodeInfo], served: Mapping[str, int]
    ) -> tuple[rules.Head, NodeInfo] | None:
        """Choose a short task that may wait for the end of another, and where; None: there is none.

        Call it when no task can start. While one is starved nothing is put before it.

        Args:
            heads: the first task of each user in each project.
            nodes: what is free.
            served: when each was last served; see ``rules.choose_next``.
        """
        if any(head.passes >= rules.PASSES_MOST for head in heads):
            return None
        short = [
            head
            for head in heads
            if not head.task.limits.gpus and self._is_short(_kind(head.task.key))
        ]
        return rules.choose_next(short, self._offers(nodes), served) if short else None

    def _offers(self, nodes: Sequence[NodeInfo]) -> list[NodeInfo]:
        """Give the nodes with the slots in which a successor may wait as their free ones."""
        room: dict[str, float] = {}
        for each in self._flights.values():
            if each.waits:
                room[each.node] = room.get(each.node, 0.0) - each.slots
            elif self._is_short(each.kind):
                room[each.node] = room.get(each.node, 0.0) + each.slots
        return [
            replace(node, free_slots=room[node.name])
            for node in nodes
            if node.takes_ahead and room.get(node.name, 0.0) > 0
        ]

    def _is_short(self, kind: str) -> bool:
        return self._seconds.get(kind, SHORT_SECONDS) < SHORT_SECONDS


def _kind(key: str) -> str:
    """Give run and step of a task's key, ``run/step/partition/attempt``."""
    return key.rsplit("/", 2)[0]
