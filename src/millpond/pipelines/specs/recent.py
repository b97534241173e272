"""The pipelines that were pushed last, over several projects: for the home page."""

from collections.abc import Sequence

import sqlalchemy as sa

from millpond.audit.actions import ACTIVITY_TOPIC
from millpond.ground.actor import Actor
from millpond.people.actions import only_allowed
from millpond.pipelines.specs.tables import pipeline, pipeline_version
from millpond.storage.database import Transaction
from millpond.web.panels import FirstStep, Panel, PanelRow, Place


def show_pipelines(tx: Transaction, actor: Actor, places: Sequence[Place], limit: int) -> Panel:
    """Give the pipelines of some projects that were pushed last."""
    ids = only_allowed(tx, actor, "pipeline.read", [place.id for place in places])
    names = {place.id: place.name for place in places}
    newest = (
        sa.select(
            pipeline.c.name,
            pipeline.c.project_id,
            pipeline_version.c.number,
            pipeline_version.c.state,
            pipeline_version.c.created_at,
            pipeline_version.c.created_by,
        )
        .join(
            pipeline_version,
            (pipeline_version.c.pipeline_id == pipeline.c.id)
            & (pipeline_version.c.number == pipeline.c.newest),
        )
        .where(pipeline.c.project_id.in_(ids))
        .order_by(pipeline_version.c.created_at.desc(), pipeline.c.id)
        .limit(limit)
    )
    rows = [
        PanelRow(
            text=f"{found.name}@{found.number}",
            path=f"/projects/{names[found.project_id]}/pipelines/{found.name}",
            project=names[found.project_id],
            state=found.state,
            topic=f"pipeline/{found.name}" if found.state == "compiling" else "",
            note=f"by {found.created_by}",
            at=found.created_at,
        )
        for found in tx.rows(newest)
    ]
    step = FirstStep(
        30,
        "Push a pipeline, or try the example",
        "millpond demo",
        "/projects/{project}/pipelines",
        bool(rows),
    )
    return Panel(
        "Pipelines",
        "sitemap",
        rows,
        "/projects/{project}/pipelines",
        "No pipelines yet.",
        (step,),
        [f"{names[one]} {ACTIVITY_TOPIC}" for one in ids],
    )
