"""A version's files as folders: what lies directly in one, and what a search finds below it."""

import threading
from bisect import bisect_left
from collections import OrderedDict

from millpond.ground.page import Page, decode_cursor, encode_cursor
from millpond.lake.manifests import ManifestCache
from millpond.lake.values import FileEntry, TreeItem, encode_path

_KEPT_MOST = 64


class Browser:
    """Lists folders of versions, and keeps the lists that were asked for last."""

    def __init__(self, manifests: ManifestCache) -> None:
        """Read manifests through this cache."""
        self._manifests = manifests
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, bytes, str], list[TreeItem]] = OrderedDict()

    def list_folder(
        self, manifest_key: str, folder: bytes, search: str, cursor: str | None, limit: int
    ) -> Page[TreeItem]:
        """List a folder: folders first, then files, each by the bytes of their names.

        Args:
            manifest_key: of the version.
            folder: path without a slash at the end; empty for the top.
            search: where there is any, files anywhere below whose path holds it.
            cursor: of the page before.
            limit: how many at most.
        """
        key = decode_cursor(cursor, int)
        start = max(int(key[0]), 0) if key else 0
        found = self._find(manifest_key, folder.strip(b"/"), search.strip().casefold())
        end = start + limit
        return Page(found[start:end], encode_cursor([end]) if end < len(found) else None)

    def _find(self, manifest_key: str, folder: bytes, search: str) -> list[TreeItem]:
        key = manifest_key, folder, search
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        files = self._manifests.read(manifest_key).files
        found = _search(files, folder, search) if search else _group(files, folder)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _KEPT_MOST:
                self._kept.popitem(last=False)
        return found


def _below(files: tuple[FileEntry, ...], folder: bytes) -> tuple[FileEntry, ...]:
    if not folder:
        return files
    first = bisect_left(files, folder + b"/", key=lambda entry: entry.raw_path)
    last = bisect_left(files, folder + b"0", key=lambda entry: entry.raw_path)  # "/" + 1.
    return files[first:last]


def _group(files: tuple[FileEntry, ...], folder: bytes) -> list[TreeItem]:
    start = len(folder) + 1 if folder else 0
    folders: dict[bytes, list[int]] = {}
    own: list[TreeItem] = []
    for entry in _below(files, folder):
        name, slash, _ = entry.raw_path[start:].partition(b"/")
        if slash:
            sums = folders.setdefault(name, [0, 0])
            sums[0] += 1
            sums[1] += entry.size
        else:
            own.append(_file(entry, name))
    return [_folder(folder, name, *sums) for name, sums in sorted(folders.items())] + own


def _search(files: tuple[FileEntry, ...], folder: bytes, search: str) -> list[TreeItem]:
    start = len(folder) + 1 if folder else 0
    return [
        _file(entry, entry.raw_path[start:])
        for entry in _below(files, folder)
        if search in entry.path.casefold()
    ]


def _file(entry: FileEntry, name: bytes) -> TreeItem:
    return TreeItem(encode_path(name)[0], entry.path, entry.path_bytes, 1, entry.size, entry.digest)


def _folder(above: bytes, name: bytes, count: int, size: int) -> TreeItem:
    path, path_bytes = encode_path(above + b"/" + name if above else name)
    return TreeItem(encode_path(name)[0], path, path_bytes, count, size, None)
