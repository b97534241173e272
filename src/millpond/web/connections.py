"""Connections within bounds: how many there are, and how long one may say nothing."""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from millpond.ground.errors import BusyError
from millpond.ground.ids import new_id
from millpond.ground.tls import Peer, peer_of
from millpond.web.problems import problem_of

PEER = "millpond.peer"
"""Where ``scope["extensions"]`` holds who the caller's certificate says they are."""

_BESIDE = 64
"""So many connections more are still told that there are too many; what is above is cut off."""


@dataclass(frozen=True)
class Bounds:
    """What connections are allowed.

    Attributes:
        connections: at the same time, live events and downloads among them.
        idle_seconds: how long one may wait between two requests.
        header_seconds: how long a request's line and headers may take, from the connection or
            their first byte on.
    """

    connections: int
    idle_seconds: float
    header_seconds: float


class BoundedProtocol(H11Protocol):
    """Uvicorn's own, which alone waits for ever for a request that comes byte by byte."""

    bounds: ClassVar[Bounds]
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or one only to tell it that there are too many."""
        super().connection_made(transport)
        self.timeout_keep_alive = self.bounds.idle_seconds  # type: ignore[assignment]
        if len(self.connections) > self.bounds.connections + _BESIDE:
            transport.abort()
            return
        if len(self.connections) > self.bounds.connections:
            self.app = _too_many
        elif peer := _peer_at(transport):
            self.app = _knowing(self.app, peer)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time for the headers of a request begins with the first of them."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()  # A request is under way; its body has a limit of its own.
        elif self._patience is None and self.timeout_keep_alive_task is None:
            self._patience = self.loop.call_later(self.bounds.header_seconds, self._hang_up)

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        self._patience = None
        self.transport.abort()


def protocol_within(bounds: Bounds) -> type[BoundedProtocol]:
    """Give the protocol for connections within these bounds."""
    return type("BoundedProtocol", (BoundedProtocol,), {"bounds": bounds})


def peer_in(scope: Scope) -> Peer | None:
    """Give who the caller is by a certificate that the listener checked; None without one."""
    peer = scope.get("extensions", {}).get(PEER)
    return peer if isinstance(peer, Peer) else None


def _peer_at(transport: asyncio.Transport) -> Peer | None:
    secret = transport.get_extra_info("ssl_object")
    return None if secret is None else peer_of(secret.getpeercert())


def _knowing(app: ASGIApp, peer: Peer) -> ASGIApp:
    async def passed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), PEER: peer}
        await app(scope, receive, send)

    return passed


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    fault = BusyError(
        "The server holds as many connections as it may.",
        next_step="Close what you do not need and try again; an administrator can allow more with"
        " `server.connections`.",
        retry_after_seconds=5.0,
    )
    answer: Any = problem_of(fault, new_id("req"))
    answer.headers["connection"] = "close"
    await answer(scope, receive, send)
