"""Tell what runs have used."""

from collections.abc import Callable, Mapping
from datetime import date

from millpond.ground.actor import Actor
from millpond.machines.values import NodePrice
from millpond.people.actions import list_projects, open_project
from millpond.people.values import ProjectFilter
from millpond.pipelines.usage import actions as used
from millpond.storage.database import Transaction
from millpond.watch.usage import rules
from millpond.watch.usage.values import RunUse, Usage

Prices = Callable[[Transaction], Mapping[str, NodePrice]]
"""Give by node what it costs in an hour; nodes without a price are left out."""

_NAMES_AT_ONCE = 500


def get_usage(
    tx: Transaction,
    actor: Actor,
    project: str,
    since: date | None = None,
    until: date | None = None,
    *,
    prices: Prices,
) -> Usage:
    """Tell what the runs of a project used, by the day on which tasks ended (UTC).

    Args:
        tx: the transaction.
        actor: who asks.
        project: its name.
        since: the first day; None for thirty days.
        until: the last; None for today.
        prices: of the nodes, as they are now.

    Raises:
        InvalidError: the days are turned around, or more than a year.
    """
    days = rules.choose_days(since, until, tx.now.date())
    found = open_project(tx, actor, project, "usage.read")
    rows = used.list_use(tx, actor, found.id, *rules.moments(*days))
    names = {found.id: found.name}
    return rules.tell_usage(rows, project=found.name, days=days, names=names, prices=prices(tx))


def get_site_usage(
    tx: Transaction,
    actor: Actor,
    since: date | None = None,
    until: date | None = None,
    *,
    prices: Prices,
) -> Usage:
    """Tell what all runs of the site used; for administrators."""
    days = rules.choose_days(since, until, tx.now.date())
    rows = used.list_use(tx, actor, None, *rules.moments(*days))
    names = _project_names(tx, actor) if rows else {}
    return rules.tell_usage(rows, project="", days=days, names=names, prices=prices(tx))


def get_run_usage(
    tx: Transaction, actor: Actor, project: str, run_id: str, *, prices: Prices
) -> RunUse:
    """Tell what a run has used, by step and node, and when.

    Raises:
        NotFoundError: there is no such run in this project.
    """
    project_id = open_project(tx, actor, project, "run.read").id
    found, spans = used.list_spans(tx, actor, project_id, run_id)
    return rules.tell_run(found.id, spans, tx.now, prices(tx))


def _project_names(tx: Transaction, actor: Actor) -> dict[str, str]:
    names: dict[str, str] = {}
    cursor: str | None = None
    while True:
        asked = ProjectFilter(is_all=True)
        page = list_projects(tx, actor, asked, cursor=cursor, limit=_NAMES_AT_ONCE)
        names |= {each.id: each.name for each in page.items}
        cursor = page.next_cursor
        if cursor is None:
            return names
