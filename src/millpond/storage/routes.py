"""The route that signed addresses point at, of stores whose bytes go through the server."""

import re
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from millpond.ground.errors import NotAllowedError
from millpond.storage.port import ObjectStore
from millpond.storage.receiving import receive

_OPEN: dict[str, Any] = {"x-permission": "open", "security": []}


_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_KIND = "application/octet-stream"


class OwnRouteStore(ObjectStore, Protocol):
    """A store whose signed addresses point at this route."""

    def is_signed(self, method: str, key: str, expires: int, signature: str) -> bool:
        """Tell whether ``sign`` gave this signature out and it still holds."""
        ...


def routes(store: OwnRouteStore) -> APIRouter:
    """Give the routes, which stand at the root and need no token: the signature is the right."""
    router = APIRouter(tags=["objects"])
    Expires = Annotated[int, Query(description="Seconds since 1970.")]  # noqa: N806 - a type.
    Signature = Annotated[str, Query(max_length=100)]  # noqa: N806 - a type.

    def check(request: Request, key: str, expires: int, signature: str) -> None:
        if not store.is_signed(request.method, key, expires, signature):
            raise NotAllowedError(
                "The signed address is wrong or has expired.",
                next_step="Ask for a new one where you got this one.",
            )

    @router.head("/objects/{key:path}", openapi_extra=_OPEN, summary="Tell an object's size")
    @router.get("/objects/{key:path}", openapi_extra=_OPEN, summary="Fetch an object")
    def get_object(request: Request, key: str, expires: Expires, signature: Signature) -> Response:
        """Fetch an object, or ranges of it, by a signed address."""
        check(request, key, expires, signature)
        headers = {"Content-Disposition": "attachment"}
        path = store.local_path(key)
        if path is not None:
            return FileResponse(path, media_type=_KIND, headers=headers)
        return _streamed(store, key, request, headers)

    @router.put("/objects/{key:path}", openapi_extra=_OPEN, summary="Leave an object")
    async def put_object(
        request: Request, key: str, expires: Expires, signature: Signature
    ) -> Response:
        """Leave a new object under a key by a signed address."""
        check(request, key, expires, signature)
        await receive(request, lambda body: store.put(key, body))
        return Response()

    return router


def _streamed(store: ObjectStore, key: str, request: Request, headers: dict[str, str]) -> Response:
    """Give an object that lies elsewhere, or one range of it; of several ranges the whole."""
    size = store.stat(key).size
    span = _span(request.headers.get("range", ""), size)
    headers |= {"Accept-Ranges": "bytes"}
    start, end = span or (0, size)
    if span is not None:
        if start >= end:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=_KIND)
    pieces = store.stream(key, start, end - start)
    status = 200 if span is None else 206
    return StreamingResponse(pieces, status, headers, _KIND)


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Give start and end of the range that is asked for; empty when it cannot be had."""
    asked = _RANGE.fullmatch(text)
    if asked is None or not (asked[1] or asked[2]):
        return None
    if not asked[1]:
        return max(0, size - int(asked[2])), size
    return int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size
