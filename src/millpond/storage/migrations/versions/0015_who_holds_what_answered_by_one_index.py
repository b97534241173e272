"""Who holds what, answered by one index."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.drop_index(op.f("ix_object_replica_node_state"), table_name="object_replica")
    op.create_index(
        "ix_object_replica_state_digest_node",
        "object_replica",
        ["state", "digest", "node"],
        unique=False,
    )
