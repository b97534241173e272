"""Pages of runs: the list, one run while it goes on and after."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.machines.live import LiveTasks
from millpond.people.actions import open_project
from millpond.pipelines.outputs.routes import Outputs
from millpond.pipelines.runs import actions, shown
from millpond.pipelines.runs.figures import Busy, look_at_busy
from millpond.pipelines.runs.logs.beside import list_beside, read_beside
from millpond.pipelines.runs.logs.reading import Scope, list_before, read_backward
from millpond.pipelines.runs.logs.values import LogPart
from millpond.pipelines.runs.shown import Cause, Looked, TasksAsked
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.calls import PageIn
from millpond.web.portal import NavItem, Portal, Visit, VisitIn, page

_ALL = "/projects/{project}/runs"
_ONE = _ALL + "/{run}"
_LINES, _OUTPUTS_SHOWN, _LIVE_ROWS = 500, 20, 8

NAV = (NavItem("Runs", _ALL, icon="player-play", permission="run.read", order=30),)

_Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    objects: ObjectStore
    outputs: Outputs
    live: LiveTasks


def pages(portal: Portal, objects: ObjectStore, outputs: Outputs, live: LiveTasks) -> APIRouter:
    """Make the pages.

    Args:
        portal: makes them.
        objects: where logs lie.
        outputs: finds what runs left.
        live: knows what the tasks that run take.
    """
    router, tools = APIRouter(), _Tools(portal, objects, outputs, live)
    _add_list(router, tools)
    _add_one(router, tools)
    _add_changes(router, tools)
    return router


def _add_list(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ALL, **page("run.read"))
    def show_runs(visit: VisitIn, project: str, asked: PageIn) -> HTMLResponse:
        """List the project's runs, newest first, narrowed by what the address says."""
        query = visit.request.query_params
        wanted = shown.read_filter(query)

        def look(tx: Transaction) -> dict[str, Any]:
            project_id = open_project(tx, visit.actor, project, "run.read").id
            cursor, limit = asked.cursor, asked.limit
            found = actions.list_runs(
                tx, visit.actor, project_id, wanted, cursor=cursor, limit=limit
            )
            return {"found": found, "now": tx.now}

        facts = visit.read(look)
        narrowed = any(query.get(name) for name in ("state", "pipeline", "by", "text"))
        return tools.portal.render(
            visit,
            "pipelines/runs/rows.html" if visit.is_fragment else "pipelines/runs/list.html",
            **facts,
            is_first=not asked.cursor,
            is_narrowed=narrowed or bool(query.get("since") or query.get("until")),
            live=shown.LIVE,
            live_rows=_LIVE_ROWS,
            states=shown.STATES,
            took=shown.wall_seconds,
        )


def _add_one(router: APIRouter, tools: _Tools) -> None:
    @router.get(_ONE, **page("run.read"))
    def show_run(
        visit: VisitIn,
        project: str,
        run: str,
        step: _Text = "",
        which: _Text = "",
        cursor: _Text = "",
        partition: Annotated[int | None, Query(ge=-1, le=2**31 - 1)] = None,
    ) -> HTMLResponse:
        """Show a run: how far it is, its steps, tasks, log, results."""
        looked, causes = _look(visit, project, tools, run, TasksAsked(step, which, cursor or None))
        facts = _facts(visit, project, tools, looked, causes)
        log = _tail(visit, tools, looked, Scope(step or None, partition))
        return tools.portal.render(
            visit, "pipelines/runs/one.html", **facts, log=log, partition=partition
        )

    @router.get(f"{_ONE}/live", **page("run.read"))
    def show_live(
        visit: VisitIn,
        project: str,
        run: str,
        step: _Text = "",
        which: _Text = "",
        cursor: _Text = "",
        seen: _Text = "",
    ) -> Response:
        """Show the parts of a run's page that change; nothing when none has."""
        looked, causes = _look(visit, project, tools, run, TasksAsked(step, which, cursor or None))
        if seen == looked.mark:
            return Response(status_code=204)
        facts = _facts(visit, project, tools, looked, causes)
        return tools.portal.render(visit, "pipelines/runs/live.html", **facts)

    @router.get(f"{_ONE}/now", **page("run.read"))
    def show_now(visit: VisitIn, project: str, run: str) -> Response:
        """Show what the tasks that run take at this moment; nothing once the run has ended."""

        def look(tx: Transaction) -> Busy | None:
            project_id = open_project(tx, visit.actor, project, "run.read").id
            return look_at_busy(tx, visit.actor, project_id, run, tools.live)

        busy = visit.read(look)
        return tools.portal.render(
            visit, "pipelines/runs/now.html", busy=busy, at=f"/projects/{project}/runs/{run}"
        )


def _look(
    visit: Visit, project: str, tools: _Tools, run: str, asked: TasksAsked
) -> tuple[Looked, list[Cause]]:
    def look(tx: Transaction) -> tuple[Looked, list[Cause]]:
        project_id = open_project(tx, visit.actor, project, "run.read").id
        looked = shown.look_at(tx, visit.actor, project_id, run, asked, tools.live)
        return looked, shown.causes_of(tx, visit.actor, looked)

    return visit.read(look)


def _facts(
    visit: Visit, project: str, tools: _Tools, looked: Looked, causes: list[Cause]
) -> dict[str, Any]:
    run = looked.run
    files = tools.outputs.read(run.outputs_key).files if run.outputs_key else ()
    return {
        "busy": looked.busy,
        "causes": causes,
        "drawing": shown.draw(looked, project),
        "files": files[:_OUTPUTS_SHOWN],
        "has_report": any(each.path == "report.html" for each in files),
        "is_pipeline": run.pipeline_version_id is not None,
        "looked": looked,
        "name_partition": shown.name_partition,
        "plots": [] if looked.is_live else shown.plots_of(looked),
        "run": run,
        "took": shown.wall_seconds,
        "visit_url": str(visit.request.base_url).rstrip("/"),
    }


def _tail(visit: Visit, tools: _Tools, looked: Looked, scope: Scope) -> LogPart:
    run = looked.run
    if looked.is_live and scope.partition is None:
        running = visit.read(lambda tx: list_beside(tx, run, None, scope))
        return read_beside(tools.objects, run, running, None, _LINES)
    tasks = visit.read(lambda tx: list_before(tx, run, None, scope))
    return read_backward(tools.objects, run, tasks, None, _LINES)


def _add_changes(router: APIRouter, tools: _Tools) -> None:
    @router.post(f"{_ONE}/cancel", **page("run.cancel"))
    def cancel_run(visit: VisitIn, project: str, run: str) -> Response:
        """Cancel a run."""

        def cancel(tx: Transaction) -> str:
            project_id = open_project(tx, visit.actor, project, "run.cancel").id
            return actions.cancel_run(tx, visit.actor, project_id, run).state

        state = visit.change(cancel)
        said = "The run is cancelled." if state == "cancelled" else "The run is being cancelled."
        return tools.portal.go(visit, f"/projects/{project}/runs/{run}", said)

    @router.post(f"{_ONE}/again", **page("pipeline.run"))
    def run_again(visit: VisitIn, project: str, run: str) -> Response:
        """Start a run of the same code on the same data with the same parameters."""

        def again(tx: Transaction) -> str:
            project_id = open_project(tx, visit.actor, project, "pipeline.run").id
            return actions.run_again(tx, visit.actor, project_id, run).id

        made = visit.change(again)
        return tools.portal.go(visit, f"/projects/{project}/runs/{made}", "The run has started.")
