"""A listener that speaks TLS, and says so to whoever begins in plain HTTP.

asyncio's own would cut such a caller off without a word. Every connection is looked at without
taking a byte from it: what begins as TLS goes on as TLS.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from millpond.ground.errors import InvalidError
from millpond.ground.ids import new_id
from millpond.web.problems import problem_of

log = logging.getLogger("millpond.web")

_HANDSHAKE = b"\x16"  # The first byte of TLS: a record of the kind "handshake" (RFC 8446, 5.1).
_HEAD_BYTES = 8 << 10
_BREATH_SECONDS = 1.0
_AT_ONCE = 64
_PLACE = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_PATH = re.compile(r"/[!-~]*")


class TlsListener:
    """Takes connections of a listening socket into TLS; closed as asyncio's own servers are."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        seconds: float,
        most: int,
    ) -> None:
        """Begin to listen; called on the event loop.

        Args:
            listening: the socket.
            context: the certificate, and who is let in.
            make_protocol: makes what speaks on a connection once it is secret.
            seconds: how long a connection may take to become so.
            most: connections on the way to it at the same time; further ones are cut off.
        """
        self._loop = asyncio.get_running_loop()
        self._listening, self._context, self._make = listening, context, make_protocol
        self._seconds, self._most = seconds, most
        self._pending: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listening.settimeout(0)
        self._listen()

    def close(self) -> None:
        """Take no more connections; those that have not become secret yet are cut off."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening)
            for task in self._pending:
                task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of those on the way."""
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                taken, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # No descriptor is free: others must end first.
                log.exception("No connection can be taken")
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_BREATH_SECONDS, self._listen)
                return
            if len(self._pending) >= self._most:
                taken.close()
                continue
            taken.settimeout(0)
            task = self._loop.create_task(self._greet(taken))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _greet(self, taken: socket.socket) -> None:
        is_ours = True
        try:
            async with asyncio.timeout(self._seconds):
                await self._wait_readable(taken)
                first = taken.recv(1, socket.MSG_PEEK)
                if first == _HANDSHAKE:
                    is_ours = False  # From here on the transport closes it.
                    await self._loop.connect_accepted_socket(
                        self._make,
                        taken,
                        ssl=self._context,
                        ssl_handshake_timeout=self._seconds,
                        # One that waits in somebody's pool does not read our goodbye.
                        ssl_shutdown_timeout=_BREATH_SECONDS,
                    )
                elif first:
                    await self._tell(taken)
        except TimeoutError:
            pass
        except ssl.SSLError as fault:
            log.info("A caller could not be taken into TLS", extra={"reason": str(fault)})
        except OSError:
            pass  # The caller hung up.
        finally:
            if is_ours:
                taken.close()

    async def _wait_readable(self, taken: socket.socket) -> None:
        came = asyncio.Event()
        self._loop.add_reader(taken, came.set)
        try:
            await came.wait()
        finally:
            self._loop.remove_reader(taken)

    async def _tell(self, taken: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
            more = await self._loop.sock_recv(taken, _HEAD_BYTES)
            if not more:
                return
            head += more
        await self._loop.sock_sendall(taken, answer_plain(head, taken.getsockname()[1]))
        taken.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):  # Closed with something unread, the answer could be lost.
            async with asyncio.timeout(_BREATH_SECONDS):
                while await self._loop.sock_recv(taken, 1 << 16):
                    pass


def answer_plain(head: bytes, port: int) -> bytes:
    """Answer a request that came in plain HTTP: lead a browser on, tell a program."""
    line, *rest = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (
        each.partition(":") for each in rest
    )}  # fmt: skip
    method, _, target = line.partition(" ")
    path = target.rpartition(" ")[0]
    host = headers.get("host", "")
    place = host if _PLACE.fullmatch(host) else f"HOST:{port}"
    is_browser = method in ("GET", "HEAD") and "text/html" in headers.get("accept", "")
    if is_browser and place == host and _PATH.fullmatch(path):
        return _write("307 Temporary Redirect", [f"location: https://{place}{path}"], b"")
    fault = InvalidError(
        "This server speaks HTTPS here, and the request came in plain HTTP.",
        next_step=f"Use the same address with https: https://{place}",
    )
    told = problem_of(fault, new_id("req"))
    kind = f"content-type: {told.headers['content-type']}"
    return _write("400 Bad Request", [kind], bytes(told.body))


def _write(status: str, headers: list[str], body: bytes) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        *headers,
        f"content-length: {len(body)}",
        "connection: close",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
