"""All SQL of the lake."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.lake.tables import dataset, dataset_version
from millpond.lake.values import Dataset, DatasetVersion
from millpond.storage.database import Transaction

_VERSION_COLUMNS = (
    dataset_version.c.id,
    dataset.c.name.label("dataset"),
    dataset_version.c.number,
    dataset_version.c.digest,
    dataset_version.c.kind,
    dataset_version.c.file_count,
    dataset_version.c.size_bytes,
    dataset_version.c.manifest_key,
    dataset_version.c.origin,
    dataset_version.c.created_at,
    dataset_version.c.created_by,
)


def claim_name(tx: Transaction, values: dict[str, Any]) -> None:
    """Add a dataset without versions unless the project has one of this name already."""
    tx.insert_new(dataset, values, dataset.c.id)


def find_dataset(tx: Transaction, project_id: str, name: str) -> tuple[str, int] | None:
    """Give id and newest number of a dataset, hidden or not."""
    row = tx.one(
        sa.select(dataset.c.id, dataset.c.newest).where(
            dataset.c.project_id == project_id, dataset.c.name == name
        )
    )
    return None if row is None else (row.id, row.newest)


def take_number(tx: Transaction, dataset_id: str, newest: int) -> bool:
    """Make ``newest + 1`` the newest number and the dataset visible, if no one was quicker."""
    changed = tx.execute(
        dataset.update()
        .where(dataset.c.id == dataset_id, dataset.c.newest == newest)
        .values(newest=newest + 1, hidden_at=None)
    )
    return changed.rowcount == 1


def add_version(tx: Transaction, values: dict[str, Any]) -> None:
    """Write a version's row."""
    tx.execute(dataset_version.insert().values(**values))


def find_version(
    tx: Transaction, project_id: str, name: str, number: int | None
) -> DatasetVersion | None:
    """Give a visible version; the newest visible one when ``number`` is None."""
    query = (
        sa.select(*_VERSION_COLUMNS)
        .join(dataset, dataset.c.id == dataset_version.c.dataset_id)
        .where(
            dataset.c.project_id == project_id,
            dataset.c.name == name,
            dataset_version.c.hidden_at.is_(None),
        )
        .order_by(dataset_version.c.number.desc())
        .limit(1)
    )
    if number is not None:
        query = query.where(dataset_version.c.number == number)
    row = tx.one(query)
    return None if row is None else DatasetVersion(**row._mapping)  # noqa: SLF001 - its public name.


def list_versions(
    tx: Transaction, project_id: str, name: str, before: int | None, limit: int
) -> list[DatasetVersion]:
    """Give visible versions, newest first."""
    query = (
        sa.select(*_VERSION_COLUMNS)
        .join(dataset, dataset.c.id == dataset_version.c.dataset_id)
        .where(
            dataset.c.project_id == project_id,
            dataset.c.name == name,
            dataset_version.c.hidden_at.is_(None),
        )
        .order_by(dataset_version.c.number.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(dataset_version.c.number < before)
    return [DatasetVersion(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def list_datasets(
    tx: Transaction,
    project_id: str,
    after: str,
    limit: int,
    name: str | None = None,
    *,
    search: str = "",
) -> list[Dataset]:
    """Give visible datasets by name, each with what its newest version holds."""
    version = dataset_version
    query = (
        sa.select(
            dataset.c.id,
            dataset.c.name,
            version.c.kind,
            dataset.c.newest,
            version.c.digest,
            version.c.file_count,
            version.c.size_bytes,
            dataset.c.created_at,
            dataset.c.created_by,
            version.c.created_at.label("changed_at"),
        )
        .join(
            version,
            sa.and_(version.c.dataset_id == dataset.c.id, version.c.number == dataset.c.newest),
        )
        .where(dataset.c.project_id == project_id, dataset.c.hidden_at.is_(None))
        .where(dataset.c.name > after)
        .order_by(dataset.c.name)
        .limit(limit)
    )
    if name is not None:
        query = query.where(dataset.c.name == name)
    if search:
        query = query.where(dataset.c.name.contains(search, autoescape=True))
    return [Dataset(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def hide(tx: Transaction, dataset_id: str, at: datetime) -> None:
    """Hide a dataset and every version it has now."""
    tx.execute(dataset.update().where(dataset.c.id == dataset_id).values(hidden_at=at))
    tx.execute(
        dataset_version.update()
        .where(dataset_version.c.dataset_id == dataset_id, dataset_version.c.hidden_at.is_(None))
        .values(hidden_at=at)
    )
