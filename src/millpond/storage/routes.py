"""The route that the folder store's signed addresses point at."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from millpond.ground.errors import NotAllowedError
from millpond.storage.folder import FolderStore
from millpond.storage.receiving import receive

_OPEN: dict[str, Any] = {"x-permission": "open", "security": []}


def routes(store: FolderStore) -> APIRouter:
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
    def get_object(
        request: Request, key: str, expires: Expires, signature: Signature
    ) -> FileResponse:
        """Fetch an object, or ranges of it, by a signed address."""
        check(request, key, expires, signature)
        return FileResponse(
            store.local_path(key),
            media_type="application/octet-stream",
            headers={"Content-Disposition": "attachment"},
        )

    @router.put("/objects/{key:path}", openapi_extra=_OPEN, summary="Leave an object")
    async def put_object(
        request: Request, key: str, expires: Expires, signature: Signature
    ) -> Response:
        """Leave a new object under a key by a signed address."""
        check(request, key, expires, signature)
        await receive(request, lambda body: store.put(key, body))
        return Response()

    return router
