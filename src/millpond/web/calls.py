"""One call: who calls, and the three ways to act for them."""

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from fastapi.encoders import jsonable_encoder
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from millpond.ground.actor import Actor
from millpond.ground.errors import (
    ConflictError,
    Fault,
    InvalidError,
    NotAllowedError,
    NotSignedInError,
)
from millpond.ground.page import PAGE_LIMIT, PAGE_LIMIT_MOST
from millpond.storage.database import Database, Transaction
from millpond.web import store
from millpond.web.hosts import READING, is_numeric_or_local
from millpond.web.intake import check_json

T = TypeVar("T")

FindActor = Callable[[Transaction, str, bool], Actor | None]
"""Token, and whether the call is local, to the actor; None for a token that is good for nothing.
The transaction only reads."""

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_SMALL_BYTES = 64 << 10


class Replayed(Exception):  # noqa: N818 - not an error: it carries the answer past the route.
    """The request was answered before; the frame sends that answer again."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__("replayed")
        self.status = status
        self.body = body


class _Call:
    """What both kinds of call can do."""

    def __init__(self, request: Request, database: Database, actor: Actor | None) -> None:
        self.request = request
        self.request_id: str = request.scope["state"]["request_id"]
        self.database = database
        self._actor = actor
        self._key = ""
        self._digest = ""

    def read(self, action: Callable[[Transaction], T]) -> T:
        """Run an action that only reads, in one snapshot."""
        return self.database.read(action)

    def change(self, action: Callable[[Transaction], T]) -> T:
        """Run an action in one transaction."""
        return self.database.change(action, self.request_id)

    def make(self, action: Callable[[Transaction], T], *, keep: bool = True) -> T:
        """Run an action that makes something, once for each Idempotency-Key.

        The route returns what this returns. The same request with the same key is answered as
        the first time; where the answer holds a secret, say ``keep=False``: it is not kept, and
        the second request gets a conflict instead.

        Raises:
            ConflictError: the key came with another request before.
        """
        if not self._key or self._actor is None:
            return self.change(action)
        user_id, digest = self._actor.user_id, self._digest
        place = f"{user_id}\n{self.request.method} {self.request.url.path}\n{self._key}"
        key_id = hashlib.sha256(place.encode()).hexdigest()

        def once(tx: Transaction) -> T:
            kept = store.claim(tx, key_id, user_id, digest)
            if kept is not None:
                _replay(kept, digest)
            value = action(tx)
            status, body = self._answer(value, keep=keep)
            store.settle(tx, key_id, status, body, is_kept=keep)
            return value

        return self.change(once)

    async def read_key(self) -> None:
        """Take the Idempotency-Key, if any, and the digest of what was sent."""
        key = self.request.headers.get("idempotency-key", "")
        if not key:
            return
        if not _KEY.fullmatch(key):
            raise InvalidError(
                "The Idempotency-Key is not 1 to 200 printable characters.",
                next_step="Send a random text of your own, such as a UUID.",
                faults=[Fault("Idempotency-Key", "1 to 200 printable ASCII characters, no spaces")],
            )
        sent = hashlib.sha256(str(self.request.url.query).encode() + b"\n")
        if _has_read_body(self.request):
            sent.update(await self.request.body())
        self._key, self._digest = key, sent.hexdigest()

    def _answer(self, value: object, *, keep: bool) -> tuple[int, Any]:
        route = self.request.scope.get("route")
        status = getattr(route, "status_code", None) or 200
        if not keep:
            return status, None
        model = getattr(route, "response_model", None)
        if model is None:
            return status, jsonable_encoder(value)
        return status, _adapter(model).dump_python(value, mode="json")


class Call(_Call):
    """A call of somebody who is signed in."""

    @property
    def actor(self) -> Actor:
        """Who calls."""
        assert self._actor is not None  # noqa: S101 - `_signed_in` has seen to it.
        return self._actor


class OpenCall(_Call):
    """A call that needs nobody to be signed in."""

    @property
    def actor(self) -> Actor | None:
        """Who calls, if anybody."""
        return self._actor


class PageAsked:
    """Which page of a list is wanted."""

    def __init__(
        self,
        cursor: Annotated[
            str | None, Query(description="`next_cursor` of the page before.", max_length=1000)
        ] = None,
        limit: Annotated[
            int, Query(ge=1, le=PAGE_LIMIT_MOST, description="How many at most.")
        ] = PAGE_LIMIT,
    ) -> None:
        self.cursor = cursor
        self.limit = limit


@lru_cache(512)
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _replay(kept: store.KeptAnswer, digest: str) -> None:
    if kept.request_digest != digest:
        raise ConflictError(
            "This Idempotency-Key came before with another request.",
            next_step="Use a new key for each new request, and the same only to repeat one.",
        )
    if not kept.is_kept:
        raise ConflictError(
            "This was made already by a request with the same Idempotency-Key; its answer held a"
            " secret and was not kept.",
            next_step="List what there is; to get a new secret, make another with a new key.",
        )
    raise Replayed(kept.status, kept.body)


def token_of(request: Request) -> str:
    """Take the token: from the Authorization header, else from the portal's cookie.

    Raises:
        NotAllowedError: it comes by cookie, would change something, and is no page of ours that
            sends it.
    """
    given = request.headers.get("authorization", "")
    if given:
        scheme, _, token = given.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    name: str = getattr(request.app.state, "session_cookie", "")
    token = request.cookies.get(name, "") if name else ""
    if token:
        check_same_origin(request)
    return token


def check_same_origin(request: Request) -> None:
    """Refuse what would change something and does not come from a page of this server.

    Browsers send cookies along with what other sites make them send; they also say where it
    comes from (Sec-Fetch-Site; older ones Origin, which the gate has compared with the Host).

    Raises:
        NotAllowedError: it comes from elsewhere, or does not say.
    """
    if request.method in READING:
        return
    site = request.headers.get("sec-fetch-site", "")
    origin = request.headers.get("origin", "")
    if site == "same-origin" or (not site and origin not in ("", "null")):
        return
    raise NotAllowedError(
        "This did not come from a page of Millpond.",
        next_step="Open the page here and send it from there; programs send"
        " `Authorization: Bearer TOKEN`.",
    )


def is_local(request: Request) -> bool:
    """Tell whether the caller sits on this machine: loopback, and no proxy in between.

    A name other than ``localhost`` was resolved by somebody, perhaps for a page that a browser
    on this machine shows: that is not local.
    """
    host = request.client.host if request.client else ""
    passed_on = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    is_named = not is_numeric_or_local(request.headers.get("host", ""))
    is_loopback = host == "::1" or host.startswith(("127.", "::ffff:127."))
    return is_loopback and not passed_on and not is_named


async def find_caller(request: Request) -> Actor | None:
    """Find who calls, by the function that main has given the frame."""
    token = token_of(request)
    if not token:
        return None
    find_actor: FindActor = request.app.state.find_actor
    database: Database = request.app.state.database
    local = is_local(request)
    return await run_in_threadpool(database.read, lambda tx: find_actor(tx, token, local))


async def _signed_in(request: Request) -> Call:
    actor = await find_caller(request)
    if actor is None:
        has_token = bool(request.headers.get("authorization"))
        raise NotSignedInError(
            "The token is wrong, expired or withdrawn." if has_token else "Nobody is signed in.",
            next_step="Sign in with `millpond login`, or send `Authorization: Bearer TOKEN`.",
        )
    call = Call(request, request.app.state.database, actor)
    await _check_body(request)
    await call.read_key()
    return call


async def _anyone(request: Request) -> OpenCall:
    try:
        actor = await find_caller(request)
    except NotSignedInError:  # An expired token must not keep anybody from signing in anew.
        actor = None
    call = OpenCall(request, request.app.state.database, actor)
    await _check_body(request)
    await call.read_key()
    return call


def _has_read_body(request: Request) -> bool:
    """Tell whether the framework has read the body; where it has not, the route streams it."""
    return getattr(request.scope.get("route"), "body_field", None) is not None


async def _check_body(request: Request) -> None:
    if not _has_read_body(request):
        return
    body = await request.body()
    try:
        value = await request.json() if body else None
    except ValueError:  # No JSON at all: the framework tells what was wanted.
        return
    if len(body) < _SMALL_BYTES:
        check_json(value)
    else:
        await run_in_threadpool(check_json, value)


CallIn = Annotated[Call, Depends(_signed_in)]
AnyoneIn = Annotated[OpenCall, Depends(_anyone)]
PageIn = Annotated[PageAsked, Depends(PageAsked)]


def needs(permission: str, **extra: Any) -> dict[str, Any]:
    """Declare the permission of a route: ``@router.get(path, **needs("run.read"))``."""
    stated = {"x-permission": permission, "security": [{"token": []}], **extra}
    return {"openapi_extra": stated}


def open_route(**extra: Any) -> dict[str, Any]:
    """Declare that a route needs nobody to be signed in: its ``x-permission`` is ``open``."""
    return {"openapi_extra": {"x-permission": "open", "security": [], **extra}}
