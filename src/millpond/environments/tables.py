"""The tables of environments and their versions."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

environment = sa.Table(
    "environment",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("newest", sa.Integer, nullable=False),  # Number of the newest version; 0: none yet.
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.UniqueConstraint("project_id", "name"),
)

environment_version = sa.Table(
    "environment_version",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("environment_id", sa.ForeignKey("environment.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("requirements", sa.Text, nullable=False),
    # Names of packages, in their normal form and in order.
    sa.Column("build_from_source", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("lock", sa.Text, nullable=False),  # Empty until it is locked.
    sa.Column("lock_digest", sa.String(64), nullable=False, index=True),
    sa.Column("python_version", sa.String(20), nullable=False),
    sa.Column("packages", sa.JSON, nullable=False),  # [[name, version], ...]
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Column("ready_at", UtcTime, nullable=True),
    sa.UniqueConstraint("environment_id", "number"),
)
