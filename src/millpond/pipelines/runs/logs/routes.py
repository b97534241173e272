"""REST of runs' logs: pieces in both directions, search, the whole as a file."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from millpond.ground.errors import Fault, InvalidError
from millpond.lake.downloads import disposition
from millpond.people.actions import open_project
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.logs.beside import (
    PLACE_LENGTH_MOST,
    Places,
    list_beside,
    read_beside,
)
from millpond.pipelines.runs.logs.reading import (
    LINES_MOST,
    MANY,
    Begun,
    Scope,
    list_before,
    list_from,
    read_backward,
    read_forward,
    stream_log,
)
from millpond.pipelines.runs.logs.searching import search_log
from millpond.pipelines.runs.logs.values import END, LogMatches, LogPart, LogPlace
from millpond.pipelines.values import Run
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, needs

_LINES = 1000
_LOG = "/runs/{run}/log"
Step = Annotated[str | None, Query(max_length=200, description="Only of this step.")]
Partition = Annotated[
    int | None, Query(ge=-2, le=2**31 - 1, description="Only of this partition; -1 is splitting.")
]


def add_routes(router: APIRouter, objects: ObjectStore) -> None:
    """Add the routes of logs."""
    _add_reading(router, objects)
    _add_search(router, objects)
    _add_download(router, objects)


def _add_reading(router: APIRouter, objects: ObjectStore) -> None:
    @router.get(_LOG, **needs("run.read"))
    def read_log(
        call: CallIn,
        project: str,
        run: str,
        step: Step = None,
        partition: Partition = None,
        after: Annotated[
            str | None,
            Query(max_length=PLACE_LENGTH_MOST, description="`next` of the answer before."),
        ] = None,
        before: Annotated[
            str | None,
            Query(max_length=40, description="`previous` of an answer, or `end` for the newest."),
        ] = None,
        is_beside: Annotated[
            bool,
            Query(
                alias="beside",
                description="What all running tasks write, side by side; the last lines at first.",
            ),
        ] = False,
        lines: Annotated[
            int | None,
            Query(ge=1, le=LINES_MOST, description=f"At most; {_LINES} with `before`."),
        ] = None,
    ) -> LogPart:
        """Read a piece of a run's log, while it runs and later, in either direction.

        From `after` on, or the last lines before `before`; an answer holds about 256 KiB at most.
        """
        if before is not None and (after is not None or is_beside):
            raise InvalidError(
                "A log is read from a place on or before a place.",
                next_step="Send one of `after` and `before`; what runs now is only followed.",
                faults=[Fault("before", "can't stand beside `after` or `beside`")],
            )
        scope = Scope(step, partition)
        if is_beside:
            places = None if after is None else Places.read(after)
            found, tasks = _look_beside(call, project, run, scope, places)
            return read_beside(objects, found, tasks, places, lines or _LINES)
        if before is None:
            place = LogPlace.read(after or "")
            found, tasks = _look(call, project, run, scope, place)
            return read_forward(objects, found, tasks, place, lines or MANY)
        end = None if before == END else LogPlace.read(before, "before")
        found, tasks = _look_back(call, project, run, scope, end)
        return read_backward(objects, found, tasks, end, lines or _LINES)


def _add_search(router: APIRouter, objects: ObjectStore) -> None:
    @router.get(f"{_LOG}/search", **needs("run.read"))
    def search_in_log(
        call: CallIn,
        project: str,
        run: str,
        text: Annotated[str, Query(min_length=1, max_length=200)],
        step: Step = None,
        partition: Partition = None,
        after: Annotated[
            str | None, Query(max_length=40, description="`next` of the answer before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> LogMatches:
        """Find the lines of a run's log that hold a text, upper and lower case alike.

        An answer comes after 32 MiB at the latest, with what was found and where to go on.
        """
        place = LogPlace.read(after or "")
        found, tasks = _look(call, project, run, Scope(step, partition), place)
        return search_log(objects, found, tasks, place, text, limit)


def _add_download(router: APIRouter, objects: ObjectStore) -> None:
    @router.get(f"{_LOG}/text", response_class=StreamingResponse, **needs("run.read"))
    def download_log(
        call: CallIn, project: str, run: str, step: Step = None, partition: Partition = None
    ) -> StreamingResponse:
        """Download a run's whole log as text, sent while it is read."""
        scope = Scope(step, partition)
        found, _ = _look(call, project, run, scope, LogPlace())

        def list_page(place: LogPlace) -> Begun:
            return call.read(lambda tx: list_from(tx, found, place, scope))

        name = "-".join([found.id, *([step] if step else []), *_number(partition)])
        return StreamingResponse(
            stream_log(objects, found, list_page),
            headers={"Content-Disposition": disposition(f"{name}.log".encode())},
            media_type="text/plain; charset=utf-8",
        )


def _number(partition: int | None) -> list[str]:
    return [] if partition is None else [str(partition)]


def _look(call: Call, project: str, run: str, scope: Scope, place: LogPlace) -> tuple[Run, Begun]:
    def look(tx: Transaction) -> tuple[Run, Begun]:
        found = _find(tx, call, project, run)
        return found, list_from(tx, found, place, scope)

    return call.read(look)


def _look_back(
    call: Call, project: str, run: str, scope: Scope, place: LogPlace | None
) -> tuple[Run, Begun]:
    def look(tx: Transaction) -> tuple[Run, Begun]:
        found = _find(tx, call, project, run)
        return found, list_before(tx, found, place, scope)

    return call.read(look)


def _look_beside(
    call: Call, project: str, run: str, scope: Scope, places: Places | None
) -> tuple[Run, Begun]:
    def look(tx: Transaction) -> tuple[Run, Begun]:
        found = _find(tx, call, project, run)
        return found, list_beside(tx, found, places, scope)

    return call.read(look)


def _find(tx: Transaction, call: Call, project: str, run: str) -> Run:
    project_id = open_project(tx, call.actor, project, "run.read").id
    return actions.get_run(tx, call.actor, project_id, run)
