"""The page that runs a program: a script that was pasted or sent, on datasets of the project."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.environments.actions import list_environments
from millpond.environments.values import Environment
from millpond.ground.errors import Fault, InvalidError, MillpondError
from millpond.lake.actions import list_datasets
from millpond.lake.manifests import read_manifest
from millpond.lake.values import FileEntry, LakeLimits, manifest_key, object_key
from millpond.people.actions import list_secrets, open_project
from millpond.pipelines.pinning import pin_inputs
from millpond.pipelines.requests import RunIn
from millpond.pipelines.runs.actions import get_own_spec, get_run
from millpond.pipelines.runs.routes import HasProgram, start_asked
from millpond.pipelines.specs.routes import open_for
from millpond.pipelines.starting.pages import keep_typed
from millpond.pipelines.uploads import store_content, store_files, tidy_code
from millpond.pipelines.values import PipelineSpec, Run, StepSpec
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.intake import check_json
from millpond.web.portal import Form, FormIn, Portal, Visit, VisitIn, page

_NEW = "/projects/{project}/programs/new"
_TEMPLATE = "pipelines/scripts/new.html"
_LISTED = 200
_ROWS_LEAST = 2
_OFFERED = "data"
_TEXT_BYTES_MOST = 256 << 10
_LIMITS = ("slots", "gpus", "seconds")


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    objects: ObjectStore
    limits: LakeLimits
    has_program: HasProgram


@dataclass(frozen=True)
class Code:
    """The code of an earlier run.

    Attributes:
        run: whose code it is.
        step: what its one step was allowed.
        files: all of it.
        text: of the program, when it is one file of text of a bearable length; else None.
    """

    run: Run
    step: StepSpec
    files: tuple[FileEntry, ...]
    text: str | None


def pages(
    portal: Portal, objects: ObjectStore, limits: LakeLimits, has_program: HasProgram
) -> APIRouter:
    """Make the page.

    Args:
        portal: makes it.
        objects: where contents lie.
        limits: of what is sent.
        has_program: whether tasks find a program such as ``Rscript``.
    """
    router, tools = APIRouter(), _Tools(portal, objects, limits, has_program)

    @router.get(_NEW, **page("pipeline.run"))
    def show_new(
        visit: VisitIn, project: str, from_run: Annotated[str, Query(max_length=100)] = ""
    ) -> HTMLResponse:
        """Show the form, empty or filled as an earlier run was."""
        open_for(visit, project, "pipeline.run")
        code = _code_of(tools, visit, project, from_run) if from_run else None
        return _render(tools, visit, project, 200, code=code)

    @router.post(_NEW, **page("pipeline.run"))
    def start_program(visit: VisitIn, project: str, form: FormIn) -> Response:
        """Store the program and start its run."""
        project_id = open_for(visit, project, "pipeline.run")
        from_run = form.values.get("from_run", "")
        code = _code_of(tools, visit, project, from_run) if from_run else None
        try:
            asked = _read(tools, visit, project_id, form, code)
            made = start_asked(visit, tools.objects, project, asked, tools.has_program)
        except MillpondError as fault:
            told = keep_typed(fault)
            return _render(tools, visit, project, fault.status, code=code, form=form, fault=told)
        path = f"/projects/{project}/runs/{made.id}"
        return portal.go(visit, path, f"A run of {made.what} was started.")

    return router


def _render(
    tools: _Tools,
    visit: Visit,
    project: str,
    status: int,
    *,
    code: Code | None,
    form: Form | None = None,
    fault: InvalidError | None = None,
) -> HTMLResponse:
    def look(tx: Transaction) -> dict[str, object]:
        project_id = open_project(tx, visit.actor, project, "pipeline.run").id
        actor = visit.actor
        environments = list_environments(tx, actor, project_id, limit=_LISTED).items
        return {
            "environments": _choices(environments, code),
            "secrets": list_secrets(tx, actor, project, limit=_LISTED).items,
            "datasets": list_datasets(tx, actor, project_id, limit=_LISTED).items,
        }

    given: dict[str, Any] = {"form": form} if form is not None else {}
    rows = read_rows(form) if form is not None else _rows_of(code)
    blank = [("", "")] * max(1, _ROWS_LEAST - len(rows))
    typed = write_parameters(code.run.parameters) if code is not None else ""
    facts = {
        "code": code,
        "parameters": typed,
        "rows": [*rows, *blank],
        "fault": fault,
        **given,
        **visit.read(look),
    }
    return tools.portal.render(visit, _TEMPLATE, status, **facts)


def _choices(environments: Sequence[Environment], code: Code | None) -> list[tuple[str, str]]:
    used = code.run.environment if code is not None else ""
    return [
        ("", "plain Python"),
        *([(used, f"{used}, as then")] if used else []),
        *(
            (one.name, one.name if one.state == "ready" else f"{one.name} ({one.state})")
            for one in environments
        ),
    ]


def _rows_of(code: Code | None) -> list[tuple[str, str]]:
    if code is None:
        return [(_OFFERED, "")]
    return [(one.name, f"{one.dataset}@{one.number}") for one in code.run.inputs]


def _code_of(tools: _Tools, visit: Visit, project: str, run_id: str) -> Code:
    def look(tx: Transaction) -> tuple[str, Run, PipelineSpec | None]:
        project_id = open_project(tx, visit.actor, project, "run.read").id
        run = get_run(tx, visit.actor, project_id, run_id)
        return project_id, run, get_own_spec(tx, run.id)

    project_id, run, spec = visit.read(look)
    if spec is None:
        raise InvalidError(
            f"{run.id} was a run of the pipeline {run.what}, not of a program.",
            next_step="Open it and choose to run it again there.",
            faults=[Fault("from_run", f"is a run of {run.what}")],
        )
    files = read_manifest(tools.objects, manifest_key(project_id, run.code_digest)).files
    text: str | None = None
    if len(files) == 1 and files[0].size <= _TEXT_BYTES_MOST:
        data = tools.objects.get(object_key(project_id, files[0].digest)) if files[0].size else b""
        with suppress(UnicodeDecodeError):
            text = data.decode()
    return Code(run, spec.steps[0], files, text)


# Reading the form ---------------------------------------------------------------------------


def _read(tools: _Tools, visit: Visit, project_id: str, form: Form, code: Code | None) -> RunIn:
    # The row that the form offers counts for none while no dataset stands in it.
    rows = [row for row in read_rows(form) if row != (_OFFERED, "")]
    parameters, faults = read_parameters(form.values.get("parameters", ""))
    faults += [Fault("inputs", f"{data!r} has no name") for name, data in rows if not name]
    faults += [Fault(f"inputs.{name}", "names no dataset") for name, data in rows if not data]
    names = [name for name, _ in rows]
    twice = {name for name in names if name and names.count(name) > 1}
    faults += [Fault(f"inputs.{name}", "was given twice") for name in sorted(twice)]
    inputs = {name: data for name, data in rows if name and data}
    faults += visit.read(lambda tx: pin_inputs(tx, project_id, inputs))[1]
    entry, files = _read_code(tools, project_id, form, code)
    if not files:
        faults.insert(0, Fault("program", "paste a script, or choose its files"))
    if faults:
        raise InvalidError(
            "Nothing was started: some of the form can't be read.",
            next_step="Mend what is listed and start it again.",
            faults=faults,
        )
    check_json(parameters)
    limits = {name: form.values[f"program.{name}"] for name in _LIMITS if _has(form, name)}
    if memory := form.values.get("program.memory_bytes", "").strip():
        limits["memory_bytes"] = _bytes_of(memory)
    program = {
        "entry": entry,
        "files": [vars(one) for one in files],
        "network": form.values.get("program.network") == "true",
        "secrets": form.many("program.secrets"),
        **limits,
    }
    environment = form.values.get("environment") or None
    return form.to(
        RunIn, program=program, environment=environment, inputs=inputs, parameters=parameters
    )


def _has(form: Form, name: str) -> bool:
    return bool(form.values.get(f"program.{name}", "").strip())


def _bytes_of(mebibytes: str) -> str:
    """Give a memory in bytes; what is no whole number goes on, for the request to name."""
    text = mebibytes.strip()
    is_whole = text.isascii() and text.isdecimal() and len(text) < 10  # noqa: PLR2004 - no such machine.
    return str(int(text) << 20) if is_whole else text


def read_rows(form: Form) -> list[tuple[str, str]]:
    """Give the rows of inputs as they were typed, without empty ones: name and dataset."""
    pairs = zip(form.many("input_name"), form.many("input_data"), strict=False)
    return [(name.strip(), data.strip()) for name, data in pairs if name.strip() or data.strip()]


def read_parameters(text: str) -> tuple[dict[str, Any], list[Fault]]:
    """Read ``NAME=VALUE`` lines as the command line reads them: JSON where it is some."""
    found: dict[str, Any] = {}
    faults = []
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        name, value = name.strip(), value.strip()
        if not line.strip():
            continue
        if not sign or not name:
            faults.append(Fault("parameters", f"{line.strip()[:80]!r} is not NAME=VALUE"))
        elif name in found:
            faults.append(Fault("parameters", f"{name[:80]!r} was given twice"))
        else:
            found[name] = _value(value)
    return found, faults


def write_parameters(values: Mapping[str, Any]) -> str:
    """Write parameters as lines that read back as the same."""
    return "\n".join(f"{name}={_line(value)}" for name, value in values.items())


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _line(value: Any) -> str:
    is_plain = isinstance(value, str) and value.splitlines() == [value] == [value.strip()]
    plain = value if is_plain and _value(value) == value else json.dumps(value)
    return str(plain)


def _read_code(
    tools: _Tools, project_id: str, form: Form, code: Code | None
) -> tuple[str, list[FileEntry]]:
    """Store what was pasted and sent; give the program's name and all files."""
    entry = form.values.get("program.entry", "").strip()
    sent = tidy_code(store_files(tools.objects, project_id, form.files("files"), tools.limits))
    # A shell does not take the ends of lines that a browser sends.
    script = form.values.get("script", "").replace("\r\n", "\n")
    if script.strip():
        data = script if script.endswith("\n") else script + "\n"
        stored = store_content(tools.objects, project_id, io.BytesIO(data.encode()), tools.limits)
        entry = entry or "main.py"
        return entry, [one for one in sent if one.path != entry] + [FileEntry(entry, *stored)]
    if not sent and code is not None:
        return entry or code.run.what, list(code.files)
    if len(sent) == 1 and (not entry or entry not in {one.path for one in sent}):
        entry = sent[0].path
    return entry or "main.py", sent
