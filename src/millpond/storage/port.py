"""The object store: bytes under keys, written once, read in ranges.

What every store promises:

- ``put`` creates; a key that is there already is a ConflictError unless ``overwrite`` is said. Of
  several writers of one new key exactly one succeeds.
- An object appears whole or not at all, and a ``put`` that has returned survives a power cut.
- ``put_many`` leaves keys that are there as they are: it is for keys that name their content.
- ``list`` goes in the order of the keys' characters and sees every finished ``put``.
- A signed address gives one method on one key until it expires, and nothing else.
- Everything may be called from several threads at once.

A key is parts joined by ``/``; ``check_key`` says which. No key may be the folder of another
(``a`` beside ``a/b``): a store on a file system refuses the second with a ConflictError.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol
from urllib.parse import quote

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError

Method = Literal["GET", "PUT"]

CHUNK_BYTES = 1 << 20
KEY_BYTES_MOST = 900
PART_BYTES_MOST = 240

_PART = re.compile(r"[A-Za-z0-9_.=+@,~%-]+")


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object without reading it.

    Attributes:
        key: its key.
        size: its length in bytes.
        stamp: from a list, another one after each ``overwrite``; empty where it is not known.
    """

    key: str
    size: int
    stamp: str = field(default="", compare=False)


class ObjectStore(Protocol):
    """Somewhere to keep bytes; see the module for what it promises."""

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> int:
        """Store bytes, or all that a file still gives; give how many.

        Raises:
            ConflictError: the key is there and ``overwrite`` was not said.
            BusyError: the disk is full or the store does not answer.
        """
        ...

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Store many small objects with one flush; keys that are there are left as they are."""
        ...

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read bytes from ``start``; fewer, or none, when the object ends before.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read as ``get`` does, piece by piece; a missing object raises at once."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Tell an object's size.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Give the objects whose keys begin with ``prefix`` and follow ``after``, in order."""
        ...

    def sign(self, key: str, *, method: Method = "GET", seconds: int = 3600) -> str:
        """Give an absolute address that allows ``method`` on this key for so many seconds."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Give the object's file when it lies on this machine, to be read only; else None."""
        ...


def check_key(key: str) -> str:
    """Give the key back when it is sound.

    Parts of at most 240 of ``A-Z a-z 0-9 _ . = + @ , ~ % -``, none of them ``.`` or ``..``, 900
    characters in all. ``key_part`` writes any name so that it fits.

    Raises:
        InvalidError: it is not.
    """
    parts = key.split("/")
    sound = len(key) <= KEY_BYTES_MOST and all(
        _PART.fullmatch(part) and part not in (".", "..") and len(part) <= PART_BYTES_MOST
        for part in parts
    )
    if not sound:
        raise InvalidError(
            f"{key[:200]!r} is not a key of the object store.",
            next_step="Use parts of letters, digits and _ . = + @ , ~ % - joined by /, at most"
            f" {PART_BYTES_MOST} characters each and {KEY_BYTES_MOST} in all.",
            faults=[Fault("key", "holds an empty or unsound part, or is too long")],
        )
    return key


def key_part(name: str) -> str:
    """Write a file's name, which may hold anything, as one part of a key.

    Names that are not UTF-8 come with Python's surrogate escapes, as ``os.listdir`` gives them.
    """
    text = quote(os.fsencode(name), safe="-_.=+@,~")
    return text.replace(".", "%2E") if text in (".", "..") else text


def not_found(key: str) -> NotFoundError:
    """Make the error for an object that is not there."""
    return NotFoundError(
        f"There is no object {key!r}.",
        next_step="Check the key; the object may have been purged.",
        key=key,
    )


def is_there(key: str) -> ConflictError:
    """Make the error for a key that is taken."""
    return ConflictError(
        f"The object {key!r} is there already, and objects are written once.",
        next_step="Choose another key.",
        key=key,
    )
