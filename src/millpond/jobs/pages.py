"""Pages of the queue and of the schedules, for site administrators."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import InvalidError
from millpond.jobs import actions, schedules
from millpond.jobs.port import Ending
from millpond.jobs.requests import ScheduleRequest
from millpond.jobs.values import JOB_STATES, JobState
from millpond.storage.database import Transaction
from millpond.web.calls import PageIn
from millpond.web.portal import Form, FormIn, NavItem, Portal, Visit, VisitIn, page

_QUEUE, _SCHEDULES = "/admin/queue", "/admin/schedules"
NAV = (
    NavItem("Queue", _QUEUE, icon="stack-2", permission="job.read", place="admin", order=40),
    NavItem("Schedules", _SCHEDULES, icon="clock", permission="job.read", place="admin", order=45),
)
_JobId = Annotated[str, Path(pattern=r"^job_[0-9a-z]+$", max_length=40)]
_Text = Annotated[str, Query(max_length=80)]


def pages(
    portal: Portal, kinds: Collection[str], endings: Mapping[str, Ending] | None = None
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        kinds: the kinds of job that there are handlers for.
        endings: what rooms do when a job of theirs is cancelled; the same that the pool has.
    """
    router = APIRouter()
    _add_queue(router, portal, sorted(kinds))
    _add_job(router, portal, endings)
    _add_schedules(router, portal, sorted(kinds))
    _add_one_schedule(router, portal, kinds)
    return router


def _add_queue(router: APIRouter, portal: Portal, kinds: Collection[str]) -> None:
    @router.get(_QUEUE, **page("job.read"))
    def show_queue(
        visit: VisitIn, asked: PageIn, state: _Text = "", kind: _Text = ""
    ) -> HTMLResponse:
        """Show what waits, runs, was done or was given up, newest first."""
        wanted: JobState | None = next((one for one in JOB_STATES if one == state), None)

        def read(tx: Transaction) -> dict[str, Any]:
            found = actions.list_jobs(
                tx,
                visit.actor,
                state=wanted,
                kind=kind or None,
                cursor=asked.cursor,
                limit=asked.limit,
            )
            return {"found": found, "counts": asdict(actions.count_jobs(tx))}

        return portal.render(
            visit, "jobs/list.html", **visit.read(read), state=wanted or "", kind=kind, kinds=kinds
        )


def _add_job(router: APIRouter, portal: Portal, endings: Mapping[str, Ending] | None) -> None:
    path = _QUEUE + "/{job_id}"

    @router.get(path, **page("job.read"))
    def show_job(visit: VisitIn, job_id: _JobId) -> HTMLResponse:
        """Show a job."""
        found = visit.read(lambda tx: actions.get_job(tx, visit.actor, job_id))
        return portal.render(visit, "jobs/job.html", found=found)

    @router.post(path + "/requeue", **page("job.write"))
    def requeue(visit: VisitIn, job_id: _JobId) -> Response:
        """Let a dead or cancelled job wait again."""
        visit.change(lambda tx: actions.requeue(tx, visit.actor, job_id))
        return portal.go(visit, f"{_QUEUE}/{job_id}", "It waits again, with all its tries ahead.")

    @router.post(path + "/cancel", **page("job.write"))
    def cancel(visit: VisitIn, job_id: _JobId) -> Response:
        """Cancel a job that has not ended."""
        visit.change(lambda tx: actions.cancel(tx, visit.actor, job_id, endings=endings))
        return portal.go(visit, f"{_QUEUE}/{job_id}", "It is cancelled.")


def _add_schedules(router: APIRouter, portal: Portal, kinds: Collection[str]) -> None:
    def show(
        visit: Visit, asked: PageIn, form: Form | None, fault: InvalidError | None
    ) -> Response:
        found = visit.read(
            lambda tx: schedules.list_schedules(
                tx, visit.actor, cursor=asked.cursor, limit=asked.limit
            )
        )
        facts: dict[str, Any] = {"found": found, "kinds": [(kind, kind) for kind in kinds]}
        if form is None:
            return portal.render(visit, "jobs/schedules.html", **facts)
        return portal.render(visit, "jobs/schedules.html", 422, form=form, fault=fault, **facts)

    @router.get(_SCHEDULES, **page("job.read"))
    def show_schedules(visit: VisitIn, asked: PageIn) -> Response:
        """Show what is put into the queue by the clock."""
        return show(visit, asked, None, None)

    @router.post(_SCHEDULES, **page("job.write"))
    def set_schedule(visit: VisitIn, form: FormIn, asked: PageIn) -> Response:
        """Make a schedule, or change it."""
        name = form.values.get("name", "").strip()

        def change(tx: Transaction) -> None:
            kept = schedules.kept_of(tx, visit.actor, name)
            asked_for = body.model_copy(update=kept)
            schedules.set_schedule(tx, visit.actor, name, asked_for, kinds=kinds)

        try:
            body = form.to(ScheduleRequest)
            visit.change(change)
        except InvalidError as fault:
            return show(visit, asked, form, fault)
        return portal.go(visit, _SCHEDULES, f"The schedule {name} is set.")


def _add_one_schedule(router: APIRouter, portal: Portal, kinds: Collection[str]) -> None:
    @router.post(_SCHEDULES + "/{name}/switch", **page("job.write"))
    def switch_schedule(visit: VisitIn, name: str) -> Response:
        """Switch a schedule on or off; all else about it stays."""

        def change(tx: Transaction) -> bool:
            found = schedules.get_schedule(tx, visit.actor, name)
            kept = {field: getattr(found, field) for field in ScheduleRequest.model_fields}
            body = ScheduleRequest(**(kept | {"is_enabled": not found.is_enabled}))
            return schedules.set_schedule(tx, visit.actor, name, body, kinds=kinds).is_enabled

        said = "puts jobs again" if visit.change(change) else "puts no more jobs"
        return portal.go(visit, _SCHEDULES, f"The schedule {name} {said}.")

    @router.post(_SCHEDULES + "/{name}/remove", **page("job.write"))
    def remove_schedule(visit: VisitIn, name: str) -> Response:
        """Delete a schedule; jobs that it has put stay."""
        visit.change(lambda tx: schedules.remove_schedule(tx, visit.actor, name))
        return portal.go(visit, _SCHEDULES, f"The schedule {name} is forgotten.")
