"""Manifests in the object store: one canonical JSON object per set of files."""

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

from millpond.ground.canonical import canonical_json, digest_of_bytes
from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.lake.values import FileEntry, Manifest, manifest_key
from millpond.storage.port import ObjectStore

_FORMAT = 1


def write_manifest(
    objects: ObjectStore, project_id: str, files: Iterable[FileEntry]
) -> tuple[str, str]:
    """Write a manifest of these files; give its key and its digest.

    The files are put in the order of their paths' bytes, so equal files give equal digests.
    Writing the same manifest again changes nothing.

    Raises:
        InvalidError: two files have the same path.
    """
    data = encode_manifest(sort_files(files))
    digest = digest_of_bytes(data)
    key = manifest_key(project_id, digest)
    with suppress(ConflictError):  # The key is the content's own digest: it may be there already.
        objects.put(key, data)
    return key, digest


def read_manifest(objects: ObjectStore, key: str) -> Manifest:
    """Read a manifest.

    Raises:
        NotFoundError: there is none under this key.
    """
    return decode_manifest(objects.get(key))


def sort_files(files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """Put files in the order of their paths' bytes.

    Raises:
        InvalidError: two files have the same path.
    """
    ordered = sorted(((entry.raw_path, entry) for entry in files), key=lambda pair: pair[0])
    twice = [entry.path for (raw, entry), (after, _) in pairwise(ordered) if raw == after]
    if twice:
        raise InvalidError(
            "Some paths stand in the list more than once.",
            next_step="Send each path once.",
            faults=[Fault("files", f"twice: {path[:200]!r}") for path in twice[:20]],
        )
    return tuple(entry for _, entry in ordered)


def encode_manifest(files: Iterable[FileEntry]) -> bytes:
    """Write files that are in order as a manifest's bytes."""
    rows = [
        {"path": entry.path, "digest": entry.digest, "size": entry.size}
        | ({} if entry.path_bytes is None else {"path_bytes": entry.path_bytes})
        for entry in files
    ]
    return canonical_json({"format": _FORMAT, "files": rows})


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest's bytes."""
    return Manifest(tuple(FileEntry(**row) for row in json.loads(data)["files"]))
