"""Nodes over a database: they join, beat, fall silent, are drained, removed and cut off."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from tests.machines.conftest import FACTS, METERS, VERSION, Room, request_pem

from millpond.audit.actions import list_entries
from millpond.engine.values import NodeInfo
from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
)
from millpond.ground.tls import Peer
from millpond.machines import actions, heartbeats, joining
from millpond.machines.authority import serial_of
from millpond.machines.tables import node, node_token
from millpond.machines.values import Node
from millpond.storage.database import Transaction


def refused(kind: type[Exception], room: Room, **more: Any) -> Any:
    with pytest.raises(kind) as caught:
        room.join(**more)
    return caught.value


def test_a_machine_joins_with_a_token_and_its_first_heartbeat_makes_it_up(room: Room) -> None:
    token = room.token(labels={"room": "cellar"})
    assert token.endswith("." + room.cluster.authority.fingerprint[:16])
    joined = room.join(token=token)
    assert joined.authority == room.cluster.authority.pem.decode()
    assert (joined.address, joined.door_port, joined.scheduler_port) == ("192.0.2.1", 8785, 8786)
    assert room.node().state == "joining"
    answer = room.beat(room.peer(joined))
    seen = room.node()
    assert (seen.state, seen.slots, seen.labels) == ("up", 4, {"room": "cellar"})
    assert seen.meters is not None
    assert seen.meters.load_per_core == 0.25
    assert answer["places"] == {} or answer["places"] == {"owl": {"url": "https://192.0.2.7:8788"}}
    assert (answer["is_draining"], answer["revoked"]) == (False, [])
    assert room.told() == ["joined", "up"]


@pytest.mark.parametrize("address", ["host.millpond", "other.node.millpond", "192.0.2.1"])
def test_a_certificate_holds_no_name_that_a_machine_says_of_itself(
    room: Room, address: str
) -> None:
    joined = room.join(facts=dataclasses.replace(FACTS, address=address))
    held = x509.load_pem_x509_certificates(joined.certificate.encode())[0]
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["owl.node.millpond"]
    assert names.get_values_for_type(x509.IPAddress) == []


def test_the_log_tells_who_let_machines_in_and_no_secret(room: Room) -> None:
    token = room.token()
    room.join(token=token)
    with room.database.reading() as tx:
        verbs = [entry.verb for entry in list_entries(tx, None).items]
        kept = tx.rows(sa.select(node_token))
    assert verbs[:2] == ["node.joined", "node.token.made"]
    assert token not in str(kept)


def test_a_token_is_good_once(room: Room) -> None:
    token = room.token()
    room.join("owl", token)
    fault = refused(NotAllowedError, room, name="kite", token=token)
    assert "was used already, by owl" in fault.message
    with pytest.raises(NotFoundError):
        room.node("kite")


def test_of_many_machines_with_one_token_one_gets_in(room: Room) -> None:
    token = room.token()

    def join(name: str) -> str:
        try:
            return room.join(name, token).name
        except MillpondError as fault:
            return fault.message

    names = [f"owl{n}" for n in range(8)]
    with ThreadPoolExecutor(8) as several:
        said = list(several.map(join, names))
    [got_in] = set(said) & set(names)
    assert sum("was used already" in one for one in said) == 7
    assert room.node(got_in).state == "joining"


def test_of_many_machines_with_one_name_one_is_it(room: Room) -> None:
    tokens = [room.token() for _ in range(6)]

    def come(token: str) -> bool:
        try:
            room.beat(room.peer(room.join("owl", token)))
        except MillpondError:
            return False
        return True

    with ThreadPoolExecutor(6) as several:
        came = sum(several.map(come, tokens))
    assert came >= 1
    node = room.node()
    assert node.state in ("up", "joining")
    assert node.serial not in room.cluster.revoked.serials


def test_a_heartbeat_on_its_way_does_not_bring_a_removed_node_back(room: Room) -> None:
    peer = room.up()
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl"))
    values = {"stage": "joined"}
    assert not room.change(lambda tx: actions.store.change_member(tx, "owl", values))
    with pytest.raises(NotAllowedError):
        room.beat(peer)
    assert room.node().state == "removed"


def test_a_node_that_joined_has_its_bound_before_it_is_heard_of(room: Room) -> None:
    room.join(token=room.token(slots_most=2))
    assert room.cluster.presence.guard(info(slots=16.0, free_slots=16.0)).free_slots == 2


def test_a_token_is_good_for_an_hour(room: Room) -> None:
    token = room.token()
    old = datetime.now(UTC) - timedelta(seconds=1)
    room.change(lambda tx: tx.execute(node_token.update().values(expires_at=old)))
    assert "was good until" in refused(NotAllowedError, room, token=token).message


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:8] + ("A" if token[8] != "A" else "B") + token[9:],
        lambda token: token.rpartition(".")[0] + "." + "0" * 16,
        lambda token: token[:-3],
        lambda _: "mpj_wrong",
        lambda _: "",
        lambda _: "\ud800",
    ],
)
def test_a_token_that_was_changed_lets_nobody_in(room: Room, change: Any) -> None:
    with pytest.raises(NotAllowedError, match=r"wrong|another installation"):
        room.join(token=change(room.token()) or ".")


def test_a_refusal_leaves_the_token_good(room: Room) -> None:
    token = room.token()
    refused(ConflictError, room, token=token, version="0.9")
    refused(InvalidError, room, token=token, csr="no request")
    assert room.join(token=token).name == "owl"


def test_another_version_is_told_which_command_mends_it(room: Room) -> None:
    fault = refused(ConflictError, room, version="1.2.2")
    assert "1.2.2" in fault.message
    assert VERSION in fault.message
    assert f"millpond=={VERSION}" in fault.next_step


def test_every_fault_of_a_machine_is_told_at_once(room: Room) -> None:
    facts = dataclasses.replace(FACTS, python="3.9.2", slots=4000, memory_bytes=-1, address="-x")
    late = datetime.now(UTC) - timedelta(hours=1)
    fault = refused(InvalidError, room, name="No!", facts=facts, sent_at=late)
    fields = {one.field for one in fault.faults}
    assert fields == {"name", "python", "slots", "memory_bytes", "address", "sent_at"}
    assert "60 min behind the server's" in fault.message


def test_a_token_for_one_name_lets_no_other_in(room: Room) -> None:
    fault = refused(InvalidError, room, name="kite", token=room.token(name="owl"))
    assert "'owl'" in fault.message


def test_a_living_nodes_name_is_taken_and_a_removed_ones_is_free(room: Room) -> None:
    peer = room.up()
    fault = refused(ConflictError, room)
    assert "millpond node remove owl" in fault.next_step
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl"))
    assert room.node().state == "removed"
    assert room.revoked() == [peer.serial]
    again = room.up()
    assert again.serial != peer.serial
    assert room.node().state == "up"
    with pytest.raises(NotAllowedError, match="was revoked"):
        room.beat(peer)


def test_a_machine_that_never_came_may_join_anew(room: Room) -> None:
    first = room.peer(room.join())
    second = room.peer(room.join())
    assert room.revoked() == [first.serial]
    with pytest.raises(NotAllowedError):
        room.beat(first)
    room.beat(second)


def test_silence_makes_a_node_suspect_then_lost_and_a_heartbeat_brings_it_back(room: Room) -> None:
    peer = room.up()
    look = lambda: room.change(lambda tx: heartbeats.watch_nodes(tx, room.cluster))  # noqa: E731
    room.ticks.now += 14
    assert look() == []
    room.ticks.now += 2
    assert look() == ["owl"]
    assert room.node().state == "suspect"
    assert "nothing was heard of it for 16 s" in room.node().paused
    assert look() == []
    room.ticks.now += 50
    assert look() == ["owl"]
    assert room.node().state == "lost"
    room.beat(peer)
    assert room.node().state == "up"
    assert room.told() == ["joined", "up", "suspect", "lost", "back"]


def test_a_server_that_was_away_does_not_call_its_nodes_lost(room: Room) -> None:
    room.up()
    later = Room.__new__(Room)
    later.__dict__.update(room.__dict__)
    limits = room.cluster.limits
    fresh = type(room.cluster.presence)(limits, room.ticks)
    later.cluster = dataclasses.replace(room.cluster, presence=fresh)
    fresh.know("owl", is_draining=False, slots_most=4)
    assert later.node().state == "up"
    room.ticks.now += 16
    assert later.node().state == "suspect"


def info(**more: Any) -> NodeInfo:
    given: dict[str, Any] = {
        "name": "owl",
        "slots": 4.0,
        "free_slots": 4.0,
        "memory_bytes": 1 << 30,
        "isolated": True,
        "reason": "",
    }
    return NodeInfo(**(given | more))


def test_the_dispatcher_is_told_to_hold_back_with_the_figures(room: Room) -> None:
    peer = room.up()
    guard = room.cluster.presence.guard
    assert guard(info()) == info()
    room.beat(peer, meters={**METERS, "load1": 36.8})
    assert guard(info()).paused == "load 9.2 per core is above 2.0"
    assert room.node().paused == "load 9.2 per core is above 2.0"
    room.beat(peer, meters={**METERS, "load1": 7.0})  # Below the threshold, and not clearly.
    assert guard(info()).paused == "load 1.8 per core is not yet below 1.6"
    room.beat(peer, meters={**METERS, "load1": 6.0})
    assert guard(info()).paused == ""


def test_a_machine_that_is_no_node_is_not_guarded(room: Room) -> None:
    assert room.cluster.presence.guard(info(name="local")) == info(name="local")


def test_a_node_that_lies_about_its_slots_gets_what_was_agreed(room: Room) -> None:
    peer = room.up()
    heard: list[float] = []

    def listen(_: Any, told: heartbeats.Heard) -> dict[str, Any]:
        heard.append(told.heartbeat.facts.slots)
        return {"more": 1}

    lying = dataclasses.replace(FACTS, slots=16)
    assert room.beat(peer, facts=lying, listeners=[listen])["more"] == 1
    assert heard == [4]
    assert room.node().slots == 4
    guarded = room.cluster.presence.guard(info(slots=16.0, free_slots=14.0))
    assert (guarded.slots, guarded.free_slots) == (4, 2)
    with room.database.reading() as tx:
        report = actions.report_node(tx, room.root, room.cluster, "owl")
    assert report.status == "warning"
    assert "tells 16 slots; 4 are taken" in report.findings[0].meaning
    with pytest.raises(InvalidError, match="16 at most are believed"):
        room.beat(peer, facts=dataclasses.replace(FACTS, slots=1000))


def test_a_drained_node_is_told_so_and_gets_nothing(room: Room) -> None:
    peer = room.up()
    room.change(lambda tx: actions.drain_node(tx, room.root, room.cluster, "owl"))
    assert room.cluster.presence.guard(info()).is_draining
    assert room.beat(peer)["is_draining"] is True
    assert room.node().state == "draining"
    room.change(lambda tx: actions.resume_node(tx, room.root, room.cluster, "owl"))
    assert not room.cluster.presence.guard(info()).is_draining
    assert room.node().state == "up"
    assert room.told()[-2:] == ["drained", "resumed"]


def test_a_node_with_tasks_or_last_copies_goes_only_by_force(room: Room) -> None:
    peer = room.up()
    room.beat(peer, running=("r/s/0/1", "r/s/1/1"))
    remove = lambda **more: room.change(  # noqa: E731
        lambda tx: actions.remove_node(tx, room.root, room.cluster, "owl", **more)
    )
    with pytest.raises(ConflictError, match="runs 2 tasks now"):
        remove()
    room.beat(peer)
    room.cluster = dataclasses.replace(
        room.cluster, may_remove=lambda _, name: f"{name} holds 3 last copies."
    )
    with pytest.raises(ConflictError, match="owl holds 3 last copies"):
        remove()
    assert room.node().state == "up"
    assert remove(is_forced=True).state == "removed"
    with pytest.raises(NotAllowedError):
        room.beat(peer)


def test_a_revoked_certificate_is_good_for_nothing(room: Room) -> None:
    peer = room.up()
    revoke = lambda serial: room.change(  # noqa: E731
        lambda tx: actions.revoke_certificates(
            tx, room.root, room.cluster, "owl", "Its disk was stolen.", serial=serial
        )
    )
    [revoked] = revoke(peer.serial.lower())
    assert revoked.revoked_at is not None
    assert room.revoked() == [peer.serial]
    assert room.cluster.revoked.holds(peer.serial)
    with pytest.raises(NotAllowedError, match="revoked: Its disk was stolen") as caught:
        room.beat(peer)
    assert "millpond node token" in caught.value.next_step
    with pytest.raises(ConflictError):
        revoke(peer.serial)
    with pytest.raises(NotFoundError):
        revoke("AB12")


def test_a_certificate_that_nobody_wrote_down_is_no_nodes(room: Room) -> None:
    room.up("owl")
    kite = room.up("kite")
    for peer in (Peer("node", "owl", "AB12"), Peer("node", "owl", kite.serial)):
        with pytest.raises(NotAllowedError, match="no node of this installation"):
            room.beat(peer)


def test_a_renewed_certificate_counts_and_the_one_before_stays_good(room: Room) -> None:
    peer = room.up()
    pem = room.change(lambda tx: joining.renew_certificate(tx, room.cluster, "owl", request_pem()))
    new = room.peer(dataclasses.replace(room.join("kite"), name="owl", certificate=pem))
    room.beat(peer)
    room.beat(new)
    assert room.node().serial == new.serial
    with room.database.reading() as tx:
        held = actions.get_node(tx, room.root, room.cluster, "owl").certificates
    assert {one.serial for one in held} == {peer.serial, new.serial}


def renew(room: Room, peer: Peer) -> Peer:
    """Renew a certificate as the door does."""

    def change(tx: Transaction) -> str:
        heartbeats.check_member(tx, peer, lock=True)
        return joining.renew_certificate(tx, room.cluster, peer.name, request_pem())

    return Peer("node", peer.name, serial_of(room.change(change).encode()))


@pytest.mark.parametrize("named", ["first", "renewed", "none"])
def test_all_certificates_of_a_node_are_revoked_together(room: Room, named: str) -> None:
    peer, kite = room.up(), room.up("kite")
    renewed = renew(room, peer)
    serial = {"first": peer.serial, "renewed": renewed.serial, "none": ""}[named]
    found = room.change(
        lambda tx: actions.revoke_certificates(
            tx, room.root, room.cluster, "owl", "Stolen.", serial=serial
        )
    )
    serials = {peer.serial, renewed.serial}
    assert {one.serial for one in found} == set(room.revoked()) == serials
    for each in (peer, renewed):
        with pytest.raises(NotAllowedError, match="revoked: Stolen"):
            room.beat(each)
    room.beat(kite)


def test_whoever_renews_while_all_are_revoked_gets_nothing_good(room: Room) -> None:
    peer = room.up()
    with ThreadPoolExecutor(4) as pool:
        renewals = [pool.submit(renew, room, peer) for _ in range(3)]
        room.change(
            lambda tx: actions.revoke_certificates(tx, room.root, room.cluster, "owl", "Stolen.")
        )
        renewals += [pool.submit(renew, room, peer) for _ in range(3)]
    made = [each.result() for each in renewals if each.exception() is None]
    assert {each.serial for each in (peer, *made)} == set(room.revoked())


def test_heartbeats_of_another_version_or_hour_are_refused_and_people_see_why(room: Room) -> None:
    peer = room.up()
    with pytest.raises(ConflictError) as caught:
        room.beat(peer, version="1.2.2")
    assert "millpond node upgrade owl" in caught.value.next_step
    fault = caught.value
    room.change(lambda tx: heartbeats.note_refusal(tx, "owl", fault, is_first=True))
    assert "1.2.2" in room.node().refused
    assert room.node().version == "1.2.2"
    with pytest.raises(InvalidError, match="60 min ahead of the server's"):
        room.beat(peer, sent_at=datetime.now(UTC) + timedelta(hours=1))
    room.beat(peer)
    assert room.node().refused == ""
    assert room.told()[-2:] == ["refused", "taken"]


def test_a_heartbeat_writes_one_row(room: Room) -> None:
    peer = room.up()
    statements: list[str] = []

    def hear(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement.split(maxsplit=1)[0])

    sa.event.listen(room.database.engine, "before_cursor_execute", hear)
    try:
        room.beat(peer)
    finally:
        sa.event.remove(room.database.engine, "before_cursor_execute", hear)
    writing = [word for word in statements if word in ("UPDATE", "INSERT", "DELETE")]
    assert writing == ["UPDATE"]


def test_what_is_said_of_a_node_can_be_changed(room: Room) -> None:
    room.up()
    changed = room.change(
        lambda tx: actions.set_node(
            tx,
            room.root,
            room.cluster,
            "owl",
            labels={"gpu": "a100"},
            slots_most=2,
            price_per_hour=0.5,
        )
    )
    assert (changed.labels, changed.slots, changed.price_per_hour) == ({"gpu": "a100"}, 2, 0.5)
    assert room.cluster.presence.guard(info()).slots == 2
    with pytest.raises(InvalidError):
        room.change(
            lambda tx: actions.set_node(tx, room.root, room.cluster, "owl", labels={"Ä": "x"})
        )


def test_no_more_graphics_processors_are_given_away_than_an_administrator_allows(
    room: Room,
) -> None:
    def allow(most: int) -> Node:
        return room.change(
            lambda tx: actions.set_node(tx, room.root, room.cluster, "owl", gpus_most=most)
        )

    def free(taken: int = 0) -> tuple[int, int]:
        found = room.cluster.presence.guard(info(gpus=4, free_gpus=4 - taken))
        return found.gpus, found.free_gpus

    peer = room.up()
    room.beat(peer, facts=dataclasses.replace(FACTS, gpus=4))
    assert (room.node().gpus, room.node().gpus_most, free()) == (4, -1, (4, 4))
    assert (allow(2).gpus, free(), free(taken=1), free(taken=3)) == (2, (2, 2), (2, 1), (2, 0))
    room.beat(peer, facts=dataclasses.replace(FACTS, gpus=4))
    assert (room.node().gpus, free()) == (2, (2, 2))
    assert (allow(0).gpus, free()) == (0, (0, 0))
    assert (allow(-1).gpus, free()) == (4, (4, 4))


def test_only_administrators_look_and_change(room: Room) -> None:
    room.up()
    ana, cluster = room.ana, room.cluster
    calls: list[Any] = [
        lambda tx: actions.list_nodes(tx, ana, cluster),
        lambda tx: actions.get_node(tx, ana, cluster, "owl"),
        lambda tx: actions.report_node(tx, ana, cluster, "owl"),
        lambda tx: actions.drain_node(tx, ana, cluster, "owl"),
        lambda tx: actions.set_node(tx, ana, cluster, "owl", slots_most=1),
        lambda tx: actions.remove_node(tx, ana, cluster, "owl"),
        lambda tx: actions.revoke_certificates(tx, ana, cluster, "owl", "x"),
        lambda tx: joining.make_join_token(tx, ana, cluster),
    ]
    for call in calls:
        with pytest.raises(NotAllowedError):
            room.change(call)
    assert room.node().state == "up"


def test_nodes_are_listed_by_name_page_after_page(room: Room) -> None:
    for name in ("owl", "kite", "wren"):
        room.up(name)
    room.change(lambda tx: actions.remove_node(tx, room.root, room.cluster, "kite"))
    with room.database.reading() as tx:
        first = actions.list_nodes(tx, room.root, room.cluster, limit=1)
        rest = actions.list_nodes(tx, room.root, room.cluster, cursor=first.next_cursor)
        every = actions.list_nodes(tx, room.root, room.cluster, with_removed=True)
    assert [one.name for one in first.items] == ["owl"]
    assert [one.name for one in rest.items] == ["wren"]
    assert [one.name for one in every.items] == ["kite", "owl", "wren"]


def test_old_events_are_forgotten(room: Room) -> None:
    room.up()
    long_ago = datetime.now(UTC) - timedelta(days=31)
    room.change(lambda tx: tx.execute(actions.store.node_event.update().values(at=long_ago)))
    room.change(heartbeats.forget_old)
    assert room.told() == []
    with room.database.reading() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(node)) == 1
