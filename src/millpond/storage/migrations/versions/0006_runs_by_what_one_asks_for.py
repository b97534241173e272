"""Runs are found by state, pipeline and person; tasks count up as they begin."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Bring the schema to this revision."""
    pipeline = sa.Column("pipeline", sa.String(length=80), nullable=False, server_default="")
    op.add_column("run", pipeline)
    op.execute(
        "UPDATE run SET pipeline = (SELECT pipeline.name FROM pipeline JOIN pipeline_version"
        " ON pipeline_version.pipeline_id = pipeline.id"
        " WHERE pipeline_version.id = run.pipeline_version_id)"
        " WHERE pipeline_version_id IS NOT NULL"
    )
    op.create_index("ix_run_project_id_state_id", "run", ["project_id", "state", "id"])
    op.create_index("ix_run_project_id_pipeline_id", "run", ["project_id", "pipeline", "id"])
    op.create_index("ix_run_project_id_created_by_id", "run", ["project_id", "created_by", "id"])
    op.drop_index(op.f("ix_run_state"), table_name="run")
    op.add_column("task", sa.Column("number", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE task SET number = counted.place FROM (SELECT task.run_id, task.step,"
        ' task."partition", task.attempt, row_number() OVER (PARTITION BY task.run_id'
        ' ORDER BY step_run.place, task."partition", task.attempt) AS place FROM task'
        " JOIN step_run ON step_run.run_id = task.run_id AND step_run.name = task.step) AS counted"
        " WHERE counted.run_id = task.run_id AND counted.step = task.step"
        ' AND counted."partition" = task."partition" AND counted.attempt = task.attempt'
    )
    op.create_index("ix_task_run_id_number", "task", ["run_id", "number"], unique=True)
