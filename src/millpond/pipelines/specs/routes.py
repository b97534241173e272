"""REST of pipelines: push code, look at versions."""

from typing import Annotated

from fastapi import APIRouter, Path

from millpond.ground.page import Page
from millpond.lake.contents import check_present
from millpond.lake.manifests import sort_files, write_manifest
from millpond.lake.values import FileEntry, object_key
from millpond.people.actions import open_project
from millpond.pipelines.requests import PipelineIn
from millpond.pipelines.specs import actions
from millpond.pipelines.specs.rules import check_code, choose_name
from millpond.pipelines.values import Pipeline, PipelineVersion
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

_TEXT_BYTES_MOST = 1 << 20
Number = Annotated[int, Path(ge=1)]


def add_routes(router: APIRouter, objects: ObjectStore) -> None:
    """Add the routes of pipelines."""
    _add_pipelines(router, objects)
    _add_versions(router)


def _add_pipelines(router: APIRouter, objects: ObjectStore) -> None:
    @router.get("/pipelines", **needs("pipeline.read"))
    def list_pipelines(call: CallIn, project: str, page: PageIn) -> Page[Pipeline]:
        """List the project's pipelines by name."""

        def look(tx: Transaction) -> Page[Pipeline]:
            project_id = open_project(tx, call.actor, project, "pipeline.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_pipelines(tx, call.actor, project_id, cursor=cursor, limit=limit)

        return call.read(look)

    @router.post("/pipelines", status_code=201, **needs("pipeline.write"))
    def push_version(call: CallIn, project: str, asked: PipelineIn) -> PipelineVersion:
        """Push code whose contents were sent; it is locked and compiled in the background.

        The same code as the newest version gives that one back, marked unchanged.
        """
        project_id = open_for(call, project, "pipeline.write")
        entries, key = keep_code(objects, project_id, [one.to_entry() for one in asked.files])
        text = _read_text(objects, project_id, entries, "pipeline.py")
        name, function = choose_name(asked.name, entries, text)
        requirements = _read_text(objects, project_id, entries, "requirements.txt")
        return call.make(
            lambda tx: actions.push_version(
                tx,
                call.actor,
                project_id,
                name,
                manifest_key=key,
                function=function,
                requirements=requirements,
            )
        )

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
