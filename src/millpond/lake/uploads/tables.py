"""Uploads and their parts; the bytes lie in the object store."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

upload = sa.Table(
    "upload",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False),
    sa.Column("user_id", sa.String(40), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("batch", sa.String(80), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("received_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=True),  # Of the whole; it is finished then.
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Index("ix_upload_project_id_user_id_id", "project_id", "user_id", "id"),
    sa.Index("ix_upload_expires_at", "expires_at"),
)

upload_part = sa.Table(
    "upload_part",
    metadata,
    sa.Column("upload_id", sa.ForeignKey("upload.id"), primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("object_key", sa.String(200), nullable=False),
)
