"""A node's data route: takes, gives, pushes on and deletes objects for whom the server allows it.

Only the host and other nodes come in, by certificates of the installation's authority, and each
call carries a token that the server has signed for it.
"""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from millpond.ground.errors import (
    BusyError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
)
from millpond.ground.tls import Identity, Peer, peer_of
from millpond.storage.nodes.client import BATCH_BYTES, NodeClient, split_batch
from millpond.storage.nodes.disk import PIECE_BYTES, NodeDisk
from millpond.storage.nodes.mount import NoSpaceError
from millpond.storage.nodes.tokens import ANY, Token, TokenChecker
from millpond.storage.nodes.values import Target

log = logging.getLogger("millpond.storage")

PEER = "millpond.peer"
_KEEP_ALIVE_SECONDS = 75
_BATCH_MOST = BATCH_BYTES + (1 << 20)  # What frames the objects comes on top.
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_LINES = 1000
_NO_SPACE = 507

Handler = Callable[[Request], Awaitable[Response]]


def build_data_app(
    disk: NodeDisk,
    checker: TokenChecker,
    client: NodeClient,
    revoked: Callable[[], Collection[str]] = tuple,
) -> Starlette:
    """Give the routes of a node's data disk.

    Args:
        disk: what is served.
        checker: checks the server's tokens.
        client: shows this node's certificate to the node that a copy is pushed to.
        revoked: numbers of certificates that are refused from now on.
    """
    routes = _Routes(disk, checker, client, revoked)
    told = routes.told
    return Starlette(
        routes=[
            Route("/data/incoming/{id}", told(routes.put), methods=["PUT"]),
            Route("/data/batch", told(routes.put_many), methods=["POST"]),
            Route("/data/inventory", told(routes.list_all), methods=["GET"]),
            Route("/data/{digest}", told(routes.get), methods=["GET", "HEAD"]),
            Route("/data/{digest}", told(routes.delete), methods=["DELETE"]),
            Route("/data/{digest}/push", told(routes.push), methods=["POST"]),
            Route("/data/{digest}/check", told(routes.check), methods=["POST"]),
        ]
    )


class _Routes:
    def __init__(
        self,
        disk: NodeDisk,
        checker: TokenChecker,
        client: NodeClient,
        revoked: Callable[[], Collection[str]],
    ) -> None:
        self._disk, self._checker, self._client = disk, checker, client
        self._revoked = revoked

    async def put(self, request: Request) -> Response:
        """Take an object of unknown, or of the token's, digest."""
        token = self._allow(request, "PUT", None)
        wanted = None if token.digest == ANY else token.digest
        with await to_thread.run_sync(self._disk.receive, token.size_most, wanted) as incoming:
            async for piece in _gathered(request):
                await to_thread.run_sync(incoming.write, piece)
            receipt = await to_thread.run_sync(incoming.finish)
        return JSONResponse(receipt.to_json(), 201)

    async def put_many(self, request: Request) -> Response:
        """Take many small objects at once."""
        token = self._allow(request, "PUT", ANY)
        most, body = min(token.size_most, _BATCH_MOST), bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise TooLargeError(
                    f"The batch holds more than {most:,} bytes.", next_step="Send several."
                )
        try:
            objects = split_batch(bytes(body))
        except ValueError as fault:
            raise InvalidError(
                "The batch is cut off.",
                next_step="Send it again.",
                faults=[Fault("body", str(fault))],
            ) from fault
        receipt = await to_thread.run_sync(self._disk.put_many, objects)
        return JSONResponse(receipt.to_json(), 201)

    async def get(self, request: Request) -> Response:
        """Give an object or a range of it."""
        digest = request.path_params["digest"]
        self._allow(request, "GET", digest)
        path = await to_thread.run_sync(self._disk.path, digest)
        size = path.stat().st_size
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        start, end = 0, size
        headers = {"Accept-Ranges": "bytes"}
        if asked:
            start = int(asked[1])
            end = min(size, int(asked[2]) + 1) if asked[2] else size
            if start >= size or end <= start:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        kind = "application/octet-stream"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=kind)
        status = 206 if asked else 200
        return StreamingResponse(_pieces(path, start, end - start), status, headers, kind)

    async def delete(self, request: Request) -> Response:
        """Delete an object that no key names any more."""
        digest = request.path_params["digest"]
        token = self._allow(request, "DELETE", digest)
        await to_thread.run_sync(self._disk.delete, digest, token.epoch)
        return Response(status_code=204)

    async def check(self, request: Request) -> Response:
        """Hash a file anew; set it aside when it is damaged."""
        digest = request.path_params["digest"]
        self._allow(request, "CHECK", digest)
        if not await to_thread.run_sync(self._disk.check, digest):
            raise self._damaged(digest)
        return Response(status_code=204)

    async def push(self, request: Request) -> Response:
        """Send a copy to another node and hand its receipt back."""
        digest = request.path_params["digest"]
        self._allow(request, "PUSH", digest)
        said = await request.json()
        onward = Target(str(said["node"]), str(said["url"]), str(said["token"]))
        receipt = await to_thread.run_sync(self._send_on, digest, onward)
        return JSONResponse(receipt.to_json(), 201)

    async def list_all(self, request: Request) -> Response:
        """Give every digest with its size, a line each."""
        self._allow(request, "INVENTORY", ANY)
        held = self._disk.inventory(request.query_params.get("after", ""))
        return StreamingResponse(_lines(held), media_type="text/plain")

    def told(self, handler: Handler) -> Handler:
        """Turn faults into answers that say what is wrong and the next step."""

        async def ask(request: Request) -> Response:
            try:
                return await handler(request)
            except MillpondError as fault:
                status = _NO_SPACE if isinstance(fault, NoSpaceError) else fault.status
                said = {"code": fault.code, "message": fault.message, "next_step": fault.next_step}
                return JSONResponse(said, status, {"Connection": "close"})
            except ClientDisconnect:
                return Response(status_code=400)

        return ask

    def _send_on(self, digest: str, onward: Target) -> Any:
        path = self._disk.path(digest)
        try:
            return self._client.put(onward, _pieces(path, 0, path.stat().st_size))
        except InvalidError as fault:
            # The other node counted another digest: is it our file, or was it the way?
            if not self._disk.check(digest):
                raise self._damaged(digest) from fault
            raise BusyError(
                f"The copy for {onward.node!r} was damaged on the way.", next_step="Try again."
            ) from fault

    def _damaged(self, digest: str) -> NotFoundError:
        return NotFoundError(
            f"The node {self._disk.node!r} has no good copy of {digest[:16]}….",
            next_step="It is made again from another node's.",
        )

    def _allow(self, request: Request, method: str, digest: str | None) -> Token:
        peer = request.scope.get("extensions", {}).get(PEER)
        if not isinstance(peer, Peer) or peer.serial in self._revoked():
            raise NotAllowedError(
                "The caller's certificate is missing or was revoked.",
                next_step="Join the node again with `millpond node join`.",
            )
        text = request.headers.get("authorization", "")
        if digest is None:
            return self._checker.check_any(text, method)
        return self._checker.check(text, method, digest)


class DataServer:
    """Serves a node's data route in a thread with an event loop of its own."""

    def __init__(self, app: ASGIApp, identity: Identity, listening: socket.socket) -> None:
        """Serve on a listening socket; callers must show a certificate of our authority."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http=_KnowingProtocol,
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=5,
            ssl_context_factory=lambda *_: identity.server_context(require_client=True),
        )
        self._server = _Server(config)
        # The event loop does so only for sockets that it has opened itself. Without it each answer
        # waits 40 ms for the caller to acknowledge its headers.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listening = listening
        self._thread = threading.Thread(target=self._serve, name="data-route", daemon=True)

    def start(self) -> None:
        """Begin; connections are taken at once, since the socket listens already."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way gets five seconds."""
        self._server.should_exit = True
        self._thread.join(15)

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._listening]))


class _Server(uvicorn.Server):
    """Uvicorn that does not wait for callers who keep a connection without asking anything.

    In TLS the end of a connection is a word from both sides, and idle callers say nothing.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in list(self.server_state.connections):
            cycle = getattr(each, "cycle", None)
            if cycle is None or cycle.response_complete:
                each.transport.abort()
        await super().shutdown(sockets)


class _KnowingProtocol(H11Protocol):
    """Uvicorn's own, which does not tell the application who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        secret = transport.get_extra_info("ssl_object")
        peer = None if secret is None else peer_of(secret.getpeercert())
        self.app = partial(_with_peer, self.app, peer)


async def _with_peer(
    app: Any, peer: Peer | None, scope: Scope, receive: Receive, send: Send
) -> None:
    if peer is not None:
        scope["extensions"] = {**scope.get("extensions", {}), PEER: peer}
    await app(scope, receive, send)


async def _gathered(request: Request) -> AsyncIterator[bytearray]:
    """Give a body in pieces of a MiB: each costs a thread's turn."""
    gathered = bytearray()
    async for piece in request.stream():
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            yield gathered
            gathered = bytearray()
    if gathered:
        yield gathered


def _pieces(path: Path, start: int, length: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while length > 0 and (piece := file.read(min(length, PIECE_BYTES))):
            length -= len(piece)
            yield piece


def _lines(held: Any) -> Iterator[bytes]:
    lines: list[str] = []
    for each in held:
        lines.append(f"{each.digest} {each.size}\n")
        if len(lines) == _LINES:
            yield "".join(lines).encode()
            lines = []
    yield "".join(lines).encode()
