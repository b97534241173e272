"""Pages of usage: a project's, the whole site's, and the resources of one run."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from millpond.ground.errors import Fault, InvalidError
from millpond.watch.usage import actions
from millpond.watch.usage.actions import Prices
from millpond.watch.usage.values import RunCurve, RunUse, Usage
from millpond.web.portal import NavItem, Portal, VisitIn, page

_PROJECT, _SITE = "/projects/{project}/usage", "/admin/usage"
_RUN = "/projects/{project}/runs/{run}/resources"
NAV = (
    NavItem("Usage", _PROJECT, icon="chart-bar", permission="usage.read", order=75),
    NavItem("Usage", _SITE, icon="chart-bar", permission="monitor.read", place="admin", order=17),
)
_Day = Annotated[str, Query(max_length=20)]
_GB = 1e9


def pages(portal: Portal, prices: Prices) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        prices: of the nodes.
    """
    router = APIRouter()

    @router.get(_PROJECT, **page("usage.read"))
    def show_usage(
        visit: VisitIn, project: str, since: _Day = "", until: _Day = ""
    ) -> HTMLResponse:
        """Show what a project's runs used."""
        days = _days(since, until)
        found = visit.read(
            lambda tx: actions.get_usage(tx, visit.actor, project, *days, prices=prices)
        )
        return _render(portal, visit, found)

    @router.get(_SITE, **page("monitor.read"))
    def show_site_usage(visit: VisitIn, since: _Day = "", until: _Day = "") -> HTMLResponse:
        """Show what all runs used."""
        days = _days(since, until)
        found = visit.read(lambda tx: actions.get_site_usage(tx, visit.actor, *days, prices=prices))
        return _render(portal, visit, found)

    @router.get(_RUN, **page("run.read"))
    def show_resources(visit: VisitIn, project: str, run: str) -> HTMLResponse:
        """Show what a run has used, and when."""
        found = visit.read(
            lambda tx: actions.get_run_usage(tx, visit.actor, project, run, prices=prices)
        )
        return portal.render(visit, "watch/usage/run.html", found=found, plots=_run_plots(found))

    return router


def _render(portal: Portal, visit: VisitIn, found: Usage) -> HTMLResponse:
    groups = [("By person", "Person", found.users), ("By pipeline", "Pipeline", found.pipelines)]
    if not found.project:
        groups.insert(0, ("By project", "Project", found.projects))
    groups.append(("By node", "Node", found.nodes))
    return portal.render(
        visit, "watch/usage/usage.html", found=found, plots=draw_days(found), groups=groups
    )


def _days(since: str, until: str) -> tuple[date | None, date | None]:
    """Read the days of a page's address; what is empty is left open.

    Raises:
        InvalidError: one is no day.
    """
    days: list[date | None] = []
    faults = []
    for name, text in (("since", since), ("until", until)):
        try:
            days.append(date.fromisoformat(text) if text else None)
        except ValueError:
            faults.append(Fault(name, "must be a day, such as 2026-05-01"))
    if faults:
        raise InvalidError(
            "These are no days.", next_step="Mend what is listed, or leave it out.", faults=faults
        )
    return days[0], days[1]


def draw_days(found: Usage) -> list[tuple[str, dict[str, Any]]]:
    """Draw what was used on each day, each kind in a unit that shows it."""
    kinds = [
        ("Processor time", *_in_time([row.used.cpu_hours for row in found.days])),
        ("Memory times time", *_in_time([row.used.memory_gb_hours for row in found.days], "GB ")),
        ("Tasks", "", [float(row.used.tasks) for row in found.days]),
    ]
    if found.total.cost is not None:
        kinds.append(("Cost", "", [row.used.cost or 0.0 for row in found.days]))
    return [
        (
            title,
            {
                "x": list(range(len(found.days))),
                "labels": [row.key[5:] for row in found.days],
                "x_label": "Day",
                "bars": True,
                "unit": unit,
                "series": [{"label": title, "values": [float(f"{value:.4g}") for value in values]}],
            },
        )
        for title, unit, values in kinds
    ]


def _in_time(hours: Sequence[float], of: str = "") -> tuple[str, list[float]]:
    """Give a unit in which the highest of some hours can be read, and the values in it."""
    most = max(hours, default=0.0)
    unit, per = ("h", 1) if most >= 1 else ("min", 60) if most >= 1 / 60 else ("s", 3600)
    return of + unit, [value * per for value in hours]


def _run_plots(found: RunUse) -> list[tuple[str, dict[str, Any]]]:
    if not found.steps:
        return []
    seconds = [round(place * found.interval_seconds, 3) for place in range(len(found.begins))]

    def plot(title: str, unit: str, curves: Sequence[RunCurve]) -> tuple[str, dict[str, Any]]:
        series = [
            {"label": curve.name, "values": [round(value, 3) for value in curve.tasks]}
            for curve in curves
        ]
        told = {"x": seconds, "x_label": "Seconds from the first task"}
        return title, {**told, "labels": None, "from_zero": True, "unit": unit, "series": series}

    return [
        plot("Tasks at a time, by step", "tasks", found.by_step),
        plot("Tasks at a time, by node", "tasks", found.by_node),
        plot("Busy processors", "", [RunCurve("of ended tasks", found.processors)]),
        plot(
            "Memory: peaks of the tasks of the moment, added up",
            "GB",
            [RunCurve("memory", [value / _GB for value in found.memory_bytes])],
        ),
    ]
