"""What runs now and what ran last, over several projects: for the home page."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from millpond.ground.actor import Actor
from millpond.people.actions import only_allowed
from millpond.pipelines.runs.actions import RUNS_TOPIC
from millpond.pipelines.runs.tables import run
from millpond.pipelines.values import RUN_ENDED
from millpond.storage.database import Transaction
from millpond.web.panels import FirstStep, Panel, PanelRow, Place

_ALIVE = ("queued", "preparing", "running", "cancelling")
_COLUMNS = (
    run.c.id,
    run.c.project_id,
    run.c.what,
    run.c.state,
    run.c.progress,
    run.c.created_at,
    run.c.created_by,
    run.c.ended_at,
)


def show_runs(tx: Transaction, actor: Actor, places: Sequence[Place], limit: int) -> Panel:
    """Give the runs of some projects that go on, and then those that ended last."""
    ids = only_allowed(tx, actor, "run.read", [place.id for place in places])
    names = {place.id: place.name for place in places}
    alive = _newest(tx, ids, limit, run.c.state.in_(_ALIVE))
    ended = _newest(tx, ids, limit, run.c.state.in_(RUN_ENDED))
    rows = [_row(found, names[found.project_id]) for found in (*alive, *ended)][:limit]
    has_report = any(found.state == "succeeded" for found in ended)
    steps = (
        FirstStep(
            40,
            "Run a pipeline",
            "millpond run PIPELINE -i NAME=DATASET --project PROJECT",
            "/projects/{project}/pipelines",
            bool(rows),
        ),
        FirstStep(
            50,
            "Look at the report of a run and take its results",
            "millpond run outputs RUN --project PROJECT",
            "/projects/{project}/runs",
            has_report,
        ),
    )
    return Panel(
        "Runs",
        "player-play",
        rows,
        "/projects/{project}/runs",
        "Nothing has run yet.",
        steps,
        [f"{names[project_id]} {RUNS_TOPIC}" for project_id in ids],
    )


def _newest(
    tx: Transaction, ids: Sequence[str], limit: int, wanted: sa.ColumnElement[bool]
) -> list[sa.Row[Any]]:
    """Give the newest of these runs; one short look along the index for each project."""
    found = [
        row
        for project_id in ids
        for row in tx.rows(
            sa.select(*_COLUMNS)
            .where(run.c.project_id == project_id, wanted)
            .order_by(run.c.id.desc())
            .limit(limit)
        )
    ]
    return sorted(found, key=lambda row: row.created_at, reverse=True)[:limit]


def _row(found: sa.Row[Any], project: str) -> PanelRow:
    progress = found.progress or {}
    is_alive = found.state in _ALIVE
    return PanelRow(
        text=found.what,
        path=f"/projects/{project}/runs/{found.id}",
        project=project,
        state=found.state,
        note=f"by {found.created_by}",
        at=found.ended_at or found.created_at,
        done=progress.get("items_done", 0) if is_alive else 0,
        total=progress.get("items_total", 0) if is_alive else 0,
        topic=f"run/{found.id}" if is_alive else "",
    )
