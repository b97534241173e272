"""Check the record with no server, no network and no database: chains, Merkle tree, seals, exports.

An entry's hash is the sha256 of its canonical JSON with the hash of the entry before in it; the
first entry of a chain holds the sha256 of the chain's id instead.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millpond.ground.canonical import canonical_json

ENTRY_FIELDS = (
    "actor_id",
    "actor_name",
    "after_digest",
    "at",
    "before_digest",
    "chain",
    "number",
    "previous_hash",
    "request_id",
    "target",
    "verb",
)


def first_hash(chain: str) -> str:
    """Give what the first entry of a chain holds as the hash before it."""
    return hashlib.sha256(chain.encode()).hexdigest()


def time_text(moment: datetime) -> str:
    """Write a moment as the log does: UTC, six digits of a second, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Give the hash of an entry; ``at`` may be a moment or its text."""
    body = {field: entry[field] for field in ENTRY_FIELDS}
    if isinstance(body["at"], datetime):
        body["at"] = time_text(body["at"])
    return hashlib.sha256(canonical_json(body)).hexdigest()
