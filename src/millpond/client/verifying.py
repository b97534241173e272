"""Check an exported record here: no server, no network."""

import json
from pathlib import Path

from millpond.audit.inclusion import is_proof, verify_proof
from millpond.audit.proof import Verdict, verify_export
from millpond.audit.seals import read_keys
from millpond.ground.errors import InvalidError


def verify_file(export: Path, keys: str, checkpoint: str | None = None) -> Verdict:
    """Check an export, or the proof of one entry, against the server's public keys.

    Args:
        export: the file.
        keys: text of the keys, from somewhere else than the file: what ``log key`` prints.
        checkpoint: text of a checkpoint that was kept, if any.

    Raises:
        InvalidError: the keys or the checkpoint can't be read.
    """
    kept = None
    if checkpoint is not None:
        try:
            kept = json.loads(checkpoint)
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise InvalidError(
                "The checkpoint can't be read.",
                next_step="Give the file that `millpond log checkpoint` wrote.",
            )
    data = export.read_bytes()
    verify = verify_proof if is_proof(data) else verify_export
    return verify(data, read_keys(keys), kept)
