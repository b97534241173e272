"""REST of uploads: tus 1.0, with the rights and the words of the house.

Uploads are one's own: nobody else sees or continues them. A finished one answers with the digest
of its content (``Repr-Digest``, RFC 9530), by which a version then names it.
"""

import base64
from collections.abc import Callable, Coroutine
from email.utils import format_datetime
from typing import Annotated, Any, BinaryIO, cast

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute

from millpond.ground.errors import MillpondError
from millpond.ground.page import Page
from millpond.lake.receiving import RequestBody, make_lane
from millpond.lake.uploads import actions, rules
from millpond.lake.uploads.parts import SMALL_BYTES, Intake
from millpond.lake.uploads.values import Upload
from millpond.lake.values import LakeLimits
from millpond.people.actions import open_project
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs
from millpond.web.problems import problem_of

_TUS = {"Tus-Resumable": rules.VERSION}
_BODY = {
    "requestBody": {
        "content": {rules.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    }
}

Version = Annotated[str | None, Header(alias="Tus-Resumable", description=f"`{rules.VERSION}`.")]
Metadata = Annotated[
    str | None,
    Header(alias="Upload-Metadata", description="filename, relativePath and batch, as tus says."),
]
Length = Annotated[str | None, Header(alias="Upload-Length", description="Bytes of the whole.")]
Offset = Annotated[str | None, Header(alias="Upload-Offset", description="Where this begins.")]
Sum = Annotated[str | None, Header(alias="Upload-Checksum", description="sha1 or sha256.")]


class TusRoute(APIRoute):
    """A route whose answers, faults too, name the protocol's version."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await answer(request)
            except MillpondError as fault:
                response = problem_of(fault, request.scope["state"]["request_id"])
                if isinstance(fault, rules.WrongVersionError):
                    response.headers["Tus-Version"] = rules.VERSION
            response.headers.update(_TUS)
            return response

        return handle


def routes(objects: ObjectStore, limits: LakeLimits) -> APIRouter:
    """Make the routes on an object store."""
    router = APIRouter(prefix="/projects/{project}/uploads", tags=["uploads"], route_class=TusRoute)
    intake = Intake(objects, limits)
    lane = make_lane()
    _add_creation(router, intake, limits, lane)
    _add_pieces(router, intake, lane)
    _add_reading(router, intake)
    return router


def _add_creation(
    router: APIRouter, intake: Intake, limits: LakeLimits, lane: CapacityLimiter
) -> None:
    @router.options("", status_code=204, **needs("dataset.write"))
    def describe_uploads(call: CallIn, project: str) -> Response:
        """Tell tus clients what this server can do."""
        _find_project(call, project)
        headers = {
            "Tus-Version": rules.VERSION,
            "Tus-Extension": rules.EXTENSIONS,
            "Tus-Max-Size": str(limits.file_bytes),
            "Tus-Checksum-Algorithm": ",".join(rules.ALGORITHMS),
        }
        return Response(status_code=204, headers=headers)

    @router.post("", status_code=201, **needs("dataset.write", **_BODY))
    async def make_upload(
        call: CallIn, project: str, request: Request, version: Version = None,
        length: Length = None, metadata: Metadata = None, checksum: Sum = None,
    ) -> Response:  # fmt: skip
        """Begin an upload; its first bytes, or all of them, may come along."""
        body = cast("BinaryIO", RequestBody(request))
        sent = request.headers.get("content-type") is not None

        def work() -> Upload:
            project_id = _find_project(call, project)
            rules.check_version(version)
            size = rules.read_number("Upload-Length", length)
            asked = rules.read_asked(rules.read_metadata(metadata), size, limits)
            summed = rules.read_checksum(checksum)
            came = _length_of(request)
            if sent:
                rules.check_type(request.headers.get("content-type"))
                rules.check_offset(0, 0, size, came)
            if sent and came == size <= SMALL_BYTES:
                return intake.receive_whole(call, call.actor, project_id, asked, body, summed)
            made = call.change(
                lambda tx: actions.make_upload(tx, call.actor, project_id, asked, limits)
            )
            return (
                intake.receive(call, project_id, made, body, summed) if sent or not size else made
            )

        made = await to_thread.run_sync(work, limiter=lane)
        place = f"{request.url.path.rstrip('/')}/{made.id}"
        return Response(status_code=201, headers={"Location": place, **_facts(made)})


def _add_pieces(router: APIRouter, intake: Intake, lane: CapacityLimiter) -> None:
    @router.patch("/{upload}", status_code=204, **needs("dataset.write", **_BODY))
    async def send_piece(
        call: CallIn, project: str, upload: str, request: Request, version: Version = None,
        offset: Offset = None, checksum: Sum = None,
    ) -> Response:  # fmt: skip
        """Send bytes from where the upload stands; what came when the line broke is kept."""
        body = cast("BinaryIO", RequestBody(request))

        def work() -> Upload:
            project_id, found = _find(call, project, upload)
            rules.check_version(version)
            rules.check_type(request.headers.get("content-type"))
            start = rules.read_number("Upload-Offset", offset)
            summed = rules.read_checksum(checksum)
            rules.check_offset(start, found.received_bytes, found.size_bytes, _length_of(request))
            return intake.receive(call, project_id, found, body, summed)

        moved = await to_thread.run_sync(work, limiter=lane)
        return Response(status_code=204, headers=_facts(moved))

    @router.delete("/{upload}", status_code=204, **needs("dataset.write"))
    def remove_upload(call: CallIn, project: str, upload: str) -> None:
        """Give an upload up; what has come is deleted."""
        project_id = _find_project(call, project)
        parts = call.change(lambda tx: actions.remove_upload(tx, call.actor, project_id, upload))
        intake.forget(upload, parts)


def _add_reading(router: APIRouter, intake: Intake) -> None:
    @router.get("", **needs("dataset.write"))
    def list_uploads(
        call: CallIn, project: str, page: PageIn,
        is_finished: Annotated[
            bool | None, Query(alias="finished", description="Only those, or only the others.")
        ] = None,
    ) -> Page[Upload]:  # fmt: skip
        """List your uploads in this project, oldest first."""
        return call.read(
            lambda tx: actions.list_uploads(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "dataset.write").id,
                is_finished=is_finished,
                cursor=page.cursor,
                limit=page.limit,
            )
        )

    @router.head("/{upload}", status_code=200, **needs("dataset.write"))
    def tell_offset(call: CallIn, project: str, upload: str, version: Version = None) -> Response:
        """Tell where an upload stands."""
        project_id, found = _find(call, project, upload)
        rules.check_version(version)
        found = intake.finish(call, project_id, found)
        headers = {"Upload-Length": str(found.size_bytes), "Cache-Control": "no-store"}
        return Response(headers={**headers, **_facts(found)})

    @router.get("/{upload}", **needs("dataset.write"))
    def get_upload(call: CallIn, project: str, upload: str) -> Upload:
        """Show an upload; once it is whole, with the digest of its content."""
        project_id, found = _find(call, project, upload)
        return intake.finish(call, project_id, found)


def _facts(upload: Upload) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(upload.received_bytes),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }
    if upload.digest is not None:
        text = base64.b64encode(bytes.fromhex(upload.digest)).decode()
        headers["Repr-Digest"] = f"sha-256=:{text}:"
    return headers


def _length_of(request: Request) -> int | None:
    given = request.headers.get("content-length")
    return None if given is None else rules.read_number("Content-Length", given)


def _find_project(call: Call, project: str) -> str:
    return call.read(lambda tx: open_project(tx, call.actor, project, "dataset.write").id)


def _find(call: Call, project: str, upload: str) -> tuple[str, Upload]:
    def find(tx: Transaction) -> tuple[str, Upload]:
        project_id = open_project(tx, call.actor, project, "dataset.write").id
        return project_id, actions.get_upload(tx, call.actor, project_id, upload)

    return call.read(find)
