"""REST of what runs left: the list, one file, all as a zip, previews."""

from functools import lru_cache, partial
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.ground.page import Page, decode_cursor, encode_cursor
from millpond.lake.downloads import answer_content, disposition
from millpond.lake.values import FileEntry, decode_path
from millpond.people.actions import open_project
from millpond.pipelines.outputs.archive import stream_zip
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.outputs.values import OutputManifest
from millpond.pipelines.runs import actions
from millpond.pipelines.values import Run
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

_MANIFESTS_KEPT = 8


class Outputs:
    """Finds what runs left; keeps the manifests that were read last."""

    def __init__(self, objects: ObjectStore) -> None:
        self._read = lru_cache(_MANIFESTS_KEPT)(partial(read_outputs, objects))

    def of(self, call: Call, project: str, run: str) -> tuple[Run, OutputManifest]:
        """Give a run and its outputs.

        Raises:
            ConflictError: it has none, or not yet.
        """
        found = _find(call, project, run)
        if not found.outputs_key:
            raise ConflictError(
                f"The run has no outputs: it is {found.state}. {found.reason}".strip(),
                next_step="Wait until it has ended; look into its log if it failed.",
                state=found.state,
            )
        return found, self._read(found.outputs_key)


def add_routes(router: APIRouter, objects: ObjectStore) -> None:
    """Add the routes of outputs."""
    outputs = Outputs(objects)

    @router.get("/runs/{run}/outputs", **needs("run.read"))
    def list_outputs(call: CallIn, project: str, run: str, page: PageIn) -> Page[FileEntry]:
        """List the files that a run left, in the order of the bytes of their paths."""
        files = outputs.of(call, project, run)[1].files
        key = decode_cursor(page.cursor, int)
        start = max(int(key[0]), 0) if key else 0
        end = start + page.limit
        listed = [FileEntry(o.path, o.digest, o.size, o.path_bytes) for o in files[start:end]]
        return Page(listed, encode_cursor([end]) if end < len(files) else None)

    @router.get(
        "/runs/{run}/outputs/content", response_class=StreamingResponse, **needs("run.read")
    )
    def get_output(
        call: CallIn,
        project: str,
        run: str,
        path: Annotated[str, Query(description="As the list of outputs gives it.")],
        path_bytes: Annotated[str | None, Query(description="As the list gives it.")] = None,
        byte_range: Annotated[str | None, Header(alias="Range")] = None,
    ) -> StreamingResponse:
        """Download one output, or a range of it."""
        manifest = outputs.of(call, project, run)[1]
        raw = _raw_path(path, path_bytes)
        found = find_output(manifest, raw)
        return answer_content(objects, found.key, raw, byte_range, found.digest)

    @router.get(
        "/runs/{run}/outputs/archive", response_class=StreamingResponse, **needs("run.read")
    )
    def get_archive(call: CallIn, project: str, run: str) -> StreamingResponse:
        """Download all outputs as one zip, made while it is sent."""
        found, manifest = outputs.of(call, project, run)
        name = f"{found.what.partition('@')[0].rpartition('/')[2]}-{found.id}"
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": disposition(f"{name}.zip".encode()),
        }
        body = stream_zip(objects, manifest.files, folder=name)
        return StreamingResponse(body, headers=headers, media_type="application/zip")


def _find(call: Call, project: str, run: str) -> Run:
    def look(tx: Transaction) -> Run:
        project_id = open_project(tx, call.actor, project, "run.read").id
        return actions.get_run(tx, call.actor, project_id, run)

    return call.read(look)


def _raw_path(path: str, path_bytes: str | None) -> bytes:
    try:
        return decode_path(path, path_bytes)
    except ValueError:
        raise InvalidError(
            "The path can't be read.",
            next_step="Send path and path_bytes as the list of outputs gives them.",
            faults=[Fault("path_bytes", "is not base64, or path is no Unicode text")],
        ) from None
