"""The table of meters."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

meters = sa.Table(
    "meters",
    metadata,
    sa.Column("node", sa.String(80), primary_key=True),
    sa.Column("resolution", sa.Integer, primary_key=True, autoincrement=False),  # Seconds.
    sa.Column("at", UtcTime, primary_key=True),  # The beginning of the time that a row tells of.
    sa.Column("figures", sa.Text, nullable=False),  # JSON: by meter a number, or mean and peak.
    sa.Index("ix_meters_resolution_at", "resolution", "at"),
)
