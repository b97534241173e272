"""The tables of jobs and schedules."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(80), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("project_id", sa.String(40), nullable=True),
    sa.Column("key", sa.String(200), nullable=True),
    sa.Column("rank", sa.Integer, nullable=False),  # The priority, negated: indexes go upwards.
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("max_tries", sa.Integer, nullable=False),
    sa.Column("run_at", UtcTime, nullable=False),
    sa.Column("put_at", UtcTime, nullable=False),
    sa.Column("started_at", UtcTime, nullable=True),
    sa.Column("ended_at", UtcTime, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("holder", sa.String(120), nullable=False),
    sa.Column("beats", sa.Integer, nullable=False),
    sa.Column("lease_seconds", sa.Float, nullable=False),
    sa.Column("lease_until", UtcTime, nullable=True),
    sa.UniqueConstraint("kind", "key"),  # Rows without a key do not collide.
    sa.Index("ix_job_claim", "state", "rank", "put_at", "id"),
    sa.Index("ix_job_due", "state", "run_at"),
)

schedule = sa.Table(
    "schedule",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(120), nullable=False, unique=True),
    sa.Column("kind", sa.String(80), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("cron", sa.String(120), nullable=False),
    sa.Column("time_zone", sa.String(60), nullable=False),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("project_id", sa.String(40), nullable=True),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("max_tries", sa.Integer, nullable=False),
    sa.Column("next_at", UtcTime, nullable=True, index=True),
    sa.Column("last_at", UtcTime, nullable=True),
)
