"""Tables of forgotten passwords."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

password_reset = sa.Table(
    "password_reset",
    metadata,
    sa.Column("user_id", sa.String(40), sa.ForeignKey("user_account.id"), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
)
