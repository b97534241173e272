"""Tables of pipelines and their versions."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

pipeline = sa.Table(
    "pipeline",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("newest", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.UniqueConstraint("project_id", "name"),
)

pipeline_version = sa.Table(
    "pipeline_version",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("faults", sa.JSON, nullable=False),
    sa.Column("spec", sa.JSON(none_as_null=True)),
    sa.Column("spec_digest", sa.String(64), nullable=False),
    sa.Column("code_digest", sa.String(64), nullable=False),
    sa.Column("manifest_key", sa.String(200), nullable=False),
    sa.Column("function", sa.String(200), nullable=False),
    sa.Column("environment", sa.String(100), nullable=False),
    sa.Column("lock_digest", sa.String(64), nullable=False),
    sa.Column("no_fork", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.UniqueConstraint("pipeline_id", "number"),
)
