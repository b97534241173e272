"""The table of presets."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

preset = sa.Table(
    "preset",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("description", sa.String(500), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("changed_by", sa.String(80), nullable=False),
    sa.UniqueConstraint("pipeline_id", "name"),
)
