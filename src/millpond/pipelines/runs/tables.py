"""Tables of runs, their steps and their tasks."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False),
    sa.Column("what", sa.String(200), nullable=False),
    sa.Column("pipeline", sa.String(80), nullable=False),  # Its name; empty for a program.
    sa.Column("pipeline_version_id", sa.ForeignKey("pipeline_version.id"), index=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("spec", sa.JSON(none_as_null=True)),  # Only of a program: it has no version.
    sa.Column("spec_digest", sa.String(64), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("environment", sa.String(100), nullable=False),
    sa.Column("lock_digest", sa.String(64), nullable=False),
    sa.Column("code_digest", sa.String(64), nullable=False),
    sa.Column("code_key", sa.String(200), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("progress", sa.JSON, nullable=False),
    sa.Column("user_id", sa.String(40), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("outputs_key", sa.String(300), nullable=False),
    sa.Column("outputs_digest", sa.String(64), nullable=False),
    sa.Column("output_files", sa.Integer, nullable=False),
    sa.Column("output_bytes", sa.BigInteger, nullable=False),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
    sa.Column("isolated", sa.Boolean, nullable=False),
    sa.Index("ix_run_project_id_id", "project_id", "id"),
    sa.Index("ix_run_project_id_state_id", "project_id", "state", "id"),
    sa.Index("ix_run_project_id_pipeline_id", "project_id", "pipeline", "id"),
    sa.Index("ix_run_project_id_created_by_id", "project_id", "created_by", "id"),
)

step_run = sa.Table(
    "step_run",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id"), primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("needs", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cuts", sa.JSON(none_as_null=True)),  # Where the input is cut; None until planned.
    sa.Column("partitions", sa.Integer, nullable=False),
    sa.Column("partitions_done", sa.Integer, nullable=False),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
    sa.Column("memory_peak_bytes", sa.BigInteger, nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("slots", sa.Float, nullable=False, server_default="1"),  # Of one task; as the next.
    sa.Column("gpus", sa.Integer, nullable=False, server_default="0"),
)

task = sa.Table(
    "task",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id"), primary_key=True),
    sa.Column("step", sa.String(200), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),  # Counts a run's tasks as they begin, from 1.
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("outcome", sa.String(20), nullable=False),  # The engine's word; empty while running.
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("fork", sa.Boolean, nullable=False),
    sa.Column("node", sa.String(200), nullable=False),
    sa.Column("isolated", sa.Boolean, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
    sa.Column("memory_peak_bytes", sa.BigInteger, nullable=False),
    sa.Column("wall_seconds", sa.Float, nullable=False),
    sa.Column("log_bytes", sa.BigInteger, nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("rows", sa.JSON(none_as_null=True)),
    sa.Column("outputs", sa.JSON(none_as_null=True)),  # A few files; many lie in an object.
    sa.Column("outputs_key", sa.String(400), nullable=False),
    sa.Index("ix_task_run_id_number", "run_id", "number", unique=True),
    sa.Index("ix_task_ended_at", "ended_at"),  # Sums by day ask for a span of days.
)
