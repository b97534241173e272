"""Tables of identities at other places, and of sign-ins that are under way there."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

user_identity = sa.Table(
    "user_identity",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column(
        "user_id", sa.String(40), sa.ForeignKey("user_account.id"), nullable=False, index=True
    ),
    sa.Column("provider", sa.String(40), nullable=False),
    sa.Column("issuer", sa.String(500), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("shown", sa.String(200), nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
    sa.UniqueConstraint("issuer", "subject"),
)

oidc_visit = sa.Table(
    "oidc_visit",
    metadata,
    sa.Column("state", sa.String(64), primary_key=True),
    sa.Column("browser", sa.String(64), nullable=False),
    sa.Column("provider", sa.String(40), nullable=False),
    sa.Column("user_id", sa.String(40)),
    sa.Column("next", sa.String(2000), nullable=False),
    sa.Column("address", sa.String(64), nullable=False, index=True),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)
