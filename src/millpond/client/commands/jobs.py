"""Commands for the server's queue."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.screen import Column, shown
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


@job.command("cancel")
@click.argument("job_id", metavar="ID")
@yes_option
@shared
def cancel_job(call: Call, job_id: str, yes: bool) -> None:
    """Cancel the job ID, which has not ended."""
    call.confirm(f"Cancel {job_id}?", yes=yes)
    with call.client() as client:
        found = client.jobs.cancel(job_id)
    call.say(f"{found.id} is {found.state}.", found)


@job.group("schedule")
def schedule() -> None:
    """What is put into the queue by the clock."""


@schedule.command("list")
@shared
def list_schedules(call: Call) -> None:
    """List the schedules by name."""
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


@schedule.command("show")
@click.argument("name")
@shared
def show_schedule(call: Call, name: str) -> None:
    """Show the schedule NAME."""
    with call.client() as client:
        found = client.jobs.schedule(name)
    call.show(
        found,
        [
            ("name", found.name),
            ("kind", found.kind),
            ("cron", found.cron),
            ("time zone", found.time_zone),
            ("on", found.is_enabled),
            ("next", found.next_at),
            ("last", found.last_at),
            ("facts", found.facts),
        ],
    )


@schedule.command("set")
@click.argument("name")
@click.option("--kind", required=True, help="The kind of job, for example audit.seal.")
@click.option("--cron", required=True, help="Five fields, or six with seconds first.")
@click.option("--time-zone", default="UTC", show_default=True, help="Where the fields are read.")
@click.option("--off", is_flag=True, help="Keep it, but put nothing.")
@shared
def set_schedule(call: Call, name: str, kind: str, cron: str, time_zone: str, off: bool) -> None:
    """Make the schedule NAME, or change it."""
    with call.client() as client:
        found = client.jobs.set_schedule(name, kind, cron, time_zone=time_zone, is_enabled=not off)
    call.say(f"{found.name}: next at {shown(found.next_at)}.", found)


@schedule.command("remove")
@click.argument("name")
@yes_option
@shared
def remove_schedule(call: Call, name: str, yes: bool) -> None:
    """Forget the schedule NAME; jobs that it has put stay."""
    call.confirm(f"Forget the schedule {name!r}?", yes=yes)
    with call.client() as client:
        client.jobs.remove_schedule(name)
    call.say(f"Forgot {name}.", {"removed": name})
