"""Keys, digests, copies and places of the store on the nodes."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

_KEY = sa.String(900).with_variant(sa.String(900, collation="C"), "postgresql")

# What key means which bytes. The primary key decides who of several writers was first.
object_name = sa.Table(
    "object_name",
    metadata,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
)

# Bytes by their sha256. state: live, doomed (may be named again), deleting.
object_digest = sa.Table(
    "object_digest",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("unnamed_at", UtcTime, nullable=True, index=True),
)

# Who holds a copy. state: ok, bad, orphan (the database does not know the digest), deleting.
object_replica = sa.Table(
    "object_replica",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("node", sa.String(80), primary_key=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("checked_at", UtcTime, nullable=False),
    # Answers who has how many good copies by itself, in the order of the digests.
    sa.Index("ix_object_replica_state_digest_node", "state", "digest", "node"),
)

# The nodes' data disks.
object_place = sa.Table(
    "object_place",
    metadata,
    sa.Column("node", sa.String(80), primary_key=True),
    sa.Column("url", sa.String(300), nullable=False),
    sa.Column("is_ok", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("is_draining", sa.Boolean, nullable=False),
    sa.Column("free_bytes", sa.BigInteger, nullable=False),
    sa.Column("total_bytes", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("disk", sa.String(40), nullable=False),
    sa.Column("set_aside", sa.BigInteger, nullable=False),
    sa.Column("inventory_at", UtcTime, nullable=True),
)

# What was found out once: why nothing is deleted; whether an S3 service creates atomically.
object_fact = sa.Table(
    "object_fact",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("value", sa.String(1000), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
)

# Keys that are taken in an S3 service whose conditional puts are not atomic.
object_claim = sa.Table(
    "object_claim",
    metadata,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
)
