"""Tables of nodes, of leave to join, of certificates, and of what was done."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

_NAME = sa.String(40)

node = sa.Table(
    "node",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("stage", sa.String(10), nullable=False),  # joining, joined or removed.
    sa.Column("is_draining", sa.Boolean, nullable=False),
    sa.Column("told_state", sa.String(10), nullable=False),  # The newest that an event told of.
    sa.Column("address", sa.String(255), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("slots_most", sa.Integer, nullable=False),
    sa.Column("gpus_most", sa.Integer, nullable=False, server_default="-1"),  # -1: as it tells.
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("price_per_hour", sa.Float, nullable=False),
    sa.Column("refused", sa.Text, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("meters", sa.JSON, nullable=False),
    sa.Column("store", sa.JSON, nullable=False),
    sa.Column("running", sa.JSON, nullable=False),
    sa.Column("serial", sa.String(64), nullable=False),
    sa.Column("machine", sa.JSON, nullable=False),  # The order that it was made by, if any.
    sa.Column("joined_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime),
    sa.Column("removed_at", UtcTime),
)

node_token = sa.Table(
    "node_token",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("made_by", sa.String(40), nullable=False),  # An id of a user, or ``system``.
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("node", sa.String(40), nullable=False),  # The one name it is good for, or empty.
    sa.Column("grants", sa.JSON, nullable=False),  # Labels, slots and the machine's order.
    sa.Column("used_by", sa.String(40)),
    sa.Column("used_at", UtcTime),
)

node_certificate = sa.Table(
    "node_certificate",
    metadata,
    sa.Column("serial", sa.String(64), primary_key=True),
    sa.Column("node", _NAME, sa.ForeignKey("node.name"), nullable=False, index=True),
    sa.Column("issued_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime, index=True),
    sa.Column("reason", sa.Text, nullable=False),
)

node_event = sa.Table(
    "node_event",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("node", _NAME, nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("ix_node_event_newest", "node", "id"),
)

node_work_line = sa.Table(
    "node_work_line",
    metadata,
    sa.Column("job_id", sa.String(40), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
