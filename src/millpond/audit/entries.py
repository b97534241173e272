"""How an entry is hashed, written as a line of an export, and read back; no database."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond.audit.seals import time_text
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
_LINE_FIELDS = {*ENTRY_FIELDS, "hash", "kind"}


def first_hash(chain: str) -> str:
    """Give what the first entry of a chain holds as the hash before it."""
    return hashlib.sha256(chain.encode()).hexdigest()


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Give the hash of an entry; ``at`` may be a moment or its text."""
    body = {field: entry[field] for field in ENTRY_FIELDS}
    if isinstance(body["at"], datetime):
        body["at"] = time_text(body["at"])
    return hashlib.sha256(canonical_json(body)).hexdigest()


def entry_line(entry: Mapping[str, Any]) -> bytes:
    """Write an entry as a line of an export."""
    body = {field: entry[field] for field in (*ENTRY_FIELDS, "hash")}
    body |= {"kind": "entry", "at": time_text(entry["at"])}
    return canonical_json(body) + b"\n"


@dataclass(frozen=True)
class ReadEntry:
    """An entry's line as read: whether it is whole in itself, and how it says it is linked."""

    is_whole: bool
    number: int = -1
    chain: str = ""
    previous: str = ""
    hash: str = ""
    at: str = ""


def parse_line(line: bytes) -> dict[str, Any]:
    """Read one line; an empty dict when it is not the canonical JSON of an object."""
    try:
        value = json.loads(line)
        if isinstance(value, dict) and canonical_json(value) == line.rstrip(b"\n"):
            return value
    except (ValueError, TypeError, RecursionError):
        pass
    return {}


def read_entry(value: dict[str, Any]) -> ReadEntry:
    """Read an entry from a line's value; not whole when it has other fields or another hash."""
    if value.keys() != _LINE_FIELDS or value["kind"] != "entry" or type(value["number"]) is not int:
        return ReadEntry(is_whole=False)
    return ReadEntry(
        is_whole=value["hash"] == entry_hash(value),
        number=value["number"],
        chain=value["chain"],
        previous=value["previous_hash"],
        hash=value["hash"],
        at=value["at"],
    )
