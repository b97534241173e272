"""The server's own machine and the nodes that have joined, behind one port."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from millpond.engine import rules
from millpond.engine.cluster.engine import DaskEngine
from millpond.engine.local import LocalEngine
from millpond.engine.port import OnDone, OnProgress
from millpond.engine.probe import Machine
from millpond.engine.values import NodeInfo, TaskProgress, TaskReport, TaskSpec
from millpond.ground.errors import BusyError


class JoinedEngine:
    """Tasks with a gateway run on the server's machine, the others on the nodes.

    The server's machine takes others too where it was given slots for them.
    """

    places_itself = False
    outlives = True

    def __init__(self, local: LocalEngine, cluster: DaskEngine, ordinary_slots: float = 0) -> None:
        """Join both.

        Args:
            local: on the server's machine.
            cluster: on the nodes.
            ordinary_slots: slots of the server's machine for tasks without a gateway.
        """
        self.local, self.cluster = local, cluster
        self._ordinary = ordinary_slots
        self._taken: dict[str, float] = {}  # Slots that tasks without a gateway have there.
        self._lock = threading.Lock()

    @property
    def machine(self) -> Machine:
        """What the server's own machine can do."""
        return self.local.machine

    @property
    def reason(self) -> str:
        """Why no node can be used now; empty while the scheduler answers."""
        return self.cluster.reason

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call this when nodes have come or gone."""
        self.cluster.watch(on_change)

    def submit(
        self,
        task: TaskSpec,
        *,
        on_progress: OnProgress,
        on_done: OnDone,
        node: str = "",
        waits: bool = False,
    ) -> None:
        """Start a task where it was told to, or where there is room.

        Raises:
            BusyError: its slots are not free, or the node drains or is gone.
            ConflictError: a task of that key is running.
            InvalidError: it asks for more than any node has.
            NotAllowedError: there is no sandbox, and this server may not run code without one.
        """
        nodes = self.nodes()
        if any(node in ("", each.name) for each in nodes):  # Else the one named has just gone.
            rules.check_can_ever_fit(task, nodes)
        chosen = rules.choose_node(
            task, [each for each in nodes if node in ("", each.name)], waits=waits
        )
        if chosen is None:
            raise BusyError(
                "No node has room for the task now.", next_step="Try when a task has ended."
            )
        if not chosen.is_host:
            self.cluster.submit(
                task, on_progress=on_progress, on_done=on_done, node=chosen.name, waits=waits
            )
            return
        if task.grants.gateway:
            self.local.submit(task, on_progress=on_progress, on_done=on_done, node=chosen.name)
            return
        with self._lock:
            is_known = task.key in self._taken
            self._taken[task.key] = task.limits.cpu_slots
        try:
            self.local.submit(
                task, on_progress=on_progress, on_done=self._freeing(on_done), node=chosen.name
            )
        except BaseException:
            with self._lock:
                if not is_known:
                    self._taken.pop(task.key, None)
            raise

    def cancel(self, key: str) -> None:
        """Stop a task, wherever it is."""
        self.local.cancel(key)
        self.cluster.cancel(key)

    def nodes(self) -> list[NodeInfo]:
        """Tell of the server's machine, then of the nodes."""
        own = self.local.nodes()[0]
        with self._lock:
            free = self._ordinary - sum(self._taken.values())
        own = replace(own, ordinary_slots=self._ordinary, free_ordinary_slots=free)
        return [own, *self.cluster.nodes()]

    def reattach(
        self,
        keys: Iterable[str],
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> set[str]:
        """Take over tasks that still run, wherever they are."""
        wanted = set(keys)
        done = None if on_done is None else self._freeing(on_done)
        found = self.local.reattach(wanted, on_progress=on_progress, on_done=done)
        return found | self.cluster.reattach(
            wanted - found, on_progress=on_progress, on_done=on_done
        )

    def _freeing(self, on_done: OnDone) -> OnDone:
        def done(report: TaskReport) -> None:
            with self._lock:
                self._taken.pop(report.key, None)
            on_done(report)

        return done

    def drain(self, node: str) -> None:
        """Give a node no more tasks."""
        self.local.drain(node)
        self.cluster.drain(node)

    def take_progress(self, news: TaskProgress, node: str = "") -> None:
        """Pass on what a node told of a task."""
        self.cluster.take_progress(news, node)

    def runs(self, key: str, node: str) -> bool:
        """Tell whether a task is with that node now."""
        return self.cluster.runs(key, node)

    def is_over(self, key: str, node: str) -> bool:
        """Tell whether a task was called lost on that node: nothing is taken of it any more."""
        return self.cluster.is_over(key, node)

    def leave(self) -> None:
        """Stop what runs here; what runs on the nodes goes on."""
        self.cluster.leave()
        self.local.leave()

    def close(self) -> None:
        """Stop every task."""
        self.cluster.close()
        self.local.close()
