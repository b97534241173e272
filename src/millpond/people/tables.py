"""Tables of people and their projects."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

user_account = sa.Table(
    "user_account",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(40), nullable=False, unique=True),
    sa.Column("email", sa.String(254)),
    sa.Column("is_admin", sa.Boolean, nullable=False),
    sa.Column("is_disabled", sa.Boolean, nullable=False),
    sa.Column("password_hash", sa.String(200)),
    sa.Column("made_at", UtcTime, nullable=False),
)

access_token = sa.Table(
    "access_token",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column(
        "user_id", sa.String(40), sa.ForeignKey("user_account.id"), nullable=False, index=True
    ),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", sa.JSON),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
    sa.Column("withdrawn_at", UtcTime),
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("agent", sa.String(200), nullable=False, server_default=""),
)

project = sa.Table(
    "project",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(60), nullable=False, unique=True),
    sa.Column("description", sa.String(2000), nullable=False),
    sa.Column("is_archived", sa.Boolean, nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
)

project_member = sa.Table(
    "project_member",
    metadata,
    sa.Column("project_id", sa.String(40), sa.ForeignKey("project.id"), primary_key=True),
    sa.Column(
        "user_id", sa.String(40), sa.ForeignKey("user_account.id"), primary_key=True, index=True
    ),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("added_at", UtcTime, nullable=False),
)

project_secret = sa.Table(
    "project_secret",
    metadata,
    sa.Column("project_id", sa.String(40), sa.ForeignKey("project.id"), primary_key=True),
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("changed_by", sa.String(40), nullable=False),
)

sign_in_fault = sa.Table(
    "sign_in_fault",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Index("ix_sign_in_fault_name_at", "name", "at"),
    sa.Index("ix_sign_in_fault_address_at", "address", "at"),
)

setup_code = sa.Table(
    "setup_code",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("made_at", UtcTime, nullable=False),
)

local_challenge = sa.Table(
    "local_challenge",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)
