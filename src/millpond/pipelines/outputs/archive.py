"""A zip of a run's outputs, made while it is sent: no file on disk, no list of bytes in memory."""

import time
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from millpond.pipelines.outputs.values import OutputFile
from millpond.storage.port import ObjectStore

_PACKED_ALREADY = (
    *(".parquet", ".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".npz", ".whl", ".pdf"),
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp3", ".mp4"),
)
_SPECIAL = frozenset('<>:"|?*\\')
_PIECE_BYTES = 64 << 10
_EARLIEST = (1980, 1, 1, 0, 0, 0)


class _Pipe:
    """A file that only grows at its end and gives away what was written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is nothing underneath."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return data


def stream_zip(
    objects: ObjectStore, files: Iterable[OutputFile], *, folder: str = "", deflate: bool = True
) -> Iterator[bytes]:
    """Give the bytes of a zip of these files, piece by piece.

    Names are relative, without ``..``, control characters or what Windows refuses; two that come
    out alike get a number. Files that are packed already are stored as they are. Files over 4 GiB
    and more than 65,535 of them work (Zip64). With ``folder``, all of it lies in a folder of that
    name; without ``deflate``, nothing is packed.
    """
    pipe = _Pipe()
    taken: set[str] = set()
    moment = max(time.gmtime()[:6], _EARLIEST)
    with zipfile.ZipFile(cast("BinaryIO", pipe), "w", allowZip64=True) as archive:
        for each in files:
            name = _unique(safe_name(each.path), taken)
            entry = zipfile.ZipInfo(f"{folder}/{name}" if folder else name, moment)
            packed = each.path.lower().endswith(_PACKED_ALREADY)
            can_pack = deflate and not packed
            entry.compress_type = zipfile.ZIP_DEFLATED if can_pack else zipfile.ZIP_STORED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=each.size > zipfile.ZIP64_LIMIT // 2) as out:
                for piece in objects.stream(each.key):
                    out.write(piece)
                    if pipe.size >= _PIECE_BYTES:
                        yield pipe.take()
    yield pipe.take()


def safe_name(path: str) -> str:
    """Write a path so that unpacking it stays below one folder on every system."""
    parts = []
    for part in path.split("/"):
        clean = "".join("_" if _is_special(each) else each for each in part).rstrip(" .")
        if clean:
            parts.append(clean)
        elif part not in ("", "."):
            parts.append("_" * len(part))
    return "/".join(parts) or "_"


def _is_special(letter: str) -> bool:
    return letter in _SPECIAL or unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}


def _unique(name: str, taken: set[str]) -> str:
    """Give a name that is no other's, nor a folder where another is a file."""
    stem, dot, ending = name.rpartition(".")
    if not stem or "/" in ending:
        stem, dot, ending = name, "", ""
    while any(folder in taken for folder in _folders(stem.casefold())):
        stem = f"_{stem}"  # A file stands where its folder would be: no number helps.
    number, free = 1, stem + dot + ending
    while not _is_free(free, taken):
        number += 1
        free = f"{stem} ({number}){dot}{ending}"
    folded = free.casefold()  # Also alike where upper and lower case are the same.
    taken.add(folded)
    taken.update(f"{parent}/" for parent in _folders(folded))
    return free


def _is_free(name: str, taken: set[str]) -> bool:
    folded = name.casefold()
    return folded not in taken and f"{folded}/" not in taken


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: place + 1]) for place in range(len(parts))]
