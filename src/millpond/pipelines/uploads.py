"""Code that a browser sends: contents go where the command line puts them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import BinaryIO

from starlette.datastructures import UploadFile

from millpond.lake.archives import unpack
from millpond.lake.contents import put_content
from millpond.lake.values import FileEntry, LakeLimits, encode_path
from millpond.storage.port import ObjectStore

_CHUNK = 1 << 20
_LEFT_OUT = frozenset(
    {"__pycache__", "__MACOSX", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)
"""Folders that tools leave beside code."""


def store_files(
    objects: ObjectStore, project_id: str, files: Iterable[UploadFile], limits: LakeLimits
) -> list[FileEntry]:
    """Store files under the paths that the browser names; give their list.

    Raises:
        TooLargeError: one is longer than a file may be.
    """
    return [
        FileEntry(path, *store_content(objects, project_id, one.file, limits),
                  path_bytes)
        for one in files
        for path, path_bytes in [encode_path((one.filename or "file").encode("utf-8", "replace"))]
    ]  # fmt: skip


def store_content(
    objects: ObjectStore, project_id: str, file: BinaryIO, limits: LakeLimits
) -> tuple[str, int]:
    """Store one content that can be read twice; give its digest and size."""
    file.seek(0)
    hashed = hashlib.sha256()
    while piece := file.read(_CHUNK):
        hashed.update(piece)
    file.seek(0)
    digest = hashed.hexdigest()
    return digest, put_content(objects, project_id, digest, file, limits)


def store_archive(
    objects: ObjectStore, project_id: str, archive: UploadFile, limits: LakeLimits
) -> list[FileEntry]:
    """Store what an archive holds; give the list of its files.

    Raises:
        InvalidError: it is no archive, or holds what is not allowed; names every fault.
    """
    digest, _ = store_content(objects, project_id, archive.file, limits)
    return list(unpack(objects, project_id, digest, None, limits))


def tidy_code(files: Sequence[FileEntry]) -> list[FileEntry]:
    """Leave out what tools left, and the one folder that all the rest lies in."""
    kept = [
        one
        for one in files
        if not _LEFT_OUT.intersection(one.path.split("/"))
        and not one.path.endswith((".pyc", ".pyo", ".DS_Store"))
    ]
    tops = {one.path.partition("/")[0] for one in kept}
    if len(tops) == 1 and all("/" in one.path for one in kept):
        kept = [replace(one, path=one.path.partition("/")[2]) for one in kept]
    return kept
