"""The door: nodes alone come in, their heartbeats are taken, refusals are kept for people."""

from typing import Any

import pytest
from fastapi import APIRouter
from tests.machines.conftest import FACTS, METERS, Caller, Room, heartbeat_json, request_pem

from millpond.ground.tls import Peer
from millpond.machines import actions, heartbeats
from millpond.machines.authority import serial_of
from millpond.machines.door.app import build_door


@pytest.fixture
def peer(room: Room) -> Peer:
    return room.peer(room.join())


def door(room: Room, peer: Peer | None, **more: Any) -> Caller:
    return Caller(build_door(room.database, room.cluster, **more), peer)


def test_a_heartbeat_is_taken_and_answered(room: Room, peer: Peer) -> None:
    answer = door(room, peer).send("POST", "/door/v1/heartbeat", heartbeat_json())
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert set(told) >= {"is_draining", "revoked", "places", "heartbeat_seconds", "server_time"}
    assert room.node().state == "up"


@pytest.mark.parametrize(
    ("peer", "word"),
    [(None, "without a certificate"), (Peer("host", "host", "AB"), "certificate of a host")],
)
def test_whoever_is_no_node_stays_outside(room: Room, peer: Peer | None, word: str) -> None:
    for path in ("/door/v1/heartbeat", "/api/v1/openapi.json", "/"):
        answer = door(room, peer).send("POST", path, heartbeat_json())
        assert answer.status_code == 403
        assert word in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_revoked_certificate_is_refused_on_every_route(room: Room, peer: Peer) -> None:
    router = APIRouter()

    @router.post("/objects/find")
    def find() -> dict[str, int]:
        return {"found": 1}

    caller = door(room, peer, routers=[router])
    assert caller.send("POST", "/door/v1/objects/find").json() == {"found": 1}
    room.change(
        lambda tx: actions.revoke_certificates(tx, room.root, room.cluster, "owl", "Stolen.")
    )
    for path in ("heartbeat", "renew", "objects/find"):
        answer = caller.send("POST", f"/door/v1/{path}", {})
        assert answer.status_code == 403
        assert "was revoked" in answer.json()["detail"]
        assert "millpond node token" in answer.json()["next_step"]


def test_an_unknown_node_is_told_to_join(room: Room) -> None:
    answer = door(room, Peer("node", "ghost", "AB12")).send(
        "POST", "/door/v1/heartbeat", heartbeat_json()
    )
    assert answer.status_code == 403
    assert "no node of this installation" in answer.json()["detail"]


def test_another_version_is_refused_with_the_command_and_kept_once(room: Room, peer: Peer) -> None:
    caller = door(room, peer)
    caller.send("POST", "/door/v1/heartbeat", heartbeat_json())
    for _ in range(3):
        answer = caller.send("POST", "/door/v1/heartbeat", heartbeat_json(version="1.2.2"))
        assert answer.status_code == 409
        assert "millpond node upgrade owl" in answer.json()["next_step"]
    assert "1.2.2" in room.node().refused
    assert room.told() == ["joined", "up", "refused"]
    assert "`millpond node upgrade owl`" in room.cluster.presence.paused("owl")
    caller.send("POST", "/door/v1/heartbeat", heartbeat_json())
    assert room.cluster.presence.paused("owl") == ""
    assert room.told()[-1] == "taken"


def test_a_node_of_another_version_is_called_that_and_not_lost_while_it_answers(
    room: Room, peer: Peer
) -> None:
    """It is refused about once a minute, as it tries again and again."""
    caller = door(room, peer)
    caller.send("POST", "/door/v1/heartbeat", heartbeat_json())
    for _ in range(20):
        room.ticks.now += 60
        caller.send("POST", "/door/v1/heartbeat", heartbeat_json(version="1.2.2"))
        assert room.change(lambda tx: heartbeats.watch_nodes(tx, room.cluster)) == []
    assert room.node().state == "other version"
    with room.database.reading() as tx:
        report = actions.report_node(tx, room.root, room.cluster, "owl")
    assert [one.next_step for one in report.findings] == ["millpond node upgrade owl"]
    assert room.cluster.presence.is_other_version("owl")
    room.ticks.now += 191
    assert not room.cluster.presence.is_other_version("owl")
    assert room.change(lambda tx: heartbeats.watch_nodes(tx, room.cluster)) == ["owl"]
    assert room.node().state == "lost"
    caller.send("POST", "/door/v1/heartbeat", heartbeat_json())
    assert room.node().state == "up"
    assert room.told() == ["joined", "up", "refused", "lost", "back"]


def test_a_clock_off_by_an_hour_is_refused_with_what_to_do(room: Room, peer: Peer) -> None:
    late = heartbeat_json(sent_at="2020-01-01T00:00:00+00:00")
    answer = door(room, peer).send("POST", "/door/v1/heartbeat", late)
    assert answer.status_code == 422
    assert "timedatectl" in answer.json()["next_step"]
    assert "clock" in room.node().refused


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"version": "1"},
        heartbeat_json(facts={"slots": "many"}),
        heartbeat_json(sent_at="yesterday"),
        heartbeat_json(sent_at="2026-01-01T00:00:00"),
        heartbeat_json(running=["x" * 1000]),
        heartbeat_json(store={"free_bytes": -1}),
        heartbeat_json(meters={"load1\0": 1}),
        [],
    ],
)
def test_a_heartbeat_that_is_none_is_refused(room: Room, peer: Peer, told: Any) -> None:
    answer = door(room, peer).send("POST", "/door/v1/heartbeat", told)
    assert answer.status_code == 422
    assert room.node().state == "joining"


def test_figures_that_are_none_do_no_harm(room: Room, peer: Peer) -> None:
    odd = {"load1": "much", "cpu_count": None, "memory_total": -5, "disks": [1, {"total": "x"}]}
    answer = door(room, peer).send("POST", "/door/v1/heartbeat", heartbeat_json(meters=odd))
    assert answer.status_code == 200
    meters = room.node().meters
    assert meters is not None
    assert (meters.load, meters.disks, room.node().paused) == (0.0, (), "")


def test_a_newer_nodes_more_is_left_out(room: Room, peer: Peer) -> None:
    told = heartbeat_json(new_field=1, meters=METERS)
    told["facts"]["new_fact"] = 1
    assert door(room, peer).send("POST", "/door/v1/heartbeat", told).status_code == 200
    assert room.node().facts == FACTS


def test_a_certificate_is_renewed_by_the_door(room: Room, peer: Peer) -> None:
    caller = door(room, peer)
    answer = caller.send("POST", "/door/v1/renew", {"csr": request_pem()})
    assert answer.status_code == 200, answer.text
    new = Peer("node", "owl", serial_of(answer.json()["certificate"].encode()))
    assert new.serial != peer.serial
    sent = door(room, new).send("POST", "/door/v1/heartbeat", heartbeat_json())
    assert sent.status_code == 200
    assert caller.send("POST", "/door/v1/renew", {"csr": "x"}).status_code == 422
