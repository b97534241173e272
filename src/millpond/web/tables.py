"""The table of answers kept for requests that are sent again."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(40), nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("body", sa.JSON, nullable=True),
    sa.Column("is_kept", sa.Boolean, nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
)
