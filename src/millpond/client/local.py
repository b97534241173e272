"""Find a server on this machine, and sign in to it by its key file."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER_FILE = "server.json"
KEY_FILE = Path("keys") / "local.key"


@dataclass(frozen=True)
class LocalServer:
    """A server that wrote its address into its data folder.

    Attributes:
        data: the data folder.
        url: where it answers.
        process: its process id; 0 when it did not say.
    """

    data: Path
    url: str
    process: int

    @property
    def is_alive(self) -> bool:
        """Whether its process runs; a server of another user counts as running."""
        if not self.process:
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def default_data_folder(environ: Mapping[str, str]) -> Path:
    """Give the folder that ``millpond up`` uses unless told otherwise."""
    if environ.get("MILLPOND_DATA"):
        return Path(environ["MILLPOND_DATA"])
    home = Path(environ.get("HOME") or Path.home())
    share = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return share / "millpond"


def read_server(data: Path) -> LocalServer | None:
    """Read the address that a server left in its data folder; None when there is none."""
    try:
        facts: Any = json.loads((data / SERVER_FILE).read_text())
        return LocalServer(data, str(facts["url"]), int(facts.get("pid", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_server(folders: Iterable[Path]) -> LocalServer | None:
    """Give the first server that runs among data folders."""
    for folder in folders:
        server = read_server(folder)
        if server is not None and server.is_alive:
            return server
    return None
