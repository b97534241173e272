"""REST of what runs left: the list, one file, all as a zip, previews."""

from functools import lru_cache, partial
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError
from millpond.ground.page import Page, decode_cursor, encode_cursor
from millpond.lake.downloads import answer_content, disposition
from millpond.lake.previews.values import Preview
from millpond.lake.values import FileEntry, decode_path
from millpond.people.actions import open_project
from millpond.pipelines.outputs.archive import stream_zip
from millpond.pipelines.outputs.looking import image_type_of, look_at_output
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.outputs.values import OutputFile, OutputManifest
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
        return found, self.read(found.outputs_key)

    def file(
        self, call: Call, project: str, run: str, path: str, path_bytes: str | None
    ) -> OutputFile:
        """Give one file that a run left.

        Raises:
            ConflictError: it has no outputs.
            NotFoundError: they hold no such file.
        """
        return find_output(self.of(call, project, run)[1], _raw_path(path, path_bytes))

    def read(self, key: str) -> OutputManifest:
        """Give an output manifest by its key."""
        return self._read(key)


PathIn = Annotated[str, Query(description="As the list of outputs gives it.")]
PathBytesIn = Annotated[str | None, Query(description="As the list gives it.")]


def add_routes(router: APIRouter, objects: ObjectStore) -> None:
    """Add the routes of outputs."""
    outputs = Outputs(objects)
    _add_whole(router, outputs, objects)
    _add_files(router, outputs, objects)


def _add_whole(router: APIRouter, outputs: Outputs, objects: ObjectStore) -> None:
    @router.get("/runs/{run}/outputs", **needs("run.read"))
    def list_outputs(call: CallIn, project: str, run: str, page: PageIn) -> Page[FileEntry]:
        """List the files that a run left, in the order of the bytes of their paths."""
        found = page_of(outputs.of(call, project, run)[1], page.cursor, page.limit)
        return found.map(entry_of)

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


def _add_files(router: APIRouter, outputs: Outputs, objects: ObjectStore) -> None:
    @router.get(
        "/runs/{run}/outputs/content", response_class=StreamingResponse, **needs("run.read")
    )
    def get_output(
        call: CallIn,
        project: str,
        run: str,
        path: PathIn,
        path_bytes: PathBytesIn = None,
        byte_range: Annotated[str | None, Header(alias="Range")] = None,
    ) -> StreamingResponse:
        """Download one output, or a range of it."""
        found = outputs.file(call, project, run, path, path_bytes)
        return answer_content(objects, found.key, found.raw_path, byte_range, found.digest)

    @router.get("/runs/{run}/outputs/content/preview", **needs("run.read"))
    def show_output(
        call: CallIn, project: str, run: str, path: PathIn, path_bytes: PathBytesIn = None
    ) -> Preview:
        """Show the beginning of an output: a text, first rows of a table, what image it is."""
        found = outputs.file(call, project, run, path, path_bytes)
        return look_at_output(objects, found)

    @router.get(
        "/runs/{run}/outputs/content/image", response_class=StreamingResponse, **needs("run.read")
    )
    def show_image(
        call: CallIn, project: str, run: str, path: PathIn, path_bytes: PathBytesIn = None
    ) -> StreamingResponse:
        """Send an output that is an image under its type; any other file is none."""
        found = outputs.file(call, project, run, path, path_bytes)
        media_type = image_type_of(objects, found)
        if not media_type:
            raise NotFoundError(
                "This file is no image that can be shown.", next_step="Download it instead."
            )
        headers = {
            "Content-Length": str(found.size),
            "ETag": f'"{found.digest}"',
            "Cache-Control": "private, max-age=3600",
        }
        pieces = objects.stream(found.key)
        return StreamingResponse(pieces, headers=headers, media_type=media_type)


def page_of(manifest: OutputManifest, cursor: str | None, limit: int) -> Page[OutputFile]:
    """Cut a page out of a manifest's files."""
    key = decode_cursor(cursor, int)
    start = max(int(key[0]), 0) if key else 0
    end = start + limit
    more = encode_cursor([end]) if end < len(manifest.files) else None
    return Page(list(manifest.files[start:end]), more)


def entry_of(found: OutputFile) -> FileEntry:
    """Give an output as lists of files show it."""
    return FileEntry(found.path, found.digest, found.size, found.path_bytes)


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
