"""Long work on machines: add, upgrade, take down; each line of it is seen as it comes."""

import time
from collections.abc import Callable
from dataclasses import replace

from millpond.ground.actor import SYSTEM
from millpond.ground.errors import BusyError, InvalidError, MillpondError
from millpond.ground.versions import is_same
from millpond.jobs.port import Handler, Lease, StoppingError
from millpond.jobs.values import Job
from millpond.machines import actions, joining, store
from millpond.machines.cluster import Cluster
from millpond.machines.port import JoinTicket, Machine, MachineOrder, MachineSource, MachineStep
from millpond.machines.store import NodeRow
from millpond.storage.database import Database, Transaction

_LOOK_SECONDS = 0.5
_TEXT_MOST = 2000


def make_add(
    database: Database,
    cluster: Cluster,
    *,
    seconds: float = 120.0,
    drain_seconds: float = 600.0,
    pause: Callable[[float], None] = time.sleep,
) -> Handler:
    """Make the handler of machines' jobs.

    Args:
        database: where nodes are.
        cluster: which they belong to, and where machines come from.
        seconds: how long a node may take from the start of its service to its first heartbeat.
        drain_seconds: how long tasks get to end before their node is upgraded.
        pause: how to wait; tests give their own.
    """

    def do(lease: Lease) -> None:
        work = _Work(database, cluster, lease, pause)
        try:
            if work.order.kind == "add":
                work.add(seconds)
            elif work.order.kind == "upgrade":
                work.upgrade(seconds, drain_seconds)
            else:
                work.source.remove(work.machine, work.tell)
        except BusyError as fault:
            work.tell(MachineStep("again", "warning", f"{fault.message} It is tried again."))
            raise
        except MillpondError as fault:
            work.tell(MachineStep("failed", "failed", f"{fault.message} {fault.next_step}"))
            raise

    return do


def give_up(tx: Transaction, job: Job) -> None:
    """Write down that a machine's work was given up or cancelled, unless its last line says so."""
    why = job.reason or "It was cancelled."
    lines = store.list_lines(tx, job.id, 0)
    if not (lines and lines[-1].state == "failed" and lines[-1].text == why[:_TEXT_MOST]):
        store.add_line(tx, job.id, "end", "failed", why[:_TEXT_MOST])


class _Work:
    """One try of one job."""

    def __init__(
        self, database: Database, cluster: Cluster, lease: Lease, pause: Callable[[float], None]
    ) -> None:
        self._database, self._cluster, self._lease = database, cluster, lease
        self._pause = pause
        self.order = MachineOrder.from_json(lease.job.facts["order"])

    @property
    def source(self) -> MachineSource:
        """Where the machine comes from."""
        found = self._cluster.sources.get(self.order.source)
        if found is None:
            raise InvalidError(
                f"This server knows no source of machines called {self.order.source!r}.",
                next_step="Ask for the work again on a server that does.",
            )
        return found

    @property
    def machine(self) -> Machine:
        """The machine of a node that has joined."""
        return Machine(self.order, self.order.address, self.order.host_key)

    def tell(self, step: MachineStep) -> None:
        """Write a line for people; whoever has lost the job, or must stop, gets no further."""

        def write(tx: Transaction) -> None:
            self._lease.hold(tx)
            text = step.text[:_TEXT_MOST]
            store.add_line(tx, self._lease.job.id, step.name[:60], step.state, text)

        self._database.change(write)
        self._check()

    def add(self, seconds: float) -> None:
        """Find or make the machine, wait for it, join it, and wait for its first heartbeat."""
        machine = self.source.create(self.order, self.tell)
        machine = self.source.wait(machine, self.tell)
        order = replace(self.order, address=machine.address, host_key=machine.host_key)

        def make_ticket() -> JoinTicket:
            made = self._database.change(
                lambda tx: joining.make_join_token(
                    tx,
                    SYSTEM,
                    self._cluster,
                    name=order.name,
                    slots_most=order.slots,
                    labels=order.labels,
                    order=order,
                )
            )
            return JoinTicket(self._cluster.url, made.token, self._cluster.version)

        self.source.join(machine, make_ticket, self.tell)
        self.tell(MachineStep("heartbeat", "begun", "Waiting for its first heartbeat."))
        self._wait_until(lambda row: row.stage == "joined" and not row.refused, seconds)

        def settle(tx: Transaction) -> None:
            self._lease.hold(tx)
            store.change(tx, order.name, {"machine": order.to_json()})
            text = f"{order.name} is up and takes tasks."
            store.add_line(tx, self._lease.job.id, "heartbeat", "done", text)
            self._lease.finish(tx)

        self._database.change(settle)

    def upgrade(self, seconds: float, drain_seconds: float) -> None:
        """Let the node end what it has, bring it the server's version, and let it go on."""
        name, version = self.order.name, self._cluster.version
        before = self._database.read(lambda tx: actions.found_node(tx, name))
        if not before.is_draining:
            self._drain(is_draining=True)
        self.tell(MachineStep("drain", "begun", "Letting its tasks end; it takes no more."))
        self._wait_until(self._is_idle, drain_seconds, is_needed=False)
        try:
            self.source.upgrade(self.machine, version, self.tell)
            self.tell(MachineStep("heartbeat", "begun", "Waiting for its next heartbeat."))
            self._wait_until(lambda row: is_same(row.version, version) and not row.refused, seconds)
        finally:
            if not before.is_draining:
                self._drain(is_draining=False)
        self.tell(MachineStep("heartbeat", "done", f"{name} runs Millpond {version}."))

    def _drain(self, *, is_draining: bool) -> None:
        set_it = actions.drain_node if is_draining else actions.resume_node
        self._database.change(lambda tx: set_it(tx, SYSTEM, self._cluster, self.order.name))

    def _is_idle(self, row: NodeRow) -> bool:
        """Tell whether nothing runs there; nobody knows of one whose heartbeats don't come."""
        is_heard = actions.state_of(row, self._cluster) in ("up", "draining") and not row.refused
        return not row.running or not is_heard

    def _wait_until(
        self, is_so: Callable[[NodeRow], bool], seconds: float, *, is_needed: bool = True
    ) -> None:
        end = time.monotonic() + seconds
        while True:
            row = self._database.read(lambda tx: store.find(tx, self.order.name))
            if row is not None and is_so(row):
                return
            if time.monotonic() >= end:
                break
            self._check()
            self._pause(_LOOK_SECONDS)
        if is_needed:
            why = f" Its heartbeats are refused: {row.refused}" if row and row.refused else ""
            raise InvalidError(
                f"{self.order.name} was not heard of within {seconds:g} s.{why}",
                next_step="Look on the machine: `systemctl status millpond-worker` and `journalctl"
                " -u millpond-worker`; it must reach this host's ports"
                f" {self._cluster.door_port} and {self._cluster.limits.scheduler_port}.",
            )
        self.tell(
            MachineStep("drain", "warning", "Its tasks go on; they are done again elsewhere.")
        )

    def _check(self) -> None:
        if self._lease.stopping():
            raise StoppingError
