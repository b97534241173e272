"""REST of runs: start, start again, look, cancel."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from millpond.ground.address import parse_address
from millpond.ground.errors import Fault, InvalidError
from millpond.ground.page import Page
from millpond.lake.actions import get_version as get_dataset_version
from millpond.lake.values import object_key
from millpond.machines.live import LiveTasks
from millpond.people.actions import open_project
from millpond.pipelines.presets.actions import get_preset
from millpond.pipelines.programs import HEAD_BYTES, plan_program
from millpond.pipelines.requests import ProgramIn, RunIn
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.figures import add_figures
from millpond.pipelines.runs.values import RunFilter
from millpond.pipelines.specs.routes import keep_code, open_for
from millpond.pipelines.values import Kind, Run, RunState, StepRun, Task, TaskState
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

HasProgram = Callable[[str], bool]


def add_routes(
    router: APIRouter, objects: ObjectStore, has_program: HasProgram, live: LiveTasks
) -> None:
    """Add the routes of runs; ``live`` knows what the tasks that run take."""
    _add_starting(router, objects, has_program)
    _add_looking(router)
    _add_parts(router, live)


def _add_starting(router: APIRouter, objects: ObjectStore, has_program: HasProgram) -> None:
    @router.post("/runs", status_code=201, **needs("pipeline.run"))
    def start_run(call: CallIn, project: str, asked: RunIn) -> Run:
        """Start a run of a pipeline, or of a program sent with it; it is queued and driven."""
        return start_asked(call, objects, project, asked, has_program)

    @router.post("/runs/{run}/again", status_code=201, **needs("pipeline.run"))
    def run_again(call: CallIn, project: str, run: str) -> Run:
        """Start a run of the same code on the same data with the same parameters."""

        def again(tx: Transaction) -> Run:
            project_id = open_project(tx, call.actor, project, "pipeline.run").id
            return actions.run_again(tx, call.actor, project_id, run)

        return call.make(again)

    @router.post("/runs/{run}/cancel", **needs("run.cancel"))
    def cancel_run(call: CallIn, project: str, run: str) -> Run:
        """Cancel a run; its tasks are killed within two seconds."""

        def cancel(tx: Transaction) -> Run:
            project_id = open_project(tx, call.actor, project, "run.cancel").id
            return actions.cancel_run(tx, call.actor, project_id, run)

        return call.change(cancel)


def start_asked(
    call: Call, objects: ObjectStore, project: str, asked: RunIn, has_program: HasProgram
) -> Run:
    """Start what a request asks for; contents of a program were sent before.

    Raises:
        InvalidError: something doesn't fit; lists every fault.
    """
    project_id = open_for(call, project, "pipeline.run")
    if (asked.pipeline is None) == (asked.program is None):
        raise InvalidError(
            "A run is one of a pipeline or of a program.",
            next_step="Name one of them.",
            faults=[Fault("pipeline", "exactly one of pipeline and program is needed")],
        )
    if asked.program is not None and asked.preset is not None:
        raise InvalidError(
            "A program has no presets.",
            next_step="Leave the preset out, or name a pipeline.",
            faults=[Fault("preset", "is only for a pipeline")],
        )
    what: str | actions.Program = asked.pipeline or ""
    if asked.program is not None:
        what = _program(call, project_id, objects, asked, asked.program, has_program)

    def start(tx: Transaction) -> Run:
        inputs, parameters = asked.inputs, asked.parameters
        if asked.preset is not None and asked.pipeline is not None:
            name = parse_address(asked.pipeline, "pipeline").name
            kept = get_preset(tx, call.actor, project_id, name, asked.preset)
            inputs, parameters = {**kept.inputs, **inputs}, {**kept.parameters, **parameters}
        return actions.start_run(
            tx,
            call.actor,
            project_id,
            what,
            inputs=inputs,
            parameters=parameters,
            environment=asked.environment,
        )

    return call.make(start)


def _program(
    call: Call,
    project_id: str,
    objects: ObjectStore,
    asked: RunIn,
    sent: ProgramIn,
    has_program: HasProgram,
) -> actions.Program:
    entries, key = keep_code(objects, project_id, [one.to_entry() for one in sent.files])
    paths = {entry.path: entry for entry in entries}
    main = paths.get(sent.entry)
    head = b""
    if main is not None and main.size:
        head = objects.get(object_key(project_id, main.digest), 0, min(main.size, HEAD_BYTES))

    def kinds(tx: Transaction) -> dict[str, Kind]:
        found: dict[str, Kind] = {}
        for name, address in asked.inputs.items():
            found[name] = get_dataset_version(tx, project_id, address).kind
        return found

    spec = plan_program(
        sent.entry,
        head,
        files=paths,
        inputs=call.read(kinds),
        parameters=asked.parameters,
        has_program=has_program,
        limits={
            "slots": sent.slots,
            "gpus": sent.gpus,
            "memory_bytes": sent.memory_bytes,
            "disk_bytes": sent.disk_bytes,
            "seconds": sent.seconds,
            "network": sent.network,
            "secrets": tuple(sent.secrets),
        },
    )
    return actions.Program(sent.entry[:200], spec, key)


def read_filter(
    state: Annotated[list[RunState] | None, Query(description="Several count for any.")] = None,
    pipeline: Annotated[str, Query(max_length=100, description="`NAME` or `NAME@N`.")] = "",
    by: Annotated[str, Query(max_length=80, description="Name of who started it.")] = "",
    since: Annotated[datetime | None, Query(description="Started then or later.")] = None,
    until: Annotated[datetime | None, Query(description="Started before.")] = None,
    text: Annotated[
        str, Query(max_length=100, description="Stands in its id, its pipeline or `by`.")
    ] = "",
) -> RunFilter:
    """Take what narrows a list of runs; a time without a zone is UTC."""
    return RunFilter(tuple(state or ()), pipeline, by, _utc(since), _utc(until), text.strip())


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


FilterIn = Annotated[RunFilter, Depends(read_filter)]


def _add_looking(router: APIRouter) -> None:
    @router.get("/runs", **needs("run.read"))
    def list_runs(call: CallIn, project: str, page: PageIn, wanted: FilterIn) -> Page[Run]:
        """List the project's runs, newest first."""

        def look(tx: Transaction) -> Page[Run]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_runs(tx, call.actor, project_id, wanted, cursor=cursor, limit=limit)

        return call.read(look)

    @router.get("/runs/{run}", **needs("run.read"))
    def get_run(call: CallIn, project: str, run: str) -> Run:
        """Show a run with its progress."""
        return _find(call, project, run)


def _add_parts(router: APIRouter, live: LiveTasks) -> None:
    @router.get("/runs/{run}/steps", **needs("run.read"))
    def list_steps(call: CallIn, project: str, run: str) -> Page[StepRun]:
        """List a run's steps in the order of the pipeline, all at once."""

        def look(tx: Transaction) -> Page[StepRun]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            return Page(actions.list_steps(tx, call.actor, project_id, run))

        return call.read(look)

    @router.get("/runs/{run}/tasks", **needs("run.read"))
    def list_tasks(
        call: CallIn,
        project: str,
        run: str,
        page: PageIn,
        step: str | None = None,
        state: TaskState | None = None,
    ) -> Page[Task]:
        """List a run's tasks: every try that was begun, and what those that run take now."""

        def look(tx: Transaction) -> Page[Task]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_tasks(
                tx, call.actor, project_id, run, step=step, state=state, cursor=cursor, limit=limit
            )

        found = call.read(look)
        return replace(found, items=add_figures(found.items, run, live))


def _find(call: Call, project: str, run: str) -> Run:
    def look(tx: Transaction) -> Run:
        project_id = open_project(tx, call.actor, project, "run.read").id
        return actions.get_run(tx, call.actor, project_id, run)

    return call.read(look)
