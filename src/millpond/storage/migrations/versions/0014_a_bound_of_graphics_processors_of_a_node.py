"""A bound of graphics processors of a node: how many of them tasks may have."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("node", sa.Column("gpus_most", sa.Integer(), server_default="-1", nullable=False))
