"""Listen on an address and serve an application there until the process is told to stop."""

import asyncio
import errno
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from millpond.ground.errors import ConflictError
from millpond.ground.settings import ServerSettings
from millpond.web.connections import Bounds, protocol_within
from millpond.web.greeting import TlsListener
from millpond.web.proxies import BehindProxies


@dataclass(frozen=True)
class Door:
    """A second application of the same process, with a listener of its own.

    Attributes:
        app: the application; who calls it is told by ``web.connections.peer_in``.
        listening: its socket, from ``listen``.
        context: its TLS: ``Identity.server_context(require_client=True)`` lets in only who has
            a certificate of the installation's authority.
    """

    app: ASGIApp
    listening: socket.socket
    context: ssl.SSLContext


def listen(host: str, port: int) -> socket.socket:
    """Take an address; port 0 takes a free one.

    Raises:
        ConflictError: another program has it, or it is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=512)
    except OSError as fault:
        reason = {
            errno.EADDRINUSE: "another program listens there",
            errno.EACCES: "this user may not listen there",
            errno.EADDRNOTAVAIL: "it is no address of this machine",
        }.get(fault.errno or 0, str(fault))
        raise ConflictError(
            f"Millpond cannot listen on {host} port {port}: {reason}.",
            next_step="Choose another with `--port PORT`; `--port 0` takes a free one.",
        ) from fault
    # The event loop does so only for sockets that it has opened itself. Without it an answer may
    # wait 40 ms for the caller to acknowledge its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Give the address by which this machine reaches a listening socket."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only.
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def serve_app(
    app: ASGIApp,
    listening: socket.socket,
    *,
    ready: Callable[[], None],
    closing: Callable[[], None],
    chosen: ServerSettings,
    context: ssl.SSLContext | None = None,
    doors: Sequence[Door] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; requests then get ``stop_seconds`` to end.

    Args:
        app: the application.
        listening: the socket that it is served on.
        ready: called once it answers, and every door does.
        closing: called on the event loop when it begins to stop: ends the streams.
        chosen: bounds of connections, the proxies that are believed, the time to stop.
        context: the TLS that it speaks; plain HTTP without.
        doors: what is served beside it, from its start to its end.
    """
    first = BehindProxies(app, chosen.trusted_proxies) if chosen.trusted_proxies else app
    beside = [_Listener(_config(door.app, chosen), door.context) for door in doors]
    server = _Server(_config(first, chosen), context, beside, ready, closing)
    try:
        asyncio.run(server.serve([listening, *(door.listening for door in doors)]))
    finally:
        for door in doors:
            door.listening.close()


def _config(app: ASGIApp, chosen: ServerSettings) -> uvicorn.Config:
    bounds = Bounds(chosen.connections, chosen.idle_seconds, chosen.header_seconds)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=protocol_within(bounds),
        loop="asyncio",
        proxy_headers=False,  # `BehindProxies` knows whom to believe; uvicorn asks no one else.
        server_header=False,
        timeout_graceful_shutdown=max(1, round(chosen.stop_seconds)),
    )


class _Listener(uvicorn.Server):
    """Uvicorn on one socket, by TLS or without; with bounds of its own."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._context = context
        config.load()
        self.lifespan = config.lifespan_class(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._context is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for one in sockets or ():
            self.servers.append(self._take_into_tls(one, self._context))  # type: ignore[arg-type]

    def _take_into_tls(self, one: socket.socket, context: ssl.SSLContext) -> TlsListener:
        def make_protocol() -> asyncio.Protocol:
            protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state={}
            )
            return protocol

        bounds: Bounds = self.config.http_protocol_class.bounds  # type: ignore[attr-defined]
        return TlsListener(
            one,
            context,
            make_protocol,
            seconds=bounds.header_seconds,
            most=bounds.connections,
        )


class _Server(_Listener):
    """The first listener: says when all are ready and when it ends, and then returns."""

    def __init__(
        self,
        config: uvicorn.Config,
        context: ssl.SSLContext | None,
        beside: Sequence[_Listener],
        ready: Callable[[], None],
        closing: Callable[[], None],
    ) -> None:
        super().__init__(config, context)
        self._beside = beside
        self._ready = ready
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        own, *others = sockets or []
        for listener, one in zip(self._beside, others, strict=True):
            await listener.startup([one])
        await super().startup([own])
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        for listener in self._beside:
            await listener.on_tick(counter)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        own, *others = sockets or []
        self._closing()
        for listener in self._beside:
            listener.force_exit = self.force_exit
        await asyncio.gather(
            super().shutdown([own]),
            *(each.shutdown([one]) for each, one in zip(self._beside, others, strict=True)),
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals and keep them; uvicorn's own would raise them once more at the end."""
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
