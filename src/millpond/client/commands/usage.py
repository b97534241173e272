"""The command that shows what runs have used."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import click

from millpond.client.call import Call, shared
from millpond.client.screen import Column, amount_text, seconds_text, size_text
from millpond.ground.errors import InvalidError
from millpond.watch.usage.values import RunUse, StepUse, Usage, UsageBy, UsageRow, Used


class _Day(click.ParamType[date]):
    """A day of the calendar."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read ``2026-05-01``."""
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; write it like 2026-05-01.", param, ctx)


_DAY = _Day()
_BY: dict[UsageBy, str] = {
    "day": "days",
    "project": "projects",
    "user": "users",
    "pipeline": "pipelines",
    "node": "nodes",
}


@click.command()
@click.option("--since", type=_DAY, help="First day, such as 2026-05-01.")
@click.option("--until", type=_DAY, help="Last day; today when left out.")
@click.option(
    "--by", type=click.Choice(list(_BY)), default="day", show_default=True, help="Sum up by."
)
@click.option("--all", "of_all", is_flag=True, help="Of the whole site; for administrators.")
@click.option("--run", "run_id", metavar="RUN", help="Of one run, by its steps.")
@shared
def usage(
    call: Call,
    since: date | None,
    until: date | None,
    by: UsageBy,
    of_all: bool,
    run_id: str | None,
) -> None:
    """Show what runs have used: processor hours, memory, tasks, cost.

    Of the project's last thirty days, unless something else is named.
    """
    if run_id and (of_all or since or until):
        raise InvalidError(
            "--run goes with neither --all, --since nor --until.",
            next_step="Leave those out to see the whole run.",
        )
    with call.client() as client:
        if run_id:
            _show_run(call, client.usage.run(run_id))
            return
        if of_all:
            found = client.usage.site(since=since, until=until)
        else:
            found = client.usage.get(since=since, until=until)
    _show(call, found, by)


def _show(call: Call, found: Usage, by: UsageBy) -> None:
    if call.as_json:
        call.say("", found)
        return
    rows: Sequence[UsageRow] = getattr(found, _BY[by])
    if by == "day":
        rows = [row for row in rows if row.used.tasks]
    columns: list[Column] = [(by.upper(), lambda row: row.key)]
    columns += [(head, _of_used(give)) for head, give in _columns(found.total)]
    nothing = f"Nothing was used from {found.since} to {found.until}."
    shown = [*rows, UsageRow("all", found.total)] if rows else []
    call.show_list(shown, columns, nothing)


def _columns(total: Used) -> list[Column]:
    columns: list[Column] = [
        ("TASKS", lambda used: used.tasks),
        ("CPU HOURS", lambda used: amount_text(used.cpu_hours)),
        ("TASK HOURS", lambda used: amount_text(used.task_hours)),
        ("GB HOURS", lambda used: amount_text(used.memory_gb_hours)),
    ]
    if total.cost is not None:
        columns.append(
            ("COST", lambda used: "-" if used.cost is None else amount_text(used.cost, 2))
        )
    return columns


def _of_used(give: Callable[[Used], object]) -> Callable[[UsageRow | StepUse], object]:
    return lambda row: give(row.used)


def _show_run(call: Call, found: RunUse) -> None:
    if call.as_json:
        call.say("", found)
        return
    columns: list[Column] = [("STEP", lambda one: one.step), ("RUNNING", lambda one: one.running)]
    # A run may take seconds: hours would all be naught.
    times: list[Column] = [
        ("CPU TIME", lambda used: seconds_text(used.cpu_hours * 3600)),
        ("TASK TIME", lambda used: seconds_text(used.task_hours * 3600)),
    ]
    tasks, _, _, *rest = _columns(found.total)
    columns += [(head, _of_used(give)) for head, give in (tasks, *times, *rest)]
    columns += [
        ("PEAK MEMORY", lambda one: size_text(one.memory_peak_bytes)),
        ("NODES", lambda one: ", ".join(one.nodes) or "-"),
    ]
    call.show_list(found.steps, columns, "No task has begun.")
