"""What a seal signs, and whether it holds; no database, no network."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from millpond.audit import merkle
from millpond.ground.canonical import canonical_json
from millpond.ground.errors import Fault, InvalidError

SEAL_FORMAT = "millpond-log-seal/1"
CHECKPOINT_FORMAT = "millpond-log-checkpoint/1"
SEAL_FIELDS = {
    "format": str,
    "number": int,
    "at": str,
    "key_id": str,
    "tree_size": int,
    "root": str,
    "previous": str,
}
_KEY_BYTES = 32


def time_text(moment: datetime) -> str:
    """Write a moment as the log does: UTC, six digits of a second, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def key_id_of(public_key: bytes) -> str:
    """Name a public key by the first 16 hexadecimal digits of its sha256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def leaf_of(chain: str, number: int, digest: str) -> bytes:
    """Give the leaf of a chain that ends at this entry."""
    return canonical_json({"chain": chain, "hash": digest, "number": number})


def tree_of(heads: Sequence[tuple[str, int, str]]) -> merkle.MerkleTree:
    """Build the tree over heads (chain, number, hash), which must be sorted by chain."""
    return merkle.MerkleTree([leaf_of(*head) for head in heads])


def seal_payload(
    *, number: int, at: datetime, key_id: str, tree_size: int, root: str, previous: str
) -> dict[str, Any]:
    """Give what a seal signs, once written as canonical JSON."""
    return {
        "format": SEAL_FORMAT,
        "number": number,
        "at": time_text(at),
        "key_id": key_id,
        "tree_size": tree_size,
        "root": root,
        "previous": previous,
    }


def is_payload(payload: object) -> bool:
    """Tell whether this has the fields of a seal and their types, no more and no less."""
    return (
        isinstance(payload, dict)
        and payload.keys() == SEAL_FIELDS.keys()
        and all(type(payload[field]) is kind for field, kind in SEAL_FIELDS.items())
        and payload["format"] == SEAL_FORMAT
    )


def is_signed(payload: Mapping[str, Any], signature: object, public_key: bytes) -> bool:
    """Tell whether a signature, in base64, is this key's over a value's canonical JSON."""
    try:
        raw = base64.b64decode(str(signature), validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(raw, canonical_json(dict(payload)))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def is_head_sealed(payload: Mapping[str, Any], chain: str, head: Mapping[str, Any]) -> bool:
    """Tell whether a chain's head, with its path, lies under a seal's root."""
    try:
        path = [bytes.fromhex(step) for step in head["path"]]
        leaf = leaf_of(chain, head["number"], head["hash"])
        root, index = bytes.fromhex(payload["root"]), int(head["leaf_index"])
        return merkle.is_included(leaf, index, payload["tree_size"], path, root)
    except (KeyError, TypeError, ValueError):
        return False


def digest_of_seal(payload: Mapping[str, Any]) -> str:
    """Give what the next seal holds of this one."""
    return hashlib.sha256(canonical_json(dict(payload))).hexdigest()


def seal_line(payload: Mapping[str, Any], signature: str, head: Mapping[str, Any]) -> bytes:
    """Write a seal, with the proof of this chain's head, as a line of an export."""
    value = {"kind": "seal", "seal": payload, "signature": signature, "head": head}
    return canonical_json(value) + b"\n"


def read_keys(text: str) -> dict[str, bytes]:
    """Read public keys: what ``/log/key`` answers, or one key in base64 per line.

    Returns:
        The keys' 32 bytes by their ids, the ids worked out afresh.

    Raises:
        InvalidError: a line is no key.
    """
    try:
        value = json.loads(text)
        given = [str(key["public_key"]) for key in value["keys"]]
    except (ValueError, KeyError, TypeError):
        given = text.split()
    keys, faults = {}, []
    for place, key in enumerate(given, start=1):
        try:
            raw = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) == _KEY_BYTES:
            keys[key_id_of(raw)] = raw
        else:
            faults.append(Fault(f"keys.{place}", "not the 32 bytes of an Ed25519 key in base64"))
    if faults or not keys:
        raise InvalidError(
            "These are no public keys of a Millpond log.",
            next_step="Fetch them from the server with `millpond log key > keys.json`.",
            faults=faults or [Fault("keys", "there is none")],
        )
    return keys
