"""The REST routes of jobs and schedules, for site administrators."""

from collections.abc import Collection, Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query

from millpond.ground.page import Page
from millpond.jobs import actions, schedules
from millpond.jobs.port import Ending
from millpond.jobs.requests import ScheduleRequest
from millpond.jobs.values import Job, JobState, Schedule
from millpond.web.frame import CallIn, PageIn, needs

JobId = Annotated[str, Path(pattern=r"^job_[0-9a-z]+$", max_length=40)]
Kind = Annotated[str | None, Query(pattern=r"^[\w.-]+$", max_length=80)]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]


def routes(kinds: Collection[str], endings: Mapping[str, Ending] | None = None) -> APIRouter:
    """Give the routes.

    Args:
        kinds: the kinds of job that there are handlers for.
        endings: what rooms do when a job of theirs is cancelled; the same that the pool has.
    """
    router = APIRouter(tags=["jobs"])
    _add_jobs(router, endings)
    _add_schedules(router, kinds)
    return router


def _add_jobs(router: APIRouter, endings: Mapping[str, Ending] | None) -> None:
    @router.get("/jobs", **needs("job.read"))
    def list_jobs(
        call: CallIn, page: PageIn, state: JobState | None = None, kind: Kind = None
    ) -> Page[Job]:
        """List jobs, newest first."""
        return call.read(
            lambda tx: actions.list_jobs(
                tx, call.actor, state=state, kind=kind, cursor=page.cursor, limit=page.limit
            )
        )

    @router.get("/jobs/{job_id}", **needs("job.read"))
    def get_job(call: CallIn, job_id: JobId) -> Job:
        """Show a job."""
        return call.read(lambda tx: actions.get_job(tx, call.actor, job_id))

    @router.post("/jobs/{job_id}/requeue", **needs("job.write"))
    def requeue(call: CallIn, job_id: JobId) -> Job:
        """Let a dead or cancelled job wait again."""
        return call.make(lambda tx: actions.requeue(tx, call.actor, job_id))

    @router.post("/jobs/{job_id}/cancel", **needs("job.write"))
    def cancel(call: CallIn, job_id: JobId) -> Job:
        """Cancel a job that has not ended."""
        return call.make(lambda tx: actions.cancel(tx, call.actor, job_id, endings=endings))


def _add_schedules(router: APIRouter, kinds: Collection[str]) -> None:
    @router.get("/schedules", **needs("job.read"))
    def list_schedules(call: CallIn, page: PageIn) -> Page[Schedule]:
        """List schedules by name."""
        return call.read(
            lambda tx: schedules.list_schedules(
                tx, call.actor, cursor=page.cursor, limit=page.limit
            )
        )

    @router.get("/schedules/{name}", **needs("job.read"))
    def get_schedule(call: CallIn, name: Name) -> Schedule:
        """Show a schedule."""
        return call.read(lambda tx: schedules.get_schedule(tx, call.actor, name))

    @router.put("/schedules/{name}", **needs("job.write"))
    def set_schedule(call: CallIn, name: Name, request: ScheduleRequest) -> Schedule:
        """Make a schedule, or change it; `is_enabled` switches it."""
        return call.change(
            lambda tx: schedules.set_schedule(tx, call.actor, name, request, kinds=kinds)
        )

    @router.delete("/schedules/{name}", status_code=204, **needs("job.write"))
    def remove_schedule(call: CallIn, name: Name) -> None:
        """Delete a schedule; jobs that it has put stay."""
        call.change(lambda tx: schedules.remove_schedule(tx, call.actor, name))
