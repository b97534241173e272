"""Pages of a pipeline's form: fill it, share it, keep it as a preset, start a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import (
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
)
from millpond.people.actions import open_project
from millpond.pipelines.forms import AS_JSON, INPUTS, Texts, list_fields, read_texts
from millpond.pipelines.links import write_command, write_link
from millpond.pipelines.presets import actions as presets
from millpond.pipelines.presets.requests import PresetIn
from millpond.pipelines.requests import RunIn
from millpond.pipelines.runs.routes import HasProgram, start_asked
from millpond.pipelines.starting import actions
from millpond.pipelines.starting.actions import FoundData, OpenForm, Sources
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.intake import check_json
from millpond.web.portal import Form, FormIn, Portal, Visit, VisitIn, page

_ONE = "/projects/{project}/pipelines/{name}"
_FORM = _ONE + "/run"
_PRESETS_SHOWN = 50

NumberIn = Annotated[int | None, Query(alias="version", ge=1, lt=10**9)]
NameIn = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    objects: ObjectStore
    has_program: HasProgram


def pages(portal: Portal, objects: ObjectStore, has_program: HasProgram) -> APIRouter:
    """Make the pages.

    Args:
        portal: makes them.
        objects: where contents lie.
        has_program: whether tasks find a program such as ``Rscript``.
    """
    router, tools = APIRouter(), _Tools(portal, objects, has_program)
    _add_form(router, tools)
    _add_parts(router, tools)
    _add_presets(router, tools)
    return router


def _add_form(router: APIRouter, tools: _Tools) -> None:
    @router.get(_FORM, **page("pipeline.run"))
    def show_form(
        visit: VisitIn,
        project: str,
        name: str,
        number: NumberIn = None,
        preset: NameIn = "",
        from_run: NameIn = "",
    ) -> Response:
        """Show the form, filled by the address, a preset or an earlier run."""
        pairs = visit.request.query_params.multi_items()
        sources = Sources(number, preset, from_run, pairs)
        opened = visit.read(lambda tx: _open(tx, visit, project, name, sources))
        fault = None
        if opened.faults:
            fault = InvalidError(
                "Some of what was to be filled in has no field here.",
                next_step="Look whether the rest is as you want it.",
                faults=opened.faults,
            )
        facts = {"preset": opened.preset, "from_run": from_run, "fault": fault}
        return _render(tools, visit, project, opened, 200, **facts)

    @router.post(_FORM, **page("pipeline.run"))
    def start_run(visit: VisitIn, project: str, name: str, form: FormIn) -> Response:
        """Start a run of what the form holds; or add a row to one of its lists."""
        opened = _posted(visit, project, name, form)
        if "more" in form.values:
            row = form.values["more"]
            texts = {**opened.texts, row: (*opened.texts.get(row, ()), "")}
            return _render(tools, visit, project, _with(opened, texts), 200, form=form)
        inputs, parameters = read_texts(opened.spec, opened.texts)
        address = opened.version.address

        def start() -> Response:
            check_json(parameters)
            asked = form.to(RunIn, pipeline=address, inputs=inputs, parameters=parameters)
            made = start_asked(visit, tools.objects, project, asked, tools.has_program)
            path = f"/projects/{project}/runs/{made.id}"
            return tools.portal.go(visit, path, f"A run of {address} was started.")

        return _or_again(tools, visit, project, opened, form, start)


def _add_parts(router: APIRouter, tools: _Tools) -> None:
    @router.post(_FORM + "/link", **page("pipeline.run"))
    def show_link(visit: VisitIn, project: str, name: str, form: FormIn) -> HTMLResponse:
        """Give the form as it stands as an address and as a command."""
        opened = _posted(visit, project, name, form)
        facts = _shared(tools, project, opened)
        return tools.portal.render(visit, "pipelines/starting/share.html", 200, **facts)

    @router.get(_FORM + "/data/{field}", **page("pipeline.run"))
    def show_data(
        visit: VisitIn, project: str, name: str, field: str, number: NumberIn = None
    ) -> HTMLResponse:
        """Give what the project has for a field of data, by what was typed into it."""
        text = visit.request.query_params.get(INPUTS + field, "")

        def look(tx: Transaction) -> dict[str, object]:
            opened = _open(tx, visit, project, name, Sources(number))
            wanted = [one for one in list_fields(opened.spec) if one.name == INPUTS + field]
            if not wanted or wanted[0].data is None:
                raise NotFoundError(
                    f"{opened.version.address} has no input {field[:80]!r}.",
                    next_step="Load the form anew.",
                )
            project_id = open_project(tx, visit.actor, project, "dataset.read").id
            found = actions.find_data(tx, visit.actor, project_id, wanted[0].data, text[:100])
            return {"field": wanted[0], "found": found}

        return tools.portal.render(visit, "pipelines/starting/found.html", 200, **visit.read(look))


def _add_presets(router: APIRouter, tools: _Tools) -> None:
    @router.post(_FORM + "/preset", **page("preset.write"))
    def keep_preset(visit: VisitIn, project: str, name: str, form: FormIn) -> Response:
        """Keep what the form holds as a preset."""
        opened = _posted(visit, project, name, form)
        inputs, parameters = read_texts(opened.spec, opened.texts)
        preset = form.values.get("name", "").strip()

        def keep() -> Response:
            check_json(parameters)
            asked = form.to(PresetIn, inputs=inputs, parameters=parameters)

            def change(tx: Transaction) -> None:
                project_id = open_project(tx, visit.actor, project, "preset.write").id
                presets.set_preset(
                    tx,
                    visit.actor,
                    project_id,
                    name,
                    preset,
                    description=asked.description,
                    inputs=asked.inputs,
                    parameters=asked.parameters,
                )

            visit.change(change)
            path = f"/projects/{project}/pipelines/{name}/run?preset={preset}"
            return tools.portal.go(visit, path, f"The preset {preset} is kept.")

        return _or_again(tools, visit, project, opened, form, keep)

    @router.post(_ONE + "/presets/{preset}/remove", **page("preset.write"))
    def remove_preset(visit: VisitIn, project: str, name: str, preset: str) -> Response:
        """Remove a preset."""

        def remove(tx: Transaction) -> None:
            project_id = open_project(tx, visit.actor, project, "preset.write").id
            presets.remove_preset(tx, visit.actor, project_id, name, preset)

        visit.change(remove)
        path = f"/projects/{project}/pipelines/{name}"
        return tools.portal.go(visit, path, f"The preset {preset} is removed.")


def _open(tx: Transaction, visit: Visit, project: str, name: str, sources: Sources) -> OpenForm:
    project_id = open_project(tx, visit.actor, project, "pipeline.run").id
    return actions.open_form(tx, visit.actor, project_id, name, sources)


def _posted(visit: Visit, project: str, name: str, form: Form) -> OpenForm:
    """Give the form with what was typed into it, of the version it was made for."""
    text = form.values.get("version", "")
    number = int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 10 else None  # noqa: PLR2004 - as in addresses.
    opened = visit.read(lambda tx: _open(tx, visit, project, name, Sources(number)))
    texts: dict[str, tuple[str, ...]] = {AS_JSON: tuple(form.many(AS_JSON))}
    for field in list_fields(opened.spec):
        given = tuple(form.many(field.name))
        # A box to tick comes twice: as unticked, and once more when it is ticked.
        texts[field.name] = given if field.is_many else given[-1:]
    return _with(opened, {name: given for name, given in texts.items() if given})


def _with(opened: OpenForm, texts: Texts) -> OpenForm:
    return OpenForm(opened.version, opened.spec, opened.newest, texts)


def _or_again(
    tools: _Tools,
    visit: Visit,
    project: str,
    opened: OpenForm,
    form: Form,
    action: Callable[[], Response],
) -> Response:
    """Do something with the form, or show it again with what was typed and what is wrong."""
    try:
        return action()
    except MillpondError as fault:
        told = keep_typed(fault)
        # A page takes a form back only with this status, see frontend/src/portal.js.
        status = 422 if visit.is_fragment else fault.status
        return _render(tools, visit, project, opened, status, form=form, fault=told)


def keep_typed(fault: MillpondError) -> InvalidError:
    """Give a fault as one of the form it came of, which is shown again with all that was typed.

    Raises:
        NotAllowedError, NotSignedInError: another form would not help.
    """
    if isinstance(fault, NotAllowedError | NotSignedInError):
        raise fault
    if isinstance(fault, InvalidError):
        return fault
    return InvalidError(fault.message, next_step=fault.next_step)


def _render(
    tools: _Tools, visit: Visit, project: str, opened: OpenForm, status: int, **facts: object
) -> HTMLResponse:
    fields = list_fields(opened.spec)

    def look(tx: Transaction) -> dict[str, object]:
        project_id = open_project(tx, visit.actor, project, "pipeline.run").id
        data: dict[str, FoundData] = {
            one.name: actions.find_data(
                tx, visit.actor, project_id, one.data, one.text(opened.texts)[:100]
            )
            for one in fields
            if one.data is not None
        }
        listed = presets.list_presets(
            tx, visit.actor, project_id, opened.version.pipeline, limit=_PRESETS_SHOWN
        )
        return {"data": data, "presets": listed.items}

    given = {
        "opened": opened,
        "fields": fields,
        "preset": None,
        "from_run": "",
        **_shared(tools, project, opened),
        **visit.read(look),
        **facts,
    }
    return tools.portal.render(visit, "pipelines/starting/form.html", status, **given)


def _shared(tools: _Tools, project: str, opened: OpenForm) -> dict[str, str]:
    version, texts = opened.version, opened.texts
    query = write_link(opened.spec, texts)
    path = f"/projects/{project}/pipelines/{version.pipeline}/run?version={version.number}"
    return {
        "link": f"{tools.portal.url}{path}{'&' if query else ''}{query}",
        "command": write_command(version.address, opened.spec, texts, project),
    }
