"""The lake's tables: datasets and their versions; the bytes lie in the object store."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("newest", sa.Integer, nullable=False),  # Number of the newest version; 0: none yet.
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Column("hidden_at", UtcTime, nullable=True),
    sa.UniqueConstraint("project_id", "name"),
)

dataset_version = sa.Table(
    "dataset_version",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("dataset.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("file_count", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("manifest_key", sa.String(200), nullable=False),
    sa.Column("origin", sa.String(200), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Column("hidden_at", UtcTime, nullable=True),
    sa.UniqueConstraint("dataset_id", "number"),
)
