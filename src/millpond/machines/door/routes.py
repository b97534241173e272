"""The door's routes for nodes themselves: heartbeats, and certificates that are renewed."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request

from millpond.ground.errors import MillpondError
from millpond.ground.tls import Peer
from millpond.machines import heartbeats, joining
from millpond.machines.cluster import Cluster
from millpond.machines.door.requests import HeartbeatTold, RenewAsked
from millpond.machines.heartbeats import Listener
from millpond.storage.database import Database, Transaction
from millpond.web.connections import peer_in
from millpond.web.intake import check_json


def routes(cluster: Cluster, listeners: Sequence[Listener] = ()) -> APIRouter:
    """Give the routes; they stand below the door's own prefix.

    Args:
        cluster: whose nodes come in.
        listeners: rooms that hear each heartbeat.
    """
    router = APIRouter(dependencies=[Depends(_sound)])

    @router.post("/heartbeat")
    def take_heartbeat(request: Request, told: HeartbeatTold) -> dict[str, Any]:
        """Take how a node is, and tell it what it has to know."""
        database: Database = request.app.state.database
        peer = _peer_of(request)
        try:
            return database.change(
                lambda tx: heartbeats.note_heartbeat(tx, cluster, peer, told.value(), listeners)
            )
        except MillpondError as fault:
            _keep(database, cluster, peer.name, fault)
            raise

    @router.post("/renew")
    def renew(request: Request, asked: RenewAsked) -> dict[str, str]:
        """Sign a node's certificate anew."""
        database: Database = request.app.state.database
        peer = _peer_of(request)

        def change(tx: Transaction) -> str:
            heartbeats.check_member(tx, peer, lock=True)
            return joining.renew_certificate(tx, cluster, peer.name, asked.csr)

        authority = cluster.authority.pem.decode()
        return {"certificate": database.change(change), "authority": authority}

    return router


async def _sound(request: Request) -> None:
    """Refuse what no database takes: NUL, lone surrogates, numbers that are none."""
    check_json(await request.json())


def _peer_of(request: Request) -> Peer:
    peer = peer_in(request.scope)
    assert peer is not None  # noqa: S101 - the door has let it in.
    return peer


def _keep(database: Database, cluster: Cluster, name: str, fault: MillpondError) -> None:
    """Keep why a heartbeat was refused, not more often than people need to see it."""
    kind = heartbeats.kind_of(fault)
    news = cluster.presence.refuse(name, kind) if kind else "same"
    if news != "same":
        is_first = news == "first"
        database.change(lambda tx: heartbeats.note_refusal(tx, name, fault, is_first=is_first))
