"""Meters of machines and tasks by the day they ended."""

import sqlalchemy as sa
from alembic import op

from millpond.storage.database import UtcTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "meters",
        sa.Column("node", sa.String(length=80), nullable=False),
        sa.Column("resolution", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node", "resolution", "at", name=op.f("pk_meters")),
    )
    op.create_index("ix_meters_resolution_at", "meters", ["resolution", "at"], unique=False)
    op.create_index("ix_task_ended_at", "task", ["ended_at"], unique=False)
