"""Tables of invitations."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

invitation = sa.Table(
    "invitation",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("project_id", sa.String(40), sa.ForeignKey("project.id"), index=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("email", sa.String(254)),
    sa.Column("made_by", sa.String(40), sa.ForeignKey("user_account.id"), nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("used_by", sa.String(40), sa.ForeignKey("user_account.id")),
    sa.Column("used_at", UtcTime),
    sa.Column("withdrawn_at", UtcTime),
)
