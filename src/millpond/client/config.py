"""What the client keeps on this machine: where its server is, who signed in, which project."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from millpond.ground.errors import Fault, InvalidError

_KEYS = {"url", "token", "project", "data_folders"}


@dataclass(frozen=True)
class Config:
    """The client's own settings.

    Attributes:
        url: address of the server that was last signed in to; empty when there is none.
        token: API token for that server; never printed.
        project: project that commands work in unless told otherwise.
        data_folders: data folders of servers that were started on this machine, newest first.
    """

    url: str = ""
    token: str = field(default="", repr=False)
    project: str = ""
    data_folders: tuple[str, ...] = ()

    def with_data_folder(self, folder: Path) -> "Config":
        """Remember a data folder, newest first, at most ten."""
        name = str(folder)
        kept = (name, *(one for one in self.data_folders if one != name))
        return replace(self, data_folders=kept[:10])


def config_path(environ: Mapping[str, str]) -> Path:
    """Say where the file is: MILLPOND_CONFIG, or the user's configuration folder."""
    if environ.get("MILLPOND_CONFIG"):
        return Path(environ["MILLPOND_CONFIG"])
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config"
    return Path(home) / "millpond" / "config.toml"


def read_config(path: Path) -> Config:
    """Read the file; a missing one is an empty one.

    Raises:
        InvalidError: it is no TOML, or holds keys or types that are not ours; all are named.
    """
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Config()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InvalidError(
            f"The configuration {path} is no TOML: {fault}.",
            next_step="Mend the file, or remove it and sign in again: millpond login URL.",
        ) from fault
    faults = [Fault(key, "no such setting") for key in sorted(data.keys() - _KEYS)]
    faults += [
        Fault(key, "must be a text")
        for key in ("url", "token", "project")
        if not isinstance(data.get(key, ""), str)
    ]
    folders = data.get("data_folders", [])
    if not isinstance(folders, list) or not all(isinstance(one, str) for one in folders):
        faults.append(Fault("data_folders", "must be a list of texts"))
    if faults:
        raise InvalidError(
            f"The configuration {path} is not one of ours.",
            next_step="Mend these lines, or remove the file and sign in again.",
            faults=faults,
        )
    return Config(
        data.get("url", ""), data.get("token", ""), data.get("project", ""), tuple(folders)
    )


def write_config(path: Path, config: Config) -> None:
    """Write the file whole, readable by its owner alone."""
    lines = [
        f"{key} = {_quoted(value)}"
        for key, value in (
            ("url", config.url),
            ("token", config.token),
            ("project", config.project),
        )
        if value
    ]
    if config.data_folders:
        listed = ", ".join(_quoted(one) for one in config.data_folders)
        lines.append(f"data_folders = [{listed}]")
    head = "# Written by millpond; holds a token, so keep it to yourself."
    write_private(path, "\n".join([head, *lines, ""]))


def write_private(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _quoted(text: str) -> str:
    inside = text.replace("\\", "\\\\").replace('"', '\\"')
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in inside)
    return f'"{shown}"'
