"""Pages of the watch: the whole cluster at a glance, and one machine."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from millpond.watch import actions
from millpond.watch.actions import TasksOn
from millpond.watch.plots import Plot, draw_large, draw_small, texts_of
from millpond.watch.recording import Recorder
from millpond.watch.routes import NodeName
from millpond.watch.values import RANGES, Monitor, Range
from millpond.web.portal import NavItem, Portal, VisitIn, page

_MONITOR = "/admin/monitor"
_SECONDS = {"15m": 5, "1h": 5, "1d": 60, "30d": 600}
_LABELS = {"15m": "15 minutes", "1h": "1 hour", "1d": "1 day", "30d": "30 days"}
NAV = (
    NavItem(
        "Monitor", _MONITOR, icon="activity", permission="monitor.read", place="admin", order=15
    ),
)
_Read = Callable[[VisitIn, Range, str | None], Monitor]
_Wanted = Annotated[str, Query(alias="range", max_length=8)]


def pages(
    portal: Portal, recorder: Recorder, tasks_on: TasksOn = actions.nothing_runs
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        recorder: knows whose meters were refused.
        tasks_on: tells what runs on a machine now.
    """
    router = APIRouter()

    def read(visit: VisitIn, wanted: Range, node: str | None) -> Monitor:
        given: dict[str, Any] = {"faults": recorder.faults(), "tasks_on": tasks_on}
        return visit.read(
            lambda tx: actions.get_monitor(tx, visit.actor, wanted, node=node, **given)
        )

    @router.get(_MONITOR, **page("monitor.read"))
    def show_monitor(visit: VisitIn, asked: _Wanted = "1h") -> HTMLResponse:
        """Show every machine at a glance."""
        wanted = _range(asked)
        found = read(visit, wanted, None)
        machines = [(series, draw_small(found, series), texts_of(series)) for series in found.nodes]
        return portal.render(
            visit, "watch/monitor.html", found=found, machines=machines, **_frame(wanted)
        )

    @router.get(_MONITOR + "/live", **page("monitor.read"))
    def show_live(visit: VisitIn, asked: _Wanted = "1h") -> Response:
        """Give what has changed on the page of all machines."""
        found = read(visit, _range(asked), None)
        plots = [plot for series in found.nodes for plot in draw_small(found, series)]
        return _live(found, plots)

    _add_one(router, portal, read, tasks_on)
    return router


def _add_one(router: APIRouter, portal: Portal, read: _Read, tasks_on: TasksOn) -> None:
    @router.get(_MONITOR + "/{node}", **page("monitor.read"))
    def show_node(visit: VisitIn, node: NodeName, asked: _Wanted = "1h") -> HTMLResponse:
        """Show one machine."""
        wanted = _range(asked)
        found = read(visit, wanted, node)
        (series,) = found.nodes
        return portal.render(
            visit,
            "watch/node.html",
            found=found,
            series=series,
            node=series.node,
            tasks=found.tasks,
            plots=draw_large(found, series),
            texts=texts_of(series),
            **_frame(wanted),
        )

    @router.get(_MONITOR + "/{node}/live", **page("monitor.read"))
    def show_node_live(visit: VisitIn, node: NodeName, asked: _Wanted = "1h") -> Response:
        """Give what has changed on the page of one machine."""
        found = read(visit, _range(asked), node)
        return _live(found, draw_large(found, found.nodes[0]))

    @router.get(_MONITOR + "/{node}/tasks", **page("monitor.read"))
    def show_node_tasks(visit: VisitIn, node: NodeName) -> HTMLResponse:
        """Show what runs on one machine now."""
        found = visit.read(lambda tx: actions.list_tasks_now(tx, visit.actor, node, tasks_on))
        return portal.render(visit, "watch/tasks.html", node=node, tasks=found)


def _range(asked: str) -> Range:
    return next((each for each in RANGES if each == asked), "1h")


def _frame(wanted: Range) -> dict[str, Any]:
    return {"wanted": wanted, "ranges": _LABELS, "seconds": _SECONDS[wanted]}


def _live(found: Monitor, plots: Sequence[Plot]) -> Response:
    texts: dict[str, str] = {}
    for series in found.nodes:
        texts |= texts_of(series)
    facts = {plot.key: {"facts": plot.facts, "said": plot.said} for plot in plots}
    return JSONResponse(
        {"nodes": [series.node for series in found.nodes], "plots": facts, "texts": texts},
        headers={"Cache-Control": "no-store"},
    )
