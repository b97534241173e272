"""Manifests in the object store: one canonical JSON object per set of files."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

from millpond.ground.canonical import canonical_json, digest_of_bytes
from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError
from millpond.lake.rules import check_files, show_path
from millpond.lake.values import FileEntry, LakeLimits, Manifest, manifest_key
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


def merge(
    before: Iterable[FileEntry], more: Iterable[FileEntry], limits: LakeLimits
) -> tuple[FileEntry, ...]:
    """Add files to those of a version; one whose path was there takes its place.

    Raises:
        InvalidError: together they are more than a version may hold, or a file is a folder too.
    """
    merged = {entry.raw_path: entry for entry in before}
    merged |= {entry.raw_path: entry for entry in more}
    entries = tuple(merged.values())
    check_files(entries, limits)
    return entries


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


class ManifestCache:
    """Keeps the manifests that were read last, so that a file by file download reads it once."""

    def __init__(self, objects: ObjectStore, files_most: int = 200_000) -> None:
        """Keep manifests of so many files together, and always the newest one."""
        self._objects = objects
        self._files_most = files_most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Manifest, dict[bytes, FileEntry]]] = OrderedDict()

    def read(self, key: str) -> Manifest:
        """Read a manifest."""
        return self._get(key)[0]

    def find(self, key: str, raw_path: bytes) -> FileEntry:
        """Find a file of a manifest by the bytes of its path.

        Raises:
            NotFoundError: it holds no such file.
        """
        entry = self._get(key)[1].get(raw_path)
        if entry is None:
            raise NotFoundError(
                f"There is no file {show_path(raw_path)!r} in this version.",
                next_step="List its files; a path that is not UTF-8 needs its path_bytes.",
            )
        return entry

    def _get(self, key: str) -> tuple[Manifest, dict[bytes, FileEntry]]:
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        manifest = read_manifest(self._objects, key)
        found = manifest, {entry.raw_path: entry for entry in manifest.files}
        with self._lock:
            self._kept[key] = found
            count = sum(kept.file_count for kept, _ in self._kept.values())
            while count > self._files_most and len(self._kept) > 1:
                _, (dropped, _) = self._kept.popitem(last=False)
                count -= dropped.file_count
        return found
