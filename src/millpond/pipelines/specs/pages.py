"""Pages of pipelines: list, one with all that is known of it, a new version."""

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from millpond.ground.address import check_new_name
from millpond.ground.errors import Fault, InvalidError
from millpond.lake.values import FileEntry, LakeLimits
from millpond.people.actions import open_project
from millpond.pipelines.drawing import draw_dag
from millpond.pipelines.forms import list_fields
from millpond.pipelines.links import write_command
from millpond.pipelines.presets.actions import list_presets
from millpond.pipelines.requests import FILES_MOST, PipelineIn
from millpond.pipelines.runs.actions import list_runs
from millpond.pipelines.runs.values import RunFilter
from millpond.pipelines.specs import actions
from millpond.pipelines.specs.logs import read_log
from millpond.pipelines.specs.routes import (
    SEARCH_LENGTH_MOST,
    answer_code,
    find_version,
    open_for,
    push_files,
)
from millpond.pipelines.specs.rules import CODE_BYTES_MOST
from millpond.pipelines.uploads import store_archive, store_files, tidy_code
from millpond.pipelines.values import PipelineSpec
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.calls import PageIn
from millpond.web.portal import Form, FormIn, NavItem, Portal, Visit, VisitIn, page

_ALL = "/projects/{project}/pipelines"
_ONE = _ALL + "/{name}"
_VERSIONS_SHOWN, _PRESETS_SHOWN, _RUNS_SHOWN = 20, 50, 8

NAV = (NavItem("Pipelines", _ALL, icon="sitemap", permission="pipeline.read", order=20),)

_HOW = {"map": "part by part", "whole": "all at once", "command": "a program"}

NumberIn = Annotated[int | None, Query(alias="version", ge=1, lt=10**9)]


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    objects: ObjectStore
    limits: LakeLimits


def pages(portal: Portal, objects: ObjectStore, limits: LakeLimits) -> APIRouter:
    """Make the pages.

    Args:
        portal: makes them.
        objects: where contents lie.
        limits: of what is sent.
    """
    router, tools = APIRouter(), _Tools(portal, objects, limits)
    _add_list(router, tools)
    _add_new(router, tools)
    _add_one(router, tools)
    _add_parts(router, tools)
    return router


def _add_list(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ALL, **page("pipeline.read"))
    def show_pipelines(
        visit: VisitIn,
        project: str,
        asked: PageIn,
        search: Annotated[str, Query(max_length=SEARCH_LENGTH_MOST)] = "",
    ) -> HTMLResponse:
        """List the project's pipelines by name, or those with a text in it."""
        found = visit.read(
            lambda tx: actions.list_pipelines(
                tx,
                visit.actor,
                open_project(tx, visit.actor, project, "pipeline.read").id,
                search=search,
                cursor=asked.cursor,
                limit=asked.limit,
            )
        )
        return tools.portal.render(visit, "pipelines/specs/list.html", found=found, search=search)


def _add_new(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ALL + "/new", **page("pipeline.write"))
    def show_new(visit: VisitIn, project: str, name: str = "") -> HTMLResponse:
        """Show how to push code, by the command line and here."""
        open_for(visit, project, "pipeline.write")
        return tools.portal.render(visit, "pipelines/specs/new.html", name=name)

    @router.post(_ALL + "/new", **page("pipeline.write"))
    def push_version(visit: VisitIn, project: str, form: FormIn) -> Response:
        """Push a folder, some files or an archive; it is locked and compiled in the background."""
        project_id = open_for(visit, project, "pipeline.write")
        name = form.values.get("name", "").strip() or None
        try:
            if name is not None:
                check_new_name(name)
            files = _read_code(tools, project_id, form)
            asked = form.to(PipelineIn, name=name, files=[vars(one) for one in files])
            made = push_files(visit, tools.objects, project, files, asked.name)
        except InvalidError as fault:
            return tools.portal.render(
                visit, "pipelines/specs/new.html", 422, form=form, fault=fault, name=""
            )
        said = f"{made.address} is pushed."
        if made.unchanged:
            said = f"{made.address} is exactly this code already."
        return tools.portal.go(visit, f"/projects/{project}/pipelines/{made.pipeline}", said)


def _read_code(tools: _Tools, project_id: str, form: Form) -> list[FileEntry]:
    files, archives = [*form.files("folder"), *form.files("files")], form.files("archive")
    if bool(files) == bool(archives):
        raise InvalidError(
            "A version is made of one folder, of some files, or of one archive.",
            next_step="Choose one of them.",
            faults=[Fault("folder", "choose a folder, files or an archive, one of these")],
        )
    if archives:
        found = store_archive(tools.objects, project_id, archives[0], _of_code(tools.limits))
    else:
        found = store_files(tools.objects, project_id, files, tools.limits)
    return tidy_code(found)


def _of_code(limits: LakeLimits) -> LakeLimits:
    """Give limits for an archive of code, so that what code may not be is not unpacked."""
    size = min(limits.total_bytes, CODE_BYTES_MOST)
    return replace(limits, files=min(limits.files, FILES_MOST), total_bytes=size)


def _add_one(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ONE, **page("pipeline.read"))
    def show_pipeline(
        visit: VisitIn, project: str, name: str, number: NumberIn = None
    ) -> HTMLResponse:
        """Show a version, the newest when none is named, and what was done with the pipeline."""
        facts = visit.read(lambda tx: _look(tx, visit, project, name, number))
        template = "body.html" if visit.is_fragment else "one.html"
        return tools.portal.render(
            visit, f"pipelines/specs/{template}", 200, is_pinned=number is not None, **facts
        )


def _look(
    tx: Transaction, visit: Visit, project: str, name: str, number: int | None
) -> dict[str, object]:
    project_id = open_project(tx, visit.actor, project, "pipeline.read").id
    actor = visit.actor
    versions = actions.list_versions(tx, actor, project_id, name, limit=_VERSIONS_SHOWN)
    version = actions.get_version(tx, project_id, name if number is None else f"{name}@{number}")
    spec = version.spec
    return {
        "pushed": version,
        "versions": versions,
        "newest": versions.items[0].number,
        "spec": spec,
        "drawing": _draw(spec) if spec else "",
        "fields": list_fields(spec) if spec else (),
        "command": write_command(version.address, spec, {}, project) if spec else "",
        "presets": list_presets(tx, actor, project_id, name, limit=_PRESETS_SHOWN).items,
        "runs": list_runs(tx, actor, project_id, RunFilter(pipeline=name), limit=_RUNS_SHOWN).items,
    }


def _draw(spec: PipelineSpec) -> Markup:
    notes = {one.name: _HOW[one.kind] for one in spec.steps}
    edges = [(before, one.name) for one in spec.steps for before in one.needs]
    title = f"Steps of {spec.name}"
    drawn = draw_dag([one.name for one in spec.steps], edges, notes=notes, title=title)
    return Markup(drawn)  # noqa: S704 - it escapes what it writes.


def _add_parts(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ONE + "/log", **page("pipeline.read"))
    def show_log(
        visit: VisitIn,
        project: str,
        name: str,
        number: NumberIn = None,
        after: Annotated[int, Query(ge=0, lt=10**8)] = 0,
    ) -> HTMLResponse:
        """Give the next piece of what compiling wrote, which asks for the one after it."""
        address = name if number is None else f"{name}@{number}"
        project_id, version = find_version(visit, project, address)
        part = read_log(tools.objects, project_id, version, after)
        return tools.portal.render(visit, "pipelines/specs/log.html", part=part, pushed=version)

    @router.get(_ONE + "/code", **page("pipeline.read"))
    def get_code(visit: VisitIn, project: str, name: str, number: NumberIn = None) -> Response:
        """Download a version's code as one zip."""
        address = name if number is None else f"{name}@{number}"
        return answer_code(tools.objects, *find_version(visit, project, address))
