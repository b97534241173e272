"""The frame that rooms' routes hang in; it knows no noun.

Public here: ``build_frame``, and for routes ``CallIn``, ``AnyoneIn``, ``PageIn``, ``needs`` and
``open_route``.
"""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from millpond.ground.errors import MillpondError
from millpond.storage.database import Database
from millpond.web.calls import (
    AnyoneIn,
    Call,
    CallIn,
    FindActor,
    OpenCall,
    PageAsked,
    PageIn,
    Replayed,
    is_local,
    needs,
    open_route,
)
from millpond.web.gate import Gate
from millpond.web.hosts import Hosts
from millpond.web.metrics import Meters
from millpond.web.problems import MEDIA_TYPE, SCHEMA, as_error, problem_of, problem_of_http

__all__ = [
    "AnyoneIn",
    "Call",
    "CallIn",
    "OpenCall",
    "PageAsked",
    "PageIn",
    "build_frame",
    "is_local",
    "needs",
    "open_route",
]

_PROBLEM = {
    "description": "The request failed; says why and what to do.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_NO_STREAMS = re.compile(r"(?!)")


def build_frame(
    database: Database,
    find_actor: FindActor,
    *,
    version: str = "0",
    body_bytes: int = 32 << 20,
    streams: re.Pattern[str] = _NO_STREAMS,
    meters: Meters | None = None,
    hosts: Hosts | None = None,
    strict_seconds: int = 0,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Build the application that rooms' routers are included in.

    Args:
        database: where calls are read and written.
        find_actor: token, and whether the call is local, to the actor.
        version: shown in the API's description.
        body_bytes: the most that a request's body may hold, but for ``streams``.
        streams: paths whose routes read the body piece by piece and set their own limit.
        meters: where requests are counted.
        hosts: the names that this server answers to; any without.
        strict_seconds: how long browsers shall come by TLS alone; 0 says nothing to them.
        lifespan: what to start and stop with the application.
    """
    app = FastAPI(
        title="Millpond",
        version=version,
        description="The REST interface of Millpond, a self-hosted data-science workshop.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # Its page would load scripts from elsewhere.
        redoc_url=None,
        redirect_slashes=False,  # It would lead wherever the Host header says.
        lifespan=lifespan,
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
    )
    app.state.database = database
    app.state.find_actor = find_actor
    app.add_middleware(
        Gate,
        body_bytes=body_bytes,
        streams=streams,
        meters=meters or Meters(),
        hosts=hosts or Hosts(),
        strict_seconds=strict_seconds,
    )
    app.add_exception_handler(MillpondError, _told)
    app.add_exception_handler(RequestValidationError, _told_invalid)
    app.add_exception_handler(HTTPException, _told_http)
    app.add_exception_handler(Replayed, _replayed)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        text = describe()
        parts = text.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = SCHEMA
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return text

    # FastAPI's documented way to extend the description.
    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _id_of(request: Request) -> str:
    return str(request.scope["state"]["request_id"])


async def _told(request: Request, fault: Exception) -> JSONResponse:
    assert isinstance(fault, MillpondError)  # noqa: S101 - registered for it alone.
    return problem_of(fault, _id_of(request))


async def _told_invalid(request: Request, fault: Exception) -> JSONResponse:
    assert isinstance(fault, RequestValidationError)  # noqa: S101 - registered for it alone.
    return problem_of(as_error(fault), _id_of(request))


async def _told_http(request: Request, fault: Exception) -> JSONResponse:
    assert isinstance(fault, HTTPException)  # noqa: S101 - registered for it alone.
    if isinstance(fault.__cause__, MillpondError):  # FastAPI wraps what reading the body raises.
        return problem_of(fault.__cause__, _id_of(request))
    return problem_of_http(fault, _id_of(request))


async def _replayed(request: Request, answer: Exception) -> JSONResponse:
    del request
    assert isinstance(answer, Replayed)  # noqa: S101 - registered for it alone.
    return JSONResponse(answer.body, answer.status, {"Idempotency-Replayed": "true"})
