"""Tables of the activity log."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("chain", sa.String(40), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("actor_id", sa.String(40), nullable=False),
    sa.Column("actor_name", sa.String(200), nullable=False),
    sa.Column("verb", sa.String(80), nullable=False),
    sa.Column("target", sa.String(400), nullable=False),
    sa.Column("before_digest", sa.String(64)),
    sa.Column("after_digest", sa.String(64)),
    sa.Column("request_id", sa.String(80), nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("chain", sa.String(40), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    # What the newest seal holds of the chain, so that a seal that would go back is refused.
    sa.Column("sealed_number", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("sealed_hash", sa.String(64), nullable=False, server_default=""),
)

audit_key = sa.Table(
    "audit_key",
    metadata,
    sa.Column("key_id", sa.String(40), primary_key=True),
    sa.Column("public_key", sa.String(80), nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
)

audit_seal = sa.Table(
    "audit_seal",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("key_id", sa.String(40), nullable=False),
    sa.Column("tree_size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.String(64), nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(120), nullable=False),
    sa.Column("is_complete", sa.Boolean, nullable=False),
)

# One row per seal and chain whose head moved since the seal before (all chains when the seal is
# complete). Its proof is made with the seal, since the tree's other leaves move on.
audit_sealed_head = sa.Table(
    "audit_sealed_head",
    metadata,
    sa.Column("chain", sa.String(40), primary_key=True),
    sa.Column("seal_number", sa.BigInteger, primary_key=True, autoincrement=False, index=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("leaf_index", sa.BigInteger, nullable=False),
    sa.Column("path", sa.JSON, nullable=False),
)
