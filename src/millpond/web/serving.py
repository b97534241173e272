"""Listen on an address and serve an application there until the process is told to stop."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from millpond.ground.errors import ConflictError
from millpond.ground.settings import ServerSettings
from millpond.web.connections import Bounds, protocol_within
from millpond.web.proxies import BehindProxies


def listen(host: str, port: int) -> socket.socket:
    """Take an address; port 0 takes a free one.

    Raises:
        ConflictError: another program has it, or it is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
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


def url_of(listening: socket.socket) -> str:
    """Give the address by which this machine reaches a listening socket."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only.
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_app(
    app: FastAPI,
    listening: socket.socket,
    *,
    ready: Callable[[], None],
    closing: Callable[[], None],
    chosen: ServerSettings,
) -> None:
    """Serve until SIGTERM or SIGINT; requests then get ``stop_seconds`` to end.

    Args:
        app: the application.
        listening: the socket that it is served on.
        ready: called once it answers.
        closing: called on the event loop when it begins to stop: ends the streams.
        chosen: bounds of connections, the proxies that are believed, the time to stop.
    """
    bounds = Bounds(chosen.connections, chosen.idle_seconds, chosen.header_seconds)
    config = uvicorn.Config(
        BehindProxies(app, chosen.trusted_proxies) if chosen.trusted_proxies else app,
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
    asyncio.run(_Server(config, ready, closing).serve([listening]))


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready and when it ends, and then returns."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], closing: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)

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
