"""What the lake hands out: datasets, versions, manifests and their files."""

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

Kind = Literal["files", "table"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTENT_KEY = re.compile(r"projects/[^/]+/(?:objects|manifests)/[0-9a-f]{2}/([0-9a-f]{64})")


@dataclass(frozen=True)
class FileEntry:
    """One file of a dataset version.

    Attributes:
        path: relative path with slashes, as people see it. Bytes that are not UTF-8 stand as
            backslash escapes.
        digest: sha256 of the content, in hexadecimal.
        size: bytes.
        path_bytes: base64 of the real bytes of the path, only when they are not UTF-8.
    """

    path: str
    digest: str
    size: int
    path_bytes: str | None = None

    @property
    def raw_path(self) -> bytes:
        """The real bytes of the path; this, not ``path``, identifies the file."""
        return decode_path(self.path, self.path_bytes)

    @property
    def os_path(self) -> str:
        """The path as Python's file functions take it (surrogateescape)."""
        return self.raw_path.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TreeItem:
    """A folder, or a file, of a version.

    Attributes:
        name: its last part, as people see it.
        path: the whole path; ``path_bytes`` as in ``FileEntry``, for folders too.
        file_count: of a folder, all files below it; of a file, one.
        size_bytes: of a folder, all files below it together.
        digest: of a file; None for a folder.
    """

    name: str
    path: str
    path_bytes: str | None
    file_count: int
    size_bytes: int
    digest: str | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.digest is None


@dataclass(frozen=True)
class Manifest:
    """The files of a version, in the order of the bytes of their paths."""

    files: tuple[FileEntry, ...]

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @property
    def file_count(self) -> int:
        """How many files there are."""
        return len(self.files)


@dataclass(frozen=True)
class LakeLimits:
    """What one version may hold, whether its files come one by one or in an archive.

    Attributes:
        files: how many files.
        total_bytes: bytes of all files together, unpacked.
        file_bytes: bytes of one file.
        path_bytes: bytes of a whole path.
        name_bytes: bytes of one part of a path.
        depth: parts of a path.
        ratio: how many times larger than the archive its contents may be, once they are larger
            than ``ratio_from_bytes``.
        ratio_from_bytes: contents up to here may have been packed as tightly as one likes.
        pack_files: how many contents one pack may bring.
        pack_bytes: bytes of one pack.
        open_uploads: how many uploads one person may have in a project that are not finished.
        unfinished_bytes: bytes that the uploads of a project which are not finished may declare.
        upload_seconds: how long an upload is kept after something came last.
    """

    files: int = 200_000
    total_bytes: int = 100 << 30
    file_bytes: int = 100 << 30
    path_bytes: int = 2048
    name_bytes: int = 255
    depth: int = 64
    ratio: int = 200
    ratio_from_bytes: int = 64 << 20
    pack_files: int = 5_000
    pack_bytes: int = 64 << 20
    open_uploads: int = 1_000
    unfinished_bytes: int = 400 << 30
    upload_seconds: float = 7 * 86_400.0


@dataclass(frozen=True)
class Dataset:
    """A dataset with what its newest version holds.

    Attributes:
        newest: number of the newest version.
        created_by: name of the user, or ``system``.
    """

    id: str
    name: str
    kind: Kind
    newest: int
    digest: str
    file_count: int
    size_bytes: int
    created_at: datetime
    created_by: str
    changed_at: datetime


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version of a dataset.

    Attributes:
        dataset: the dataset's name.
        number: 1, 2, 3 and so on; never used twice, not even after deletion.
        digest: sha256 of the manifest: equal digests are equal paths and equal contents.
        manifest_key: where the manifest lies in the object store.
        origin: where it comes from: ``upload``, or ``run/ID`` of the run that made it.
        unchanged: whether a push found this same content already the newest.
    """

    id: str
    dataset: str
    number: int
    digest: str
    kind: Kind
    file_count: int
    size_bytes: int
    manifest_key: str
    origin: str
    created_at: datetime
    created_by: str
    unchanged: bool = False

    @property
    def address(self) -> str:
        """Name and number, such as ``reviews@3``."""
        return f"{self.dataset}@{self.number}"


def is_digest(text: str) -> bool:
    """Say whether this is a sha256 in lower-case hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def object_key(project_id: str, digest: str) -> str:
    """Give the key under which a project keeps a file's content.

    Addressing is per project, so that knowing a digest gives nobody another project's bytes.
    """
    return f"projects/{project_id}/objects/{digest[:2]}/{digest}"


def manifest_key(project_id: str, digest: str) -> str:
    """Give the key under which a project keeps a manifest."""
    return f"projects/{project_id}/manifests/{digest[:2]}/{digest}"


def digest_in(key: str) -> str:
    """Give the sha256 that a key says its content has; empty for keys that say none."""
    found = _CONTENT_KEY.fullmatch(key)
    return found[1] if found else ""


def encode_path(raw: bytes) -> tuple[str, str | None]:
    """Turn a path's bytes into (path, path_bytes); the second is None when they are UTF-8."""
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "backslashreplace")
        return text, base64.b64encode(raw).decode("ascii")


def decode_path(path: str, path_bytes: str | None) -> bytes:
    """Turn (path, path_bytes) back into the path's bytes.

    Raises:
        ValueError: ``path_bytes`` is not base64, or ``path`` holds a lone surrogate.
    """
    if path_bytes is None:
        return path.encode("utf-8")
    return base64.b64decode(path_bytes, validate=True)
