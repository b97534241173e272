"""Tries that were lost with a node or a server are called lost, also those from before."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.execute("UPDATE task SET state = 'lost' WHERE state = 'failed' AND outcome = 'lost'")
