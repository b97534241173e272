"""REST of pipelines: push code, look at versions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from millpond.ground.page import Page
from millpond.lake.contents import check_present
from millpond.lake.downloads import answer_zip
from millpond.lake.manifests import read_manifest, sort_files, write_manifest
from millpond.lake.values import FileEntry, object_key
from millpond.people.actions import open_project
from millpond.pipelines.requests import PipelineIn
from millpond.pipelines.specs import actions
from millpond.pipelines.specs.logs import read_log
from millpond.pipelines.specs.rules import check_code, choose_name
from millpond.pipelines.specs.values import LogPart
from millpond.pipelines.values import Pipeline, PipelineVersion
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

_TEXT_BYTES_MOST = 1 << 20
SEARCH_LENGTH_MOST = 80
Number = Annotated[int, Path(ge=1, lt=10**9)]


def add_routes(router: APIRouter, objects: ObjectStore) -> None:
    """Add the routes of pipelines."""
    _add_pipelines(router, objects)
    _add_versions(router)
    _add_parts(router, objects)


def _add_pipelines(router: APIRouter, objects: ObjectStore) -> None:
    @router.get("/pipelines", **needs("pipeline.read"))
    def list_pipelines(
        call: CallIn,
        project: str,
        page: PageIn,
        search: Annotated[
            str, Query(max_length=SEARCH_LENGTH_MOST, description="A part of the name.")
        ] = "",
    ) -> Page[Pipeline]:
        """List the project's pipelines by name."""

        def look(tx: Transaction) -> Page[Pipeline]:
            project_id = open_project(tx, call.actor, project, "pipeline.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_pipelines(
                tx, call.actor, project_id, search=search, cursor=cursor, limit=limit
            )

        return call.read(look)

    @router.post("/pipelines", status_code=201, **needs("pipeline.write"))
    def push_version(call: CallIn, project: str, asked: PipelineIn) -> PipelineVersion:
        """Push code whose contents were sent; it is locked and compiled in the background.

        The same code as the newest version gives that one back, marked unchanged.
        """
        files = [one.to_entry() for one in asked.files]
        return push_files(call, objects, project, files, asked.name)

    @router.get("/pipelines/{name}", **needs("pipeline.read"))
    def get_pipeline(call: CallIn, project: str, name: str) -> Pipeline:
        """Show a pipeline with the state of its newest version."""
        return call.read(
            lambda tx: actions.get_pipeline(
                tx, call.actor, open_project(tx, call.actor, project, "pipeline.read").id, name
            )
        )


def _add_versions(router: APIRouter) -> None:
    @router.get("/pipelines/{name}/versions", **needs("pipeline.read"))
    def list_versions(
        call: CallIn, project: str, name: str, page: PageIn
    ) -> Page[PipelineVersion]:  # fmt: skip
        """List a pipeline's versions, newest first."""

        def look(tx: Transaction) -> Page[PipelineVersion]:
            project_id = open_project(tx, call.actor, project, "pipeline.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_versions(
                tx, call.actor, project_id, name, cursor=cursor, limit=limit
            )

        return call.read(look)

    @router.get("/pipelines/{name}/versions/{number}", **needs("pipeline.read"))
    def get_version(call: CallIn, project: str, name: str, number: Number) -> PipelineVersion:
        """Show a version: its form, its faults if it failed."""

        def look(tx: Transaction) -> PipelineVersion:
            project_id = open_project(tx, call.actor, project, "pipeline.read").id
            return actions.get_version(tx, project_id, f"{name}@{number}")

        return call.read(look)


def _add_parts(router: APIRouter, objects: ObjectStore) -> None:
    @router.get("/pipelines/{name}/versions/{number}/log", **needs("pipeline.read"))
    def get_log(
        call: CallIn,
        project: str,
        name: str,
        number: Number,
        after: Annotated[int, Query(ge=0, lt=10**8, description="`next` of the part before.")] = 0,
    ) -> LogPart:
        """Read what compiling a version wrote, live; go on with ``after`` until it is complete."""
        project_id, version = find_version(call, project, f"{name}@{number}")
        return read_log(objects, project_id, version, after)

    @router.get(
        "/pipelines/{name}/versions/{number}/archive",
        response_class=StreamingResponse,
        **needs("pipeline.read"),
    )
    def get_code(call: CallIn, project: str, name: str, number: Number) -> StreamingResponse:
        """Download a version's code as one zip."""
        return answer_code(objects, *find_version(call, project, f"{name}@{number}"))


def find_version(call: Call, project: str, address: str) -> tuple[str, PipelineVersion]:
    """Give the project's id and a version in it, if the caller may read pipelines there."""

    def look(tx: Transaction) -> tuple[str, PipelineVersion]:
        project_id = open_project(tx, call.actor, project, "pipeline.read").id
        return project_id, actions.get_version(tx, project_id, address)

    return call.read(look)


def answer_code(
    objects: ObjectStore, project_id: str, version: PipelineVersion
) -> StreamingResponse:
    """Send the files of a version's code as one zip."""
    files = read_manifest(objects, version.manifest_key).files
    pairs = ((one.raw_path, object_key(project_id, one.digest)) for one in files)
    return answer_zip(objects, pairs, f"{version.pipeline}-{version.number}.zip")


def push_files(
    call: Call, objects: ObjectStore, project: str, files: list[FileEntry], name: str | None
) -> PipelineVersion:
    """Push code whose contents were sent as a new version; ``name`` else stands in the code.

    Raises:
        InvalidError: the files can't be code, or the name can't be told.
    """
    project_id = open_for(call, project, "pipeline.write")
    entries, key = keep_code(objects, project_id, files)
    text = _read_text(objects, project_id, entries, "pipeline.py")
    chosen, function = choose_name(name, entries, text)
    requirements = _read_text(objects, project_id, entries, "requirements.txt")
    return call.make(
        lambda tx: actions.push_version(
            tx,
            call.actor,
            project_id,
            chosen,
            manifest_key=key,
            function=function,
            requirements=requirements,
        )
    )


def open_for(call: Call, project: str, permission: str) -> str:
    """Give the project's id, if the caller may do this in it."""
    return call.read(lambda tx: open_project(tx, call.actor, project, permission).id)


def keep_code(
    objects: ObjectStore, project_id: str, files: list[FileEntry]
) -> tuple[tuple[FileEntry, ...], str]:
    """Check files of code whose contents were sent and write their manifest; give its key."""
    check_code(files)
    entries = sort_files(files)
    check_present(objects, project_id, entries)
    return entries, write_manifest(objects, project_id, entries)[0]


def _read_text(
    objects: ObjectStore, project_id: str, entries: tuple[FileEntry, ...], path: str
) -> str:
    for entry in entries:
        if entry.path == path:
            key = object_key(project_id, entry.digest)
            data = objects.get(key, 0, min(entry.size, _TEXT_BYTES_MOST)) if entry.size else b""
            return data.decode("utf-8", "replace")
    return ""
