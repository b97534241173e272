"""REST of runs: start, look, cancel, logs, outputs."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.ground.page import Page, decode_cursor, encode_cursor
from millpond.lake.actions import get_version as get_dataset_version
from millpond.lake.downloads import answer_content, disposition
from millpond.lake.values import FileEntry, decode_path, object_key
from millpond.people.actions import open_project
from millpond.pipelines.outputs.archive import stream_zip
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.outputs.values import OutputManifest
from millpond.pipelines.programs import HEAD_BYTES, plan_program
from millpond.pipelines.requests import ProgramIn, RunIn
from millpond.pipelines.runs import actions, logs
from millpond.pipelines.runs.values import LogPart
from millpond.pipelines.specs.routes import keep_code, open_for
from millpond.pipelines.values import Kind, Run, RunState, StepRun, Task
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

_MANIFESTS_KEPT = 8
HasProgram = Callable[[str], bool]


def add_routes(router: APIRouter, objects: ObjectStore, has_program: HasProgram) -> None:
    """Add the routes of runs."""
    _add_starting(router, objects, has_program)
    _add_looking(router)
    _add_parts(router, objects)
    _add_outputs(router, _Outputs(objects), objects)


def _add_starting(router: APIRouter, objects: ObjectStore, has_program: HasProgram) -> None:
    @router.post("/runs", status_code=201, **needs("pipeline.run"))
    def start_run(call: CallIn, project: str, asked: RunIn) -> Run:
        """Start a run of a pipeline, or of a program sent with it; it is queued and driven."""
        return start_asked(call, objects, project, asked, has_program)

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
    what: str | actions.Program = asked.pipeline or ""
    if asked.program is not None:
        what = _program(call, project_id, objects, asked, asked.program, has_program)
    return call.make(
        lambda tx: actions.start_run(
            tx,
            call.actor,
            project_id,
            what,
            inputs=asked.inputs,
            parameters=asked.parameters,
            environment=asked.environment,
        )
    )


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
            "memory_bytes": sent.memory_bytes,
            "disk_bytes": sent.disk_bytes,
            "seconds": sent.seconds,
            "network": sent.network,
            "secrets": tuple(sent.secrets),
        },
    )
    return actions.Program(sent.entry[:200], spec, key)


def _add_looking(router: APIRouter) -> None:
    @router.get("/runs", **needs("run.read"))
    def list_runs(
        call: CallIn,
        project: str,
        page: PageIn,
        state: RunState | None = None,
        pipeline: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Page[Run]:
        """List the project's runs, newest first."""

        def look(tx: Transaction) -> Page[Run]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            return actions.list_runs(
                tx,
                call.actor,
                project_id,
                state=state,
                pipeline=pipeline,
                cursor=page.cursor,
                limit=page.limit,
            )

        return call.read(look)

    @router.get("/runs/{run}", **needs("run.read"))
    def get_run(call: CallIn, project: str, run: str) -> Run:
        """Show a run with its progress."""
        return _find(call, project, run)


def _add_parts(router: APIRouter, objects: ObjectStore) -> None:
    @router.get("/runs/{run}/steps", **needs("run.read"))
    def list_steps(call: CallIn, project: str, run: str) -> Page[StepRun]:
        """List a run's steps in the order of the pipeline, all at once."""

        def look(tx: Transaction) -> Page[StepRun]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            return Page(actions.list_steps(tx, call.actor, project_id, run))

        return call.read(look)

    @router.get("/runs/{run}/tasks", **needs("run.read"))
    def list_tasks(
        call: CallIn, project: str, run: str, page: PageIn, step: str | None = None
    ) -> Page[Task]:
        """List a run's tasks: every try of every partition that was begun."""

        def look(tx: Transaction) -> Page[Task]:
            project_id = open_project(tx, call.actor, project, "run.read").id
            cursor, limit = page.cursor, page.limit
            return actions.list_tasks(
                tx, call.actor, project_id, run, step=step, cursor=cursor, limit=limit
            )

        return call.read(look)

    @router.get("/runs/{run}/log", **needs("run.read"))
    def read_log(
        call: CallIn,
        project: str,
        run: str,
        step: str | None = None,
        partition: Annotated[int | None, Query(ge=-2, le=2**31 - 1)] = None,
        after: Annotated[str | None, Query(description="`next` of the answer before.")] = None,
    ) -> LogPart:
        """Read a piece of a run's log, from `after` on, while it runs and later."""
        cursor = logs.Cursor.read(after)

        def look(tx: Transaction) -> tuple[Run, Any]:
            project_id = open_project(tx, call.actor, project, "log.read").id
            found = actions.get_run(tx, call.actor, project_id, run)
            return found, logs.list_logged(tx, found, cursor, step, partition)

        found, tasks = call.read(look)
        return logs.read_log(objects, found, tasks, cursor)


class _Outputs:
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


def _add_outputs(router: APIRouter, outputs: _Outputs, objects: ObjectStore) -> None:
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
