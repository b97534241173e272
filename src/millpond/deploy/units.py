"""The services' units for systemd: texts beside this module, filled in with places."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from millpond.deploy.places import (
    CURRENT_PYTHON,
    HOST_FOLDER,
    NODE_FOLDER,
    SCHEDULER_UNIT,
    SERVER_UNIT,
    WORKER_UNIT,
)

_TEXTS = Path(__file__).parent / "units"
_PLAIN = re.compile(r"[A-Za-z0-9._@+/-]+")
_FOLDERS = (("objects", "folder"), ("engine", "scratch_folder"), ("environments", "folder"))
"""By room, settings that name a folder of the server's own."""


def worker_unit(data_disk: str = "") -> str:
    """Give the text of a node's unit.

    Args:
        data_disk: folder of its objects, of plain signs; it may be away when the service starts.
    """
    return _fill(WORKER_UNIT, NODE_FOLDER, more=f"-{data_disk}" if data_disk else "")


def server_unit(folder: str = HOST_FOLDER, elsewhere: Sequence[str] = ()) -> str:
    """Give the text of the server's unit.

    Args:
        folder: of its data.
        elsewhere: folders that its settings name outside of it, which it writes, too.
    """
    return _fill(SERVER_UNIT, folder, more=" ".join(map(_quoted, elsewhere)))


def folders_elsewhere(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the folders that settings, as their file has them, name for the server to write."""
    named = (settings.get(room, {}).get(name, "") for room, name in _FOLDERS)
    return tuple(dict.fromkeys(each for each in named if str(each).startswith("/")))


def _quoted(path: str) -> str:
    """Write a path that may be away as systemd reads it, whatever signs it has."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f"-{path}" if _PLAIN.fullmatch(path) else f'"-{escaped}"'


def scheduler_unit(folder: str = HOST_FOLDER, port: int = 8786) -> str:
    """Give the text of the scheduler's unit."""
    return _fill(SCHEDULER_UNIT, folder, words=scheduler_words(folder, port))


def scheduler_words(folder: str, port: int) -> str:
    """Give the words after Python's name that run the scheduler of a data folder."""
    return (
        f"-m millpond.engine.cluster.scheduler --folder {folder}/cluster"
        f" --authority {folder}/keys/authority.crt --port {port}"
    )


def _fill(name: str, folder: str, *, more: str = "", words: str = "") -> str:
    text = Template((_TEXTS / name).read_text()).substitute(
        python=CURRENT_PYTHON, folder=folder, more=more, words=words, scheduler=SCHEDULER_UNIT
    )
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def digest_of_unit(text: str) -> str:
    """Give the SHA-256 of a unit's text, as ``sha256sum`` does."""
    return hashlib.sha256(text.encode()).hexdigest()
