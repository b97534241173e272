"""What was seen of the nodes lately: their size, and who had no room although we thought so."""

import time
from collections.abc import Sequence
from dataclasses import replace

from millpond.engine.values import NodeInfo, TaskReport

_PAUSE_FIRST, _PAUSE_MOST = 1.0, 30.0
_AWAY_SECONDS = 900.0  # What only a node can take that is away for no longer waits for it.


class SeenNodes:
    """The nodes of the last quarter of an hour; its owner holds a lock where it changes them."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[NodeInfo, float]] = {}
        self._pauses: dict[str, tuple[float, float]] = {}  # Until when, and how long.

    def known(self, nodes: Sequence[NodeInfo]) -> list[NodeInfo]:
        """Give these, and those that went away a short while ago."""
        now = time.monotonic()
        seen = {name: each for name, each in self._seen.items() if now - each[1] < _AWAY_SECONDS}
        self._seen = seen | {node.name: (node, now) for node in nodes}
        return [node for node, _ in self._seen.values()]

    def note(self, report: TaskReport) -> None:
        """Hold a node back that had no room, longer each time, until it has taken a task."""
        if not report.is_refused:
            self._pauses.pop(report.node, None)
            return
        now = time.monotonic()
        end, seconds = self._pauses.get(report.node, (0.0, 0.0))
        if now >= end:
            seconds = min(max(2 * seconds, _PAUSE_FIRST), _PAUSE_MOST)
            self._pauses[report.node] = (now + seconds, seconds)

    def why_held(self, name: str) -> str:
        """Say why a node is held back; empty when it is not."""
        is_held = time.monotonic() < self._pauses.get(name, (0.0, 0.0))[0]
        return "it said that it has no room, so it is asked again soon" if is_held else ""

    def hold(self, node: NodeInfo) -> NodeInfo:
        """Mark a node that is held back."""
        why = "" if node.paused else self.why_held(node.name)
        return replace(node, paused=why) if why else node
