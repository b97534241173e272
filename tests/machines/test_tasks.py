"""Machines' jobs: lines, tickets, faults that pass, servers that stop, nodes that never come."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from tests.machines.conftest import Room

from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotAllowedError
from millpond.jobs import actions as jobs
from millpond.jobs.pool import Pool
from millpond.jobs.port import Lease
from millpond.machines import tasks, work
from millpond.machines.port import (
    JoinTicket,
    Machine,
    MachineOrder,
    MachineSource,
    MachineStep,
    MakeTicket,
    Tell,
)
from millpond.machines.requests import AddNodeRequest
from millpond.machines.values import NodeWork


class Yard(MachineSource):
    """Machines that join by the room's own actions."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.fault: Exception | None = None
        self.beats = True
        self.tickets: list[JoinTicket] = []

    def introduce(self) -> str:
        return ""

    def create(self, order: MachineOrder, tell: Tell) -> Machine:
        tell(MachineStep("look", "done", f"Looked at {order.address}."))
        if self.fault is not None:
            raise self.fault
        return Machine(order, order.address, "SHA256:abc")

    def wait(self, machine: Machine, tell: Tell) -> Machine:
        tell(MachineStep("look", "skipped", "It is there."))
        return machine

    def join(self, machine: Machine, make_ticket: MakeTicket, tell: Tell) -> None:
        tell(MachineStep("join", "begun", "Joining."))
        self.tickets.append(make_ticket())
        joined = self.room.join(machine.order.name, self.tickets[-1].token)
        if self.beats:
            self.room.beat(self.room.peer(joined))

    def upgrade(self, machine: Machine, version: str, tell: Tell) -> None:
        tell(MachineStep("upgrade", "done", f"{machine.order.name} has {version}."))

    def remove(self, machine: Machine, tell: Tell) -> None:
        tell(MachineStep("stop", "done", f"{machine.order.name} is stopped."))


class Desk:
    """A room with a pool that does machines' jobs when it is told to."""

    def __init__(self, room: Room) -> None:
        self.room, self.yard = room, Yard(room)
        self.sources: dict[str, MachineSource] = {"ssh": self.yard}
        self.cluster = replace(room.cluster, sources=self.sources)

    def order(self, **more: Any) -> NodeWork:
        asked = AddNodeRequest(**({"address": "192.0.2.9", "name": "owl"} | more))
        return self.room.change(lambda tx: work.add_node(tx, self.room.root, self.cluster, asked))

    def do(self, *, seconds: float = 30, is_stopping: bool = False) -> None:
        """Claim what waits, and do it in this thread."""
        handler = tasks.make_add(
            self.room.database, self.cluster, seconds=seconds, pause=lambda _: None
        )
        if is_stopping:
            handler = _stopping(handler)
        ended = threading.Event()

        def do(lease: Lease) -> None:
            try:
                handler(lease)
            finally:
                ended.set()

        pool = Pool(
            self.room.database,
            {work.MACHINE_KIND: do},
            endings={work.MACHINE_KIND: tasks.give_up},
        )
        assert pool.claim_due() == 1
        assert ended.wait(60)
        pool.stop(30)

    def work(self, started: NodeWork) -> NodeWork:
        with self.room.database.reading() as tx:
            return work.get_work(tx, self.room.root, started.id)


def _stopping(handler: Any) -> Any:
    class Stopped:
        def __init__(self, lease: Lease) -> None:
            self._lease = lease

        def __getattr__(self, name: str) -> Any:
            return getattr(self._lease, name)

        def stopping(self) -> bool:
            return True

    return lambda lease: handler(Stopped(lease))


@pytest.fixture
def desk(room: Room) -> Desk:
    return Desk(room)


def test_a_machine_is_added_and_every_line_is_kept(desk: Desk) -> None:
    started = desk.order(labels={"room": "cellar"}, slots=3)
    desk.do()
    found = desk.work(started)
    assert found.state == "done"
    assert [(line.name, line.state) for line in found.lines] == [
        ("look", "done"),
        ("look", "skipped"),
        ("join", "begun"),
        ("heartbeat", "begun"),
        ("heartbeat", "done"),
    ]
    node = desk.room.node()
    assert (node.state, node.source, node.host_key) == ("up", "ssh", "SHA256:abc")
    assert (node.labels, node.slots) == ({"room": "cellar"}, 3)


def test_no_secret_is_in_a_job_or_a_line(desk: Desk) -> None:
    started = desk.order()
    desk.do()
    [ticket] = desk.yard.tickets
    assert ticket.token not in repr(ticket)
    with desk.room.database.reading() as tx:
        job = jobs.get_job(tx, desk.room.root, started.id)
    assert ticket.token not in str(job)
    assert ticket.token not in str(desk.work(started))


def test_a_fault_that_stays_ends_the_work_with_the_words(desk: Desk) -> None:
    desk.yard.fault = NotAllowedError("The key is refused.", next_step="Copy it there.")
    started = desk.order()
    desk.do()
    found = desk.work(started)
    assert (found.state, found.reason) == ("dead", "The key is refused. Copy it there.")
    said = [(line.state, line.text) for line in found.lines]
    assert said[-1] == ("failed", found.reason)
    assert said.count(said[-1]) == 1, "once"


def test_a_fault_that_may_pass_is_tried_again(desk: Desk) -> None:
    desk.yard.fault = BusyError("It does not answer.", next_step="Wait.", retry_after_seconds=0)
    started = desk.order()
    desk.do()
    found = desk.work(started)
    assert found.state == "waiting"
    assert (found.lines[-1].state, found.lines[-1].text) == (
        "warning",
        "It does not answer. It is tried again.",
    )


def test_a_node_that_never_beats_is_told_with_where_to_look(desk: Desk) -> None:
    desk.yard.beats = False
    started = desk.order()
    desk.do(seconds=0.2)
    found = desk.work(started)
    assert found.state == "dead"
    assert "was not heard of within 0.2 s" in found.reason
    assert "journalctl -u millpond-worker" in found.reason


def test_a_server_that_stops_gives_the_work_back(desk: Desk) -> None:
    started = desk.order()
    desk.do(is_stopping=True)
    assert desk.work(started).state == "waiting"
    desk.do()
    assert desk.work(started).state == "done"


def test_an_upgrade_drains_first_and_lets_the_node_go_on(desk: Desk) -> None:
    desk.order()
    desk.do()
    started = desk.room.change(
        lambda tx: work.upgrade_node(tx, desk.room.root, desk.cluster, "owl")
    )
    desk.do()
    found = desk.work(started)
    assert (found.kind, found.state) == ("upgrade", "done")
    assert desk.room.told()[-2:] == ["drained", "resumed"]
    assert not desk.room.node().is_draining


def test_removing_a_node_stops_it_on_its_machine(desk: Desk) -> None:
    desk.order()
    desk.do()
    desk.room.change(lambda tx: work.remove_node(tx, desk.room.root, desk.cluster, "owl"))
    desk.do()
    with desk.room.database.reading() as tx:
        [job, *_] = jobs.list_jobs(tx, desk.room.root, kind=work.MACHINE_KIND).items
        found = work.get_work(tx, desk.room.root, job.id)
    assert (found.kind, found.state) == ("remove", "done")
    assert found.lines[-1].text == "owl is stopped."


def test_a_machine_that_joined_by_itself_is_not_reached(desk: Desk) -> None:
    desk.room.up()
    with pytest.raises(ConflictError, match="joined by itself"):
        desk.room.change(lambda tx: work.upgrade_node(tx, desk.room.root, desk.cluster, "owl"))


def test_cancelled_work_says_so(desk: Desk) -> None:
    started = desk.order()
    desk.room.change(
        lambda tx: jobs.cancel(
            tx, desk.room.root, started.id, endings={work.MACHINE_KIND: tasks.give_up}
        )
    )
    found = desk.work(started)
    assert (found.state, found.lines[-1].text) == ("cancelled", "Cancelled by root.")


def test_an_unknown_source_is_told(desk: Desk) -> None:
    with pytest.raises(InvalidError, match="there are: ssh"):
        desk.order(source="moon")
    started = desk.order()
    desk.sources.clear()
    desk.do()
    assert "knows no source of machines" in desk.work(started).reason
