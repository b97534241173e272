"""All SQL of presets."""

from typing import Any

import sqlalchemy as sa

from millpond.pipelines.presets.tables import preset
from millpond.pipelines.presets.values import Preset
from millpond.storage.database import Transaction


def add_preset(tx: Transaction, values: dict[str, Any]) -> bool:
    """Write a preset; say whether its name was free."""
    return tx.insert_new(preset, values, preset.c.id) is not None


def change_preset(tx: Transaction, preset_id: str, values: dict[str, Any]) -> None:
    """Change columns of a preset."""
    tx.execute(preset.update().where(preset.c.id == preset_id).values(**values))


def remove_preset(tx: Transaction, preset_id: str) -> None:
    """Remove a preset."""
    tx.execute(preset.delete().where(preset.c.id == preset_id))


def find_preset(tx: Transaction, pipeline_id: str, pipeline: str, name: str) -> Preset | None:
    """Give a preset of a pipeline by its name."""
    row = tx.one(
        sa.select(preset).where(preset.c.pipeline_id == pipeline_id, preset.c.name == name)
    )
    return None if row is None else _to_preset(row, pipeline)


def list_presets(
    tx: Transaction, pipeline_id: str, pipeline: str, after: str, limit: int
) -> list[Preset]:
    """List a pipeline's presets by name."""
    query = (
        sa.select(preset)
        .where(preset.c.pipeline_id == pipeline_id, preset.c.name > after)
        .order_by(preset.c.name)
        .limit(limit)
    )
    return [_to_preset(row, pipeline) for row in tx.rows(query)]


def _to_preset(row: sa.Row[Any], pipeline: str) -> Preset:
    facts = dict(row._mapping)  # noqa: SLF001 - its public name.
    del facts["pipeline_id"]
    return Preset(**facts, pipeline=pipeline)
