"""Commands for the server's queue."""

import click

from millpond.client.call import Call, shared
from millpond.client.screen import Column
from millpond.jobs.values import JOB_STATES


@click.group()
def job() -> None:
    """See what the server has to do, and put back what it gave up; for administrators."""


@job.command("list")
@click.option("--state", type=click.Choice(JOB_STATES), help="Only these.")
@click.option("--kind", help="Only of this kind, for example pipelines.run.")
@click.option("--most", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@shared
def list_jobs(call: Call, state: str | None, kind: str | None, most: int) -> None:
    """List jobs, newest first; the state `dead` is what was given up."""
    with call.client() as client:
        found = client.jobs.list(state=state, kind=kind, most=most)
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("KIND", lambda one: one.kind),
        ("STATE", lambda one: one.state),
        ("TRIES", lambda one: f"{one.tries} of {one.max_tries}"),
        ("PUT", lambda one: one.put_at),
        ("REASON", lambda one: one.reason or "-"),
    ]
    call.show_list(found, columns, "There are no such jobs.")


@job.command("show")
@click.argument("job_id", metavar="ID")
@shared
def show_job(call: Call, job_id: str) -> None:
    """Show the job ID."""
    with call.client() as client:
        found = client.jobs.get(job_id)
    call.show(
        found,
        [
            ("id", found.id),
            ("kind", found.kind),
            ("state", found.state),
            ("reason", found.reason),
            ("tries", f"{found.tries} of {found.max_tries}"),
            ("project", found.project_id),
            ("put", found.put_at),
            ("not before", found.run_at),
            ("started", found.started_at),
            ("ended", found.ended_at),
            ("held by", found.holder),
            ("facts", found.facts),
        ],
    )


@job.command("requeue")
@click.argument("job_id", metavar="ID")
@shared
def requeue_job(call: Call, job_id: str) -> None:
    """Put the job ID, which was given up, back into the queue."""
    with call.client() as client:
        found = client.jobs.requeue(job_id)
    call.say(f"{found.id} is {found.state} again.", found)


@job.command("schedules")
@shared
def list_schedules(call: Call) -> None:
    """List what is put into the queue by the clock."""
    with call.client() as client:
        found = client.jobs.schedules()
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("KIND", lambda one: one.kind),
        ("CRON", lambda one: one.cron),
        ("ZONE", lambda one: one.time_zone),
        ("ON", lambda one: one.is_enabled),
        ("NEXT", lambda one: one.next_at),
        ("LAST", lambda one: one.last_at),
    ]
    call.show_list(found, columns, "There are no schedules.")
