"""The storage room's own table."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

# Which key files belong to this database; never a key itself.
key_fingerprint = sa.Table(
    "key_fingerprint",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("folder", sa.String(1000), nullable=False),
    sa.Column("kept_at", UtcTime, nullable=False),
)
