"""What every request passes: its id, its name for us, its limits, its headers, its line in the log.

Written against ASGI itself: the framework's own class for this costs a task and two queues for
each request, and breaks streams.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.ground.errors import MillpondError, NotSignedInError, TooLargeError
from millpond.ground.ids import new_id
from millpond.ground.logs import REQUEST_ID
from millpond.web.calls import find_caller
from millpond.web.hosts import Hosts
from millpond.web.intake import check_address
from millpond.web.metrics import Meters
from millpond.web.problems import problem_of, problem_of_defect

log = logging.getLogger("millpond.web")

_STRANGERS_BYTES = 64 << 10
"""The most that is taken from somebody who is not signed in."""
_PATIENCE_SECONDS = 60.0
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    # Users' files are served too: whatever they hold, a browser runs none of it.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; sandbox",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Gate:
    """The one middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int,
        streams: re.Pattern[str],
        meters: Meters,
        hosts: Hosts,
        strict_seconds: int = 0,
    ) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if strict_seconds:
            self._headers[b"strict-transport-security"] = f"max-age={strict_seconds}".encode()
        self._body_bytes = body_bytes
        self._streams = streams
        self._meters = meters
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _header(scope["headers"], b"x-request-id")
        request_id = given if _SANE_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        mark = REQUEST_ID.set(request_id)
        passage = _Passage(scope, receive, send, self._limit(scope), self._headers)
        start = time.perf_counter()
        try:
            await self._answer(passage, request_id)
        finally:
            seconds = time.perf_counter() - start
            self._count(scope, passage.status, seconds)
            REQUEST_ID.reset(mark)

    async def _answer(self, passage: "_Passage", request_id: str) -> None:
        scope = passage.scope
        try:
            self._check(scope)
        except MillpondError as fault:
            await problem_of(fault, request_id)(scope, passage.receive, passage.send)
            return
        try:
            await self._app(scope, passage.receive, passage.send)
        except ClientDisconnect:
            log.info("The caller hung up", extra={"path": scope["path"]})
        except TooLargeError as fault:
            if passage.status:
                raise
            passage.closes = True
            await problem_of(fault, request_id)(scope, passage.receive, passage.send)
        except Exception:
            incident = f"{secrets.token_hex(4)}-{secrets.token_hex(2)}"
            log.exception(
                "Defect",
                extra={"incident": incident, "method": scope["method"], "path": scope["path"]},
            )
            if passage.status:
                raise  # Half an answer is out: the server must cut the connection.
            await problem_of_defect(incident, request_id)(scope, passage.receive, passage.send)

    def _check(self, scope: Scope) -> None:
        headers = scope["headers"]
        self._hosts.check(scope["method"], _header(headers, b"host"), _header(headers, b"origin"))
        check_address(scope)

    def _limit(self, scope: Scope) -> int | None:
        return None if self._streams.search(scope["path"]) else self._body_bytes

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        template = getattr(scope.get("route"), "path", "") or "(none)"
        self._meters.count_request(scope["method"], template, status, seconds)
        log.info(
            "Request",
            extra={
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


class _Passage:
    """One request on its way: counts what comes in, dresses what goes out."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limit: int | None,
        dress: Mapping[bytes, bytes],
    ) -> None:
        self.scope = scope
        self._dress = dress
        self.status = 0
        self.closes = False
        self._receive = receive
        self._send = send
        self._limit = limit
        self._received = 0
        self._is_whole = False
        self._is_known = False

    async def receive(self) -> Message:
        if self._limit is not None and not self._received:
            declared = _header(self.scope["headers"], b"content-length")
            await self._check(int(declared) if declared.isdecimal() else 0)
        if self._is_whole:
            return await self._receive()  # What comes now is that the caller hangs up.
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request's body did not come.") from None
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        await self._check(self._received)
        return message

    async def _check(self, size: int) -> None:
        if self._limit is None:
            return
        if size > self._limit:
            raise TooLargeError(
                f"The request's body holds more than {self._limit:,} bytes.",
                next_step="Send less at a time; files go up through `millpond dataset push`.",
                limit_bytes=self._limit,
            )
        if size > _STRANGERS_BYTES and not self._is_known:
            # The framework reads a body before it looks who has sent it.
            if await find_caller(Request(self.scope)) is None:
                raise NotSignedInError(
                    "Nobody is signed in, or the token is wrong.",
                    next_step="Sign in with `millpond login`, or send"
                    " `Authorization: Bearer TOKEN`.",
                )
            self._is_known = True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[Any] = list(message.get("headers", []))
            there = {bytes(name).lower() for name, _ in headers}
            headers += [(name, value) for name, value in self._dress.items() if name not in there]
            headers.append((b"x-request-id", self.scope["state"]["request_id"].encode()))
            if self.closes:  # The rest of a body that is too large is not read.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""
