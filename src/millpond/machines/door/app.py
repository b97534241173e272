"""The door's application: it lets in nodes alone, and hangs the rooms' routes for them."""

import re
from collections.abc import Iterable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.ground.actor import Actor
from millpond.ground.errors import MillpondError, NotAllowedError, TooLargeError
from millpond.ground.ids import new_id
from millpond.ground.tls import Peer
from millpond.machines.cluster import Cluster
from millpond.machines.door import routes
from millpond.machines.heartbeats import Listener, revoked_error
from millpond.storage.database import Database, Transaction
from millpond.web.connections import peer_in
from millpond.web.frame import build_frame
from millpond.web.metrics import Meters
from millpond.web.problems import problem_of

PREFIX = "/door/v1"
BODY_BYTES = 8 << 20
"""The most that a node sends at a time."""
HEARTBEAT_BYTES = 1 << 20


def build_door(
    database: Database,
    cluster: Cluster,
    *,
    listeners: Sequence[Listener] = (),
    routers: Iterable[APIRouter] = (),
    meters: Meters | None = None,
) -> ASGIApp:
    """Build the application.

    Args:
        database: where calls are read and written.
        cluster: whose nodes may come in.
        listeners: rooms that hear each heartbeat.
        routers: rooms' routes for nodes; they stand below ``PREFIX``.
        meters: where requests are counted.
    """
    app: FastAPI = build_frame(
        database,
        _nobody,
        version=cluster.version,
        streams=re.compile(""),  # The door bounds what nodes send.
        meters=meters,
    )
    for router in (routes.routes(cluster, listeners), *routers):
        app.include_router(router, prefix=PREFIX)
    return NodesOnly(app, cluster)


def _nobody(_: Transaction, __: str, ___: bool) -> Actor | None:
    """Know nobody by a token: at the door the certificate says who calls."""
    return None


class NodesOnly:
    """Refuses whoever is no node, or one whose certificate was revoked, before a byte is read."""

    def __init__(self, app: ASGIApp, cluster: Cluster) -> None:
        """Stand before an application."""
        self._app, self._cluster = app, cluster

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a node's request pass, up to the bytes that it may hold."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_peer(peer_in(scope), self._cluster)
        except MillpondError as fault:
            answer = problem_of(fault, new_id("req"))
            answer.headers["connection"] = "close"
            await answer(scope, receive, send)
            return
        received = 0
        # A signed address allows one object, as large as its task may leave.
        is_object = scope["method"] == "PUT" and scope["path"].startswith(f"{PREFIX}/objects/")
        most = HEARTBEAT_BYTES if scope["path"] == f"{PREFIX}/heartbeat" else BODY_BYTES

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most and not is_object:
                raise TooLargeError(
                    f"The request's body holds more than {most:,} bytes.",
                    next_step="Send less at a time.",
                    limit_bytes=most,
                )
            return message

        await self._app(scope, bounded, send)


def check_peer(peer: Peer | None, cluster: Cluster) -> Peer:
    """Refuse whoever may not come in by the door.

    Raises:
        NotAllowedError: it is no node, or its certificate was revoked.
    """
    if peer is None or peer.role != "node":
        who = (
            f"A certificate of a {peer.role}" if peer else "A caller without a certificate of ours"
        )
        raise NotAllowedError(
            f"{who} may not come in here: the door is for nodes alone.",
            next_step="People and programs use the portal's address.",
            kind="role",
        )
    if cluster.revoked.holds(peer.serial):
        raise revoked_error(peer.name)
    return peer
