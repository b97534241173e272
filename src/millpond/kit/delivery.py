"""What a step returned, laid down in the output folder: rows as parts, files under their names."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .kinds import File, Files
from .rows import RowWriter, as_rows

_PAIR = 2


def leave_rows(value: Any, folder: Path) -> "list[list[int]]":
    """Write rows one by one; give the parts' row counts as runs of ``[rows, parts]``."""
    with RowWriter(folder) as writer:
        for row in as_rows(value):
            writer.write(row)
    return writer.runs()


def leave_files(value: Any, out: Path, name: str, *, is_one: bool = False) -> None:
    """Lay files down below ``out/name``.

    A step may give paths, File objects, pairs of a name and bytes or text, a dict of these, or an
    iterable of any of them; None means that it left its files in its working folder.

    Raises:
        TypeError: it gave something else.
        ValueError: a name climbs out of the folder, stands twice, or there is not just one file.
    """
    target = out / name
    before = [entry for entry in out.iterdir() if entry.name not in (".millpond", name)]
    target.mkdir(exist_ok=True)
    if value is None:
        for entry in before:
            entry.rename(target / entry.name)
        count = len(Files(target))
    else:
        count = 0
        for item in _items(value):
            _leave_one(item, target, out)
            count += 1
    if is_one and count != 1:
        raise ValueError(f"the output {name!r} must be one file, not {count}")


def _items(value: Any) -> "Iterator[Any]":
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


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == _PAIR
        and isinstance(value[0], str)
        and isinstance(value[1], (bytes, bytearray, memoryview, str))
    )


def _leave_one(item: Any, target: Path, out: Path) -> None:
    if _is_pair(item):
        name, data = item
        place = _place(target, name)
        with place.open("xb") as file:
            file.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        return
    if isinstance(item, tuple) and len(item) == _PAIR:
        name, source = str(item[0]), Path(item[1])
    elif isinstance(item, File):
        name, source = item.name, item.path
    elif isinstance(item, (str, os.PathLike)):
        source = Path(item)
        inside = out in source.absolute().parents
        name = os.path.relpath(source.absolute(), out) if inside else source.name
    else:
        raise TypeError(f"a file is a path, or a name and bytes, not {type(item).__name__}")
    place = _place(target, name)
    if source.absolute() == place:
        return
    if out in source.absolute().parents:
        source.rename(place)
    else:
        from shutil import copyfile  # Loaded when needed: every fork pays for what is loaded.

        copyfile(source, place)


def _place(target: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!a} can't be the name of an output: it leaves the folder")
    place = target.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        raise ValueError(f"two outputs are named {name!a}")
    return place
