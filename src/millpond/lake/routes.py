"""REST of the lake: contents go in first, then a version names them."""

from typing import Annotated, Any, BinaryIO, cast

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from millpond.ground.address import check_new_name
from millpond.ground.errors import Fault, InvalidError
from millpond.ground.page import Page, decode_cursor, encode_cursor
from millpond.lake import actions, archives, contents, rules
from millpond.lake.browsing import Browser
from millpond.lake.downloads import answer_content, answer_zip
from millpond.lake.manifests import ManifestCache, merge, sort_files, write_manifest
from millpond.lake.paths import read_path
from millpond.lake.receiving import RequestBody, make_lane
from millpond.lake.requests import MissingIn, VersionIn
from millpond.lake.values import (
    Dataset,
    DatasetVersion,
    FileEntry,
    LakeLimits,
    Manifest,
    TreeItem,
    object_key,
)
from millpond.people.actions import open_project
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

STREAMED = r"/api/v1/projects/[^/]+/(objects(/[0-9a-f]+)?|uploads(/[^/]+)?)"
"""Paths whose bodies are read piece by piece, with limits of their own (for the frame)."""

Number = Annotated[int, Path(ge=1)]


def _body_of(media_type: str) -> dict[str, Any]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": {media_type: schema}}}


def routes(
    objects: ObjectStore, limits: LakeLimits, manifests: ManifestCache | None = None
) -> APIRouter:
    """Make the routes on an object store."""
    manifests = manifests or ManifestCache(objects)
    router = APIRouter(prefix="/projects/{project}", tags=["datasets"])
    _add_objects(router, objects, limits)
    _add_datasets(router)
    _add_versions(router, objects, limits, manifests)
    _add_files(router, manifests)
    _add_contents(router, objects, manifests)
    return router


def _add_objects(router: APIRouter, objects: ObjectStore, limits: LakeLimits) -> None:
    uploads = make_lane()

    @router.post("/objects/missing", **needs("dataset.write"))
    def find_missing(call: CallIn, project: str, asked: MissingIn) -> dict[str, list[str]]:
        """Tell which contents the project lacks, so that only those are sent."""
        project_id = _open(call, project, "dataset.write")
        wanted = [(one.digest, one.size) for one in asked.objects]
        return {"missing": contents.find_missing(objects, project_id, wanted)}

    @router.post(
        "/objects", status_code=201, **needs("dataset.write", **_body_of("application/x-tar"))
    )
    async def put_pack(call: CallIn, project: str, request: Request) -> dict[str, int]:
        """Store many small contents at once: a tar whose members are named by their sha256."""

        def work() -> int:
            project_id = _open(call, project, "dataset.write")
            return contents.put_pack(objects, project_id, body, limits)

        body = cast("BinaryIO", RequestBody(request))
        return {"stored": await to_thread.run_sync(work, limiter=uploads)}

    @router.put(
        "/objects/{digest}",
        status_code=201,
        **needs("dataset.write", **_body_of("application/octet-stream")),
    )
    async def put_object(
        call: CallIn, project: str, digest: str, request: Request
    ) -> dict[str, str | int]:
        """Store one content of any size under its sha256; again is fine."""

        def work() -> int:
            project_id = _open(call, project, "dataset.write")
            return contents.put_content(objects, project_id, digest, body, limits)

        body = cast("BinaryIO", RequestBody(request))
        return {"digest": digest, "size": await to_thread.run_sync(work, limiter=uploads)}


def _add_datasets(router: APIRouter) -> None:
    @router.get("/datasets", **needs("dataset.read"))
    def list_datasets(
        call: CallIn,
        project: str,
        page: PageIn,
        search: Annotated[str, Query(description="Text in their names.")] = "",
    ) -> Page[Dataset]:
        """List the project's datasets by name."""
        return call.read(
            lambda tx: actions.list_datasets(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "dataset.read").id,
                search=search,
                cursor=page.cursor,
                limit=page.limit,
            )
        )

    @router.get("/datasets/{name}", **needs("dataset.read"))
    def get_dataset(call: CallIn, project: str, name: str) -> Dataset:
        """Show a dataset with what its newest version holds."""
        return call.read(
            lambda tx: actions.get_dataset(
                tx, call.actor, open_project(tx, call.actor, project, "dataset.read").id, name
            )
        )

    @router.delete("/datasets/{name}", status_code=204, **needs("dataset.write"))
    def hide_dataset(call: CallIn, project: str, name: str) -> None:
        """Delete a dataset: it is hidden; runs keep what they used."""
        call.change(
            lambda tx: actions.hide_dataset(
                tx, call.actor, open_project(tx, call.actor, project, "dataset.write").id, name
            )
        )


def _add_versions(
    router: APIRouter, objects: ObjectStore, limits: LakeLimits, manifests: ManifestCache
) -> None:
    @router.get("/datasets/{name}/versions", **needs("dataset.read"))
    def list_versions(
        call: CallIn, project: str, name: str, page: PageIn
    ) -> Page[DatasetVersion]:  # fmt: skip
        """List a dataset's versions, newest first."""
        return call.read(
            lambda tx: actions.list_versions(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "dataset.read").id,
                name,
                cursor=page.cursor,
                limit=page.limit,
            )
        )

    @router.post("/datasets/{name}/versions", status_code=201, **needs("dataset.write"))
    def add_version(call: CallIn, project: str, name: str, asked: VersionIn) -> DatasetVersion:
        """Make a version of contents that were sent, or of an archive that was.

        The same content as the newest version gives that one back, marked unchanged. With
        `add_to` the files of that version stay, but for those whose paths come anew.
        """
        project_id = _open(call, project, "dataset.write")
        check_new_name(name)
        entries = _list_files(objects, project_id, asked, limits)
        if asked.add_to is not None:
            before = _find(call, project, name, asked.add_to)[1]
            entries = merge(manifests.read(before.manifest_key).files, entries, limits)
        entries = sort_files(entries)
        rules.check_kind(asked.kind, entries)
        key, _ = write_manifest(objects, project_id, entries)
        return call.make(
            lambda tx: actions.add_version(
                tx, call.actor, project_id, name, Manifest(entries), key, "upload", asked.kind
            )
        )

    @router.get("/datasets/{name}/versions/{number}", **needs("dataset.read"))
    def get_version(call: CallIn, project: str, name: str, number: Number) -> DatasetVersion:
        """Show a version."""
        return _find(call, project, name, number)[1]


def _add_files(router: APIRouter, manifests: ManifestCache) -> None:
    browser = Browser(manifests)

    @router.get("/datasets/{name}/versions/{number}/files", **needs("dataset.read"))
    def list_files(
        call: CallIn, project: str, name: str, number: Number, page: PageIn
    ) -> Page[FileEntry]:
        """List a version's files in the order of the bytes of their paths."""
        version = _find(call, project, name, number)[1]
        key = decode_cursor(page.cursor, int)
        start = max(int(key[0]), 0) if key else 0
        files = manifests.read(version.manifest_key).files
        end = start + page.limit
        cursor = encode_cursor([end]) if end < len(files) else None
        return Page(list(files[start:end]), cursor)

    @router.get("/datasets/{name}/versions/{number}/tree", **needs("dataset.read"))
    def list_folder(
        call: CallIn,
        project: str,
        name: str,
        number: Number,
        page: PageIn,
        path: Annotated[str, Query(description="The folder; empty for the top.")] = "",
        path_bytes: Annotated[str | None, Query(description="As this list gives it.")] = None,
        search: Annotated[str, Query(description="Text in paths of files below.")] = "",
    ) -> Page[TreeItem]:
        """List what lies directly in a folder of a version, or the files that a search finds."""
        version = _find(call, project, name, number)[1]
        folder = read_path(path, path_bytes)
        return browser.list_folder(version.manifest_key, folder, search, page.cursor, page.limit)


def _add_contents(router: APIRouter, objects: ObjectStore, manifests: ManifestCache) -> None:
    @router.get(
        "/datasets/{name}/versions/{number}/content",
        response_class=StreamingResponse,
        **needs("dataset.read"),
    )
    def get_content(
        call: CallIn,
        project: str,
        name: str,
        number: Number,
        path: Annotated[str, Query(description="As the list of files gives it.")],
        path_bytes: Annotated[str | None, Query(description="As the list gives it.")] = None,
        byte_range: Annotated[str | None, Header(alias="Range")] = None,
    ) -> StreamingResponse:
        """Download one file, or a range of it."""
        project_id, version = _find(call, project, name, number)
        raw = read_path(path, path_bytes)
        entry = manifests.find(version.manifest_key, raw)
        key = object_key(project_id, entry.digest)
        return answer_content(objects, key, raw, byte_range, entry.digest)

    @router.get(
        "/datasets/{name}/versions/{number}/archive",
        response_class=StreamingResponse,
        **needs("dataset.read"),
    )
    def get_archive(call: CallIn, project: str, name: str, number: Number) -> StreamingResponse:
        """Download all files as one zip, made while it is sent."""
        project_id, version = _find(call, project, name, number)
        files = manifests.read(version.manifest_key).files
        pairs = ((one.raw_path, object_key(project_id, one.digest)) for one in files)
        return answer_zip(objects, pairs, f"{name}-{number}.zip")


def _open(call: Call, project: str, permission: str) -> str:
    return call.read(lambda tx: open_project(tx, call.actor, project, permission).id)


def _find(call: Call, project: str, name: str, number: int) -> tuple[str, DatasetVersion]:
    def find(tx: Any) -> tuple[str, DatasetVersion]:
        project_id = open_project(tx, call.actor, project, "dataset.read").id
        return project_id, actions.get_version(tx, project_id, f"{name}@{number}")

    return call.read(find)


def _list_files(
    objects: ObjectStore, project_id: str, asked: VersionIn, limits: LakeLimits
) -> tuple[FileEntry, ...]:
    if (asked.files is None) == (asked.archive is None):
        raise InvalidError(
            "A version is made of files or of an archive.",
            next_step="Send one of them.",
            faults=[Fault("files", "exactly one of files and archive is needed")],
        )
    if asked.archive is not None:
        return archives.unpack(objects, project_id, asked.archive, asked.format, limits)
    entries = tuple(one.to_entry() for one in asked.files or ())
    rules.check_files(entries, limits)
    contents.check_present(objects, project_id, entries)
    return entries
