"""Tables of passkeys."""

import sqlalchemy as sa

from millpond.storage.database import UtcTime, metadata

passkey = sa.Table(
    "passkey",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column(
        "user_id", sa.String(40), sa.ForeignKey("user_account.id"), nullable=False, index=True
    ),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("place", sa.String(255), nullable=False),
    # The authenticator's own name for it, in base64url, may be long: its digest is what is sought.
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("credential", sa.String(1400), nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
)

passkey_challenge = sa.Table(
    "passkey_challenge",
    metadata,
    sa.Column("browser", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(40)),
    sa.Column("address", sa.String(64), nullable=False, index=True),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)
