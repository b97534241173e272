"""Read what compiling a version wrote: the chunks of its tries, in the object store."""

from itertools import islice

from millpond.pipelines.specs.values import LogPart
from millpond.pipelines.values import PipelineVersion
from millpond.storage.port import ObjectStore

_CHUNKS_MOST = 100


def compiled_prefix(project_id: str, version_id: str) -> str:
    """Give what the keys of all that compiling a version leaves begin with."""
    return f"projects/{project_id}/compiled/{version_id}/"


def read_log(
    objects: ObjectStore, project_id: str, version: PipelineVersion, after: int
) -> LogPart:
    """Give the chunks after so many; a bounded number of them at once.

    The version must have been read before: what has ended by then has all its chunks there.
    """
    prefix = compiled_prefix(project_id, version.id)
    chunks = (found.key for found in objects.list(prefix) if ".log/" in found.key)
    keys = list(islice(chunks, after, after + _CHUNKS_MOST))
    text = b"".join(objects.get(key) for key in keys).decode("utf-8", "replace")
    is_complete = version.state != "compiling" and len(keys) < _CHUNKS_MOST
    return LogPart(text, after + len(keys), is_complete)
