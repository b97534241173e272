"""The engine on many machines: the host's side of Dask, behind the engine's port."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from millpond.engine import rules
from millpond.engine.cluster.books import (
    Books,
    Flight,
    NodeLimits,
)
from millpond.engine.cluster.collecting import Collector
from millpond.engine.cluster.desk import Desk, FindOver, nothing_over
from millpond.engine.cluster.watching import Watcher
from millpond.engine.cluster.wire import Order, pack_order
from millpond.engine.port import OnDone, OnProgress
from millpond.engine.values import NodeInfo, TaskProgress, TaskSpec
from millpond.ground.errors import BusyError, ConflictError
from millpond.ground.tls import Identity

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)
_GONE_SECONDS = 20.0  # Workers end when their scheduler does, so that nothing runs any more.
_MEET_SECONDS = 15.0
_CLOSE_SECONDS = 10.0
_DOUBT_SECONDS = 10.0
_MISSING_SECONDS = 60.0

MakeGrant = Callable[[TaskSpec, str], Mapping[str, Any]]
"""Gives what a node needs to fetch and publish for a task: its token, signatures to read."""


def _trust(_name: str) -> NodeLimits:
    return NodeLimits()


def _no_grant(_task: TaskSpec, _node: str) -> Mapping[str, Any]:
    return {}


def _ignore(_news: object) -> None:
    """Tell nobody."""


class DaskEngine:
    """Runs tasks on the nodes that have joined; see ``engine.port`` for what it promises."""

    places_itself = False
    outlives = True

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        limits: Callable[[str], NodeLimits] = _trust,
        grant: MakeGrant = _no_grant,
        find_over: FindOver = nothing_over,
    ) -> None:
        """Connect in the background, for ever.

        Args:
            url: of the scheduler, ``tls://HOST:PORT``.
            identity: the host's.
            limits: asked for what a node is granted; called often, from many threads.
            grant: asked for what goes with each task.
            find_over: asked which tasks are over that nodes have and that nobody has asked for.
        """
        self._grant = grant
        self._books = Books(limits)
        self._desk = Desk(self._books, find_over)
        self._lock = self._desk.lock
        self._collector = Collector(self._desk)
        self._watcher = Watcher(self._desk, self._collector, url, identity)

    @property
    def reason(self) -> str:
        """Why no node can be used now; empty while the scheduler answers."""
        return self._watcher.reason

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call this, from a thread of the engine, when nodes have come or gone."""
        self._watcher.on_change = on_change

    def submit(
        self,
        task: TaskSpec,
        *,
        on_progress: OnProgress,
        on_done: OnDone,
        node: str = "",
        waits: bool = False,
    ) -> None:
        """Send a task to a node.

        Raises:
            BusyError: its slots are not free, or the node drains or is gone.
            ConflictError: a task of that key is running.
            InvalidError: it asks for more than any node has.
        """
        with self._lock:
            link, nodes = self._desk.link, self._books.nodes()
            if any(node in ("", each.name) for each in nodes):  # Else the one named has just gone.
                rules.check_can_ever_fit(task, nodes)
            if task.key in self._books.flights:
                raise ConflictError(
                    f"The task {task.key} is running.",
                    next_step="Wait for it, or cancel it first.",
                )
            chosen = rules.choose_node(
                task, [each for each in nodes if node in ("", each.name)], waits=waits
            )
            member = None if chosen is None else self._books.find(chosen.name)
            if link is None or member is None:
                raise BusyError(
                    "No node has room for the task now.", next_step="Try when a task has ended."
                )
            now = time.monotonic()
            flight = Flight(
                task.key, member.name, member.address, member.boot, task.limits,
                on_progress, on_done, now, task,
            )  # fmt: skip
            self._books.begin(flight)
        try:
            order = Order(task, self._grant(task, flight.node), waits)
            link.submit(task.key, flight.address, pack_order(order))
        except BaseException:
            with self._lock:
                self._books.end(task.key)
            raise

    def cancel(self, key: str) -> None:
        """Stop a task; it is reported through its ``on_done`` when it is dead."""
        with self._lock:
            flight, link = self._books.flights.get(key), self._desk.link
            addresses = [
                member.address for member in self._books.members.values() if key in member.running
            ]
            if flight is not None:
                flight.is_cancelled = True
                addresses = [flight.address]
        for address in addresses if link is not None else ():
            assert link is not None  # noqa: S101 - for mypy.
            link.cancel(key, address)

    def nodes(self) -> list[NodeInfo]:
        """Tell of the nodes that are joined; of none while the scheduler does not answer."""
        with self._lock:
            return self._books.nodes()

    def reattach(
        self,
        keys: Iterable[str],
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> set[str]:
        """Tell which still run, or have ended unheard; their news come from now on.

        Waits for the scheduler for some seconds, since a server asks this when it has just begun.
        """
        wanted, found = set(keys), set()
        with self._lock:
            for key in wanted & set(self._books.flights):
                flight = self._books.flights[key]
                with flight.lock:
                    flight.on_progress = on_progress or flight.on_progress
                    flight.on_done = on_done or flight.on_done
                found.add(key)
        wanted -= found
        self._watcher.met.wait(_MEET_SECONDS if wanted else 0)
        link = self._desk.link
        if not wanted or link is None:
            return found
        try:
            answers = link.recall(wanted)
        except OSError:
            return found
        for address, ended in answers.items():
            for key in wanted & set(ended):
                if self._adopt(key, address, on_progress or _ignore, on_done or _ignore):
                    found.add(key)
                    if ended[key]:
                        self._collector.note(key)
        return found

    def _adopt(self, key: str, address: str, on_progress: OnProgress, on_done: OnDone) -> bool:
        with self._lock:
            member = self._books.members.get(address)
            if member is None or key in self._books.flights:
                return False
            limits = member.running.get(key) or rules.NO_LIMITS
            self._books.begin(
                Flight(
                    key,
                    member.name,
                    address,
                    member.boot,
                    limits,
                    on_progress,
                    on_done,
                    time.monotonic(),
                    is_followed=False,
                )
            )
        return True

    def drain(self, node: str) -> None:
        """Give a node no more tasks."""
        with self._lock:
            self._books.draining.add(node)

    def take_progress(self, news: TaskProgress, node: str = "") -> None:
        """Pass on what a node told of a task; dropped when it is another's or has ended."""
        with self._lock:
            flight = self._books.flights.get(news.key)
        if flight is not None and node in ("", flight.node):
            flight.tell(news)

    def runs(self, key: str, node: str) -> bool:
        """Tell whether a task is with that node now."""
        with self._lock:
            flight = self._books.flights.get(key)
        return flight is not None and flight.node == node

    def is_over(self, key: str, node: str) -> bool:
        """Tell whether a task was called lost on that node: nothing is taken of it any more."""
        with self._lock:
            return self._books.is_over(key, node)

    def leave(self) -> None:
        """End this process' part; tasks go on, for ``reattach`` to find."""
        self._collector.close()
        self._watcher.close()

    def close(self) -> None:
        """Cancel every task, wait for each, then leave."""
        with self._lock:
            keys = list(self._books.flights)
        for key in keys:
            self.cancel(key)
        end = time.monotonic() + _CLOSE_SECONDS
        while time.monotonic() < end and not self._watcher.closed.is_set():
            with self._lock:
                if not self._books.flights:
                    break
            time.sleep(0.005)
        for flight in list(self._books.flights.values()):
            self._desk.end(flight, "cancelled", "It was cancelled; its node did not answer.")
        self.leave()
