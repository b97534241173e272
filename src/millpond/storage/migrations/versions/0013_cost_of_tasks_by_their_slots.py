"""Cost of tasks by their slots: each step keeps what one of its tasks counts for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("step_run", sa.Column("slots", sa.Float(), server_default="1", nullable=False))
    op.add_column("step_run", sa.Column("gpus", sa.Integer(), server_default="0", nullable=False))
    _fill()


def _fill() -> None:
    """Take the slots of runs from before from what they were compiled to."""
    bind = op.get_bind()
    step_run = sa.table("step_run", sa.column("run_id"), sa.column("name"), sa.column("slots"))
    run = sa.table(
        "run", sa.column("id"), sa.column("pipeline_version_id"), sa.column("spec", sa.JSON)
    )
    version = sa.table("pipeline_version", sa.column("id"), sa.column("spec", sa.JSON))
    for holder, link in ((run, run.c.id), (version, run.c.pipeline_version_id)):
        query = sa.select(holder.c.id, holder.c.spec).where(holder.c.spec.is_not(None))
        for found in bind.execute(query).all():
            steps = found.spec.get("steps", ()) if isinstance(found.spec, dict) else ()
            for step in steps:
                slots = step.get("slots", 1)
                if slots == 1:
                    continue
                runs = sa.select(run.c.id).where(link == found.id)
                chosen = (step_run.c.name == step["name"]) & step_run.c.run_id.in_(runs)
                bind.execute(step_run.update().where(chosen).values(slots=slots))
