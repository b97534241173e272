"""The datasets that changed last, over several projects: for the home page."""

from collections.abc import Sequence

import sqlalchemy as sa

from millpond.audit.actions import ACTIVITY_TOPIC
from millpond.ground.actor import Actor
from millpond.lake.tables import dataset, dataset_version
from millpond.people.actions import only_allowed
from millpond.storage.database import Transaction
from millpond.web.panels import FirstStep, Panel, PanelRow, Place


def show_datasets(tx: Transaction, actor: Actor, places: Sequence[Place], limit: int) -> Panel:
    """Give the datasets of some projects that changed last."""
    ids = only_allowed(tx, actor, "dataset.read", [place.id for place in places])
    names = {place.id: place.name for place in places}
    newest = (
        sa.select(
            dataset.c.name,
            dataset.c.project_id,
            dataset_version.c.number,
            dataset_version.c.file_count,
            dataset_version.c.created_at,
            dataset_version.c.created_by,
        )
        .join(
            dataset_version,
            (dataset_version.c.dataset_id == dataset.c.id)
            & (dataset_version.c.number == dataset.c.newest),
        )
        .where(dataset.c.project_id.in_(ids), dataset.c.hidden_at.is_(None))
        .where(dataset_version.c.hidden_at.is_(None))
        .order_by(dataset_version.c.created_at.desc(), dataset.c.id)
        .limit(limit)
    )
    rows = [
        PanelRow(
            text=f"{found.name}@{found.number}",
            path=f"/projects/{names[found.project_id]}/datasets/{found.name}",
            project=names[found.project_id],
            note=f"{found.file_count:,} {'file' if found.file_count == 1 else 'files'},"
            f" by {found.created_by}",
            at=found.created_at,
        )
        for found in tx.rows(newest)
    ]
    step = FirstStep(
        20,
        "Bring in your data",
        "millpond dataset push FOLDER --project PROJECT",
        "/projects/{project}/datasets",
        bool(rows),
    )
    return Panel(
        "Datasets",
        "database",
        rows,
        "/projects/{project}/datasets",
        "No data yet.",
        (step,),
        [f"{names[one]} {ACTIVITY_TOPIC}" for one in ids],
    )
