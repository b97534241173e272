"""What this server has heard of its nodes, in memory: how long ago, and why to hold back.

The dispatcher asks before each task, so nothing here reads the database. Silence is measured by a
clock that is never set: a jump of the host's clock makes no node suspect.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from millpond.engine.values import NodeInfo
from millpond.ground.room_settings import ClusterSettings
from millpond.machines import rules
from millpond.machines.guards import guard_reasons
from millpond.machines.running import Pause
from millpond.machines.values import Meters

_AGAIN_SECONDS = 60.0
_ANSWER_SECONDS = 190.0  # A refused node tries again at least once a minute: three, and some.


@dataclass
class _Seen:
    """One node.

    Attributes:
        at: when it was heard of last; None when never since this server started.
        meters: its newest figures.
        is_draining: whether somebody wants it to take no more.
        slots_most: what the installation takes from it at most; 0 for no bound.
        gpus_most: the same of graphics processors; -1 for no bound.
        reasons: why a guard holds it back.
        refused: which kind of fault its heartbeats have, and when that was written down.
        refused_at: when the last was refused.
    """

    at: float | None = None
    meters: Meters | None = None
    is_draining: bool = False
    slots_most: int = 0
    gpus_most: int = -1
    reasons: tuple[Pause, ...] = ()
    refused: tuple[str, float] = ("", 0.0)
    refused_at: float = 0.0


class Presence:
    """The nodes as they were heard of. Safe to share between threads."""

    def __init__(
        self, limits: ClusterSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to listen now.

        Args:
            limits: when a node counts as silent, and the thresholds of its guards.
            monotonic: a clock that is never set, in seconds.
        """
        self._limits, self._monotonic = limits, monotonic
        self._since = monotonic()
        self._nodes: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def know(self, name: str, *, is_draining: bool, slots_most: int, gpus_most: int = -1) -> None:
        """Take note of a node that is a member, and of what was said about it."""
        with self._lock:
            seen = self._nodes.setdefault(name, _Seen())
            seen.is_draining, seen.slots_most = is_draining, slots_most
            seen.gpus_most = gpus_most

    def begin(self, name: str, *, slots_most: int) -> None:
        """Take note of a node that has joined now, and forget another that had its name."""
        with self._lock:
            self._nodes[name] = _Seen(slots_most=slots_most)

    def hear(self, name: str, meters: Meters | None) -> None:
        """Take note of a heartbeat, or of a sample of the host itself."""
        with self._lock:
            seen = self._nodes.setdefault(name, _Seen())
            seen.at, seen.meters, seen.refused = self._monotonic(), meters, ("", 0.0)
            if meters is not None:
                found = guard_reasons(meters, self._limits, is_paused=bool(seen.reasons))
                seen.reasons = tuple(found)

    def forget(self, name: str) -> None:
        """Forget a node that was removed."""
        with self._lock:
            self._nodes.pop(name, None)

    def refuse(self, name: str, kind: str) -> Literal["first", "again", "same"]:
        """Take note of a refused heartbeat, and tell whether it is to be written down.

        It is as the first of its kind, and again after a while, but not the same each time.
        """
        now = self._monotonic()
        with self._lock:
            seen = self._nodes.setdefault(name, _Seen())
            seen.refused_at = now
            before, at = seen.refused
            if kind == before and now - at < _AGAIN_SECONDS:
                return "same"
            seen.refused = (kind, now)
            return "again" if kind == before else "first"

    def silence(self, name: str) -> float | None:
        """Give the seconds since a node was heard of.

        None while this server has not listened long enough to know.
        """
        now = self._monotonic()
        with self._lock:
            seen = self._nodes.get(name)
            if seen is not None and seen.at is not None:
                return now - seen.at
        listened = now - self._since
        return listened if listened > self._limits.suspect_seconds else None

    def is_other_version(self, name: str) -> bool:
        """Tell whether a node answers, and is refused for its version of Millpond."""
        now = self._monotonic()
        with self._lock:
            seen = self._nodes.get(name)
            if seen is None or seen.refused[0] != rules.VERSION:
                return False
            return now - seen.refused_at <= _ANSWER_SECONDS

    def pauses(self, name: str) -> list[Pause]:
        """Say why a node gets no new tasks now; nothing when it may have some."""
        if self.is_other_version(name):
            mend = f"`millpond node upgrade {name}`"
            return [Pause("version", f"it runs another version of Millpond: {mend}")]
        silence = self.silence(name)
        if silence is not None and silence > self._limits.suspect_seconds:
            return [Pause("silent", rules.silence_in_words(silence))]
        with self._lock:
            seen = self._nodes.get(name)
            if seen is not None and seen.refused[0]:
                return [Pause("refused", "its heartbeats are refused")]
            return list(seen.reasons) if seen else []

    def paused(self, name: str) -> str:
        """Say why a node gets no new tasks now, in words; empty when it may have some."""
        return "; ".join(each.text for each in self.pauses(name))

    def guard(self, info: NodeInfo) -> NodeInfo:
        """Hold back before harm: give what the engine tells of a node as tasks may see it.

        Slots and graphics processors are cut down to what was agreed. A machine that was never
        heard of and is no member, as the host is without a sample, stays as it is.
        """
        with self._lock:
            seen = self._nodes.get(info.name)
            is_draining = seen is not None and seen.is_draining
            most, gpus_most = (seen.slots_most, seen.gpus_most) if seen else (0, -1)
        if seen is None:
            return info
        slots = rules.capped_slots(info.slots, most)
        gpus = rules.capped_gpus(info.gpus, gpus_most)
        return replace(
            info,
            slots=slots,
            free_slots=max(0.0, info.free_slots - (info.slots - slots)),
            gpus=gpus,
            free_gpus=max(0, info.free_gpus - (info.gpus - gpus)),
            is_draining=info.is_draining or is_draining,
            paused=info.paused or self.paused(info.name),
        )
