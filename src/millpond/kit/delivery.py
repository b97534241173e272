"""What a step returned, laid down in the output folder: rows as parts, files under their names."""

import os

from .kinds import File, Files
from .rows import RowWriter, as_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PAIR = 2


def leave_rows(value: "Any", folder: str) -> "list[list[int]]":
    """Write rows one by one; give the parts' row counts as runs of ``[rows, parts]``."""
    with RowWriter(folder) as writer:
        for row in as_rows(value):
            writer.write(row)
    return writer.runs()


def leave_files(value: "Any", out: str, name: str, *, is_one: bool = False) -> None:
    """Lay files down below ``out/name``.

    A step may give paths, File objects, pairs of a name and bytes or text, a dict of these, or an
    iterable of any of them; None means that it left its files in its working folder.

    Raises:
        TypeError: it gave something else.
        ValueError: a name climbs out of the folder, stands twice, or there is not just one file.
    """
    target = os.path.join(out, name)
    before = [entry for entry in os.listdir(out) if entry not in (".millpond", name)]
    os.makedirs(target, exist_ok=True)
    if value is None:
        for entry in before:
            os.rename(os.path.join(out, entry), os.path.join(target, entry))
        count = len(Files(target))
    else:
        count = 0
        for item in _items(value):
            _leave_one(item, target, out)
            count += 1
    if is_one and count != 1:
        raise ValueError(f"the output {name!r} must be one file, not {count}")


def _items(value: "Any") -> "Iterator[Any]":
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (str, os.PathLike)) or _is_pair(value):
        yield value
    elif isinstance(value, (bytes, bytearray)) or not hasattr(value, "__iter__"):
        raise TypeError(
            "files are paths, or pairs of a name and bytes or text, not " + type(value).__name__
        )
    else:
        yield from value


def _is_pair(value: "Any") -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == _PAIR
        and isinstance(value[0], str)
        and isinstance(value[1], (bytes, bytearray, memoryview, str))
    )


def _leave_one(item: "Any", target: str, out: str) -> None:
    if _is_pair(item):
        name, data = item
        with open(_place(target, name), "xb") as file:
            file.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        return
    if isinstance(item, tuple) and len(item) == _PAIR:
        name, source = str(item[0]), _absolute(item[1])
    elif isinstance(item, File):
        name, source = item.name, _absolute(item)
    elif isinstance(item, (str, os.PathLike)):
        source = _absolute(item)
        name = os.path.relpath(source, out) if _is_inside(source, out) else source.split("/")[-1]
    else:
        raise TypeError(f"a file is a path, or a name and bytes, not {type(item).__name__}")
    place = _place(target, name)
    if source == place:
        return
    if _is_inside(source, out):
        os.rename(source, place)
    else:
        from shutil import copyfile  # Loaded when needed: every fork pays for what is loaded.

        copyfile(source, place)


def _absolute(path: "Any") -> str:
    """Give a path from the root, ``..`` kept as it stands: a folder before it may be a link."""
    parts = os.path.join(os.getcwd(), os.fspath(path)).split("/")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _place(target: str, name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!a} can't be the name of an output: it leaves the folder")
    place = os.path.join(target, *parts)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.exists(place):
        raise ValueError(f"two outputs are named {name!a}")
    return place
