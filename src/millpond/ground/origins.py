"""Where each setting's value comes from, for the person who wants to change it."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.ground.settings import Settings, list_settings

SETTINGS_FILE = "settings.toml"


@dataclass(frozen=True)
class SettingSeen:
    """A setting as the server sees it.

    Attributes:
        key: ``room.name``, as in the settings file.
        value: what counts; a secret is masked.
        default: what it is unless told otherwise.
        origin: ``default``, ``variable``, ``file``, or ``start``: chosen when the server was
            started, on its command line or by a settings file named there.
        variable: the variable of the server's environment that sets it.
        help: one line.
    """

    key: str
    value: Any
    default: Any
    origin: str
    variable: str
    help: str


def settings_file(data: Path, environ: Mapping[str, str]) -> Path:
    """Give the settings file that the server reads unless its command line names another."""
    return Path(environ.get("MILLPOND_SETTINGS") or data / SETTINGS_FILE)


def settings_seen(
    settings: Settings, data: Path, environ: Mapping[str, str]
) -> Iterator[SettingSeen]:
    """Describe every setting, with what counts and where it comes from.

    Args:
        settings: those that the server started with.
        data: the server's data folder.
        environ: the variables that it started with.
    """
    shown, in_file = settings.shown(), _read(settings_file(data, environ))
    tables = dict(settings.tables())
    for info in list_settings(settings.oidc):
        room, _, name = info.key.rpartition(".")
        value = getattr(tables[room], name)
        origin = "default" if value == info.default else "start"
        if in_file.get(info.key) == value:
            origin = "file"
        if info.variable in environ:
            origin = "variable"
        yield SettingSeen(
            info.key, shown[room][name], info.default, origin, info.variable, info.help
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}  # The server started without it, or it was damaged since.
    providers = tree.pop("oidc", {})
    if isinstance(providers, dict):
        tree |= {f"oidc.{name}": inside for name, inside in providers.items()}
    return {
        f"{room}.{name}": value
        for room, inside in tree.items()
        if isinstance(inside, dict)
        for name, value in inside.items()
    }
