"""Output manifests in the object store: where each file of a run's outputs lies."""

import json
from collections.abc import Iterable

from millpond.ground.canonical import canonical_json
from millpond.ground.errors import NotFoundError
from millpond.pipelines.outputs.values import FORMAT, OutputFile, OutputManifest
from millpond.storage.port import ObjectStore


def encode_outputs(files: Iterable[OutputFile]) -> bytes:
    """Write files, put in the order of the bytes of their paths, as a manifest's bytes."""
    rows = [
        {"path": each.path, "key": each.key, "size": each.size, "digest": each.digest}
        | ({} if each.path_bytes is None else {"path_bytes": each.path_bytes})
        for each in sorted(files, key=lambda each: each.raw_path)
    ]
    return canonical_json({"format": FORMAT, "files": rows})


def read_outputs(objects: ObjectStore, key: str) -> OutputManifest:
    """Read an output manifest.

    Raises:
        NotFoundError: there is none under this key.
    """
    rows = json.loads(objects.get(key))["files"]
    return OutputManifest(tuple(OutputFile(**row) for row in rows))


def find_output(manifest: OutputManifest, raw_path: bytes) -> OutputFile:
    """Give the file whose path has these bytes.

    Raises:
        NotFoundError: the outputs hold none.
    """
    for each in manifest.files:
        if each.raw_path == raw_path:
            return each
    raise NotFoundError(
        f"The outputs hold no file {raw_path[:200].decode('utf-8', 'backslashreplace')!r}.",
        next_step="List the run's outputs to see their paths.",
    )
