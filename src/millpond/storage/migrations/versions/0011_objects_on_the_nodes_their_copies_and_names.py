"""Objects on the nodes, their copies and names."""

import sqlalchemy as sa
from alembic import op

from millpond.storage.database import UtcTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "object_claim",
        sa.Column(
            "key",
            sa.String(length=900).with_variant(sa.String(length=900, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_object_claim")),
    )
    op.create_table(
        "object_digest",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("made_at", UtcTime(), nullable=False),
        sa.Column("unnamed_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_object_digest")),
    )
    op.create_index(
        op.f("ix_object_digest_unnamed_at"), "object_digest", ["unnamed_at"], unique=False
    )
    op.create_table(
        "object_fact",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("value", sa.String(length=1000), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_object_fact")),
    )
    op.create_table(
        "object_name",
        sa.Column(
            "key",
            sa.String(length=900).with_variant(sa.String(length=900, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("made_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_object_name")),
    )
    op.create_index(op.f("ix_object_name_digest"), "object_name", ["digest"], unique=False)
    op.create_table(
        "object_place",
        sa.Column("node", sa.String(length=80), nullable=False),
        sa.Column("url", sa.String(length=300), nullable=False),
        sa.Column("is_ok", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("is_draining", sa.Boolean(), nullable=False),
        sa.Column("free_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("disk", sa.String(length=40), nullable=False),
        sa.Column("set_aside", sa.BigInteger(), nullable=False),
        sa.Column("inventory_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_object_place")),
    )
    op.create_table(
        "object_replica",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("checked_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "node", name=op.f("pk_object_replica")),
    )
    op.create_index(
        "ix_object_replica_node_state", "object_replica", ["node", "state"], unique=False
    )
