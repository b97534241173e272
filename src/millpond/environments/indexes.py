"""Read which package indexes the server's uv is set up with, as uv itself would read it."""

import netrc
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_DEFAULT_HOST = "pypi.org"  # What uv asks when nothing else is set up.
_STRATEGIES = ("first-index", "unsafe-first-match", "unsafe-best-match")


@dataclass(frozen=True)
class Index:
    """One package index.

    Attributes:
        url: of its folder of pages, without name and password, without a slash at the end.
        account: name and password for its host.
    """

    url: str
    account: tuple[str, str] | None = field(default=None, repr=False)


def find_indexes(variables: Mapping[str, str]) -> tuple[Index, ...]:
    """Give the indexes that uv would ask, in its order: the default one last.

    Folders and flat lists of links don't count, nor indexes that uv uses for named packages only.
    """
    if _is_on(variables, "UV_NO_INDEX"):
        return ()
    extra, default = _read_variables(variables)
    for settings in _read_files(variables):
        for each in settings.get("index", []):
            if each.get("explicit"):
                continue
            pair = (str(each.get("name", "")), str(each.get("url", "")))
            if each.get("default"):
                default = default or pair
            else:
                extra.append(pair)
        extra += [("", str(url)) for url in settings.get("extra-index-url", [])]
        if settings.get("index-url"):
            default = default or ("", str(settings["index-url"]))
    found = (
        _make(name, url, variables)
        for name, url in (*extra, default or ("", f"https://{_DEFAULT_HOST}/simple"))
        if url.startswith(("http://", "https://"))
    )
    return tuple(dict.fromkeys(found))


def find_strategy(variables: Mapping[str, str]) -> str:
    """Give uv's way of choosing among indexes; empty for its own."""
    chosen = variables.get("UV_INDEX_STRATEGY", "")
    return chosen if chosen in _STRATEGIES else ""


def _is_on(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "").lower() in ("1", "true", "yes", "on", "y", "t")


def _read_variables(
    variables: Mapping[str, str],
) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
    extra = [_split(each) for each in variables.get("UV_INDEX", "").split()]
    extra += [("", each) for each in variables.get("UV_EXTRA_INDEX_URL", "").split()]
    default = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL")
    return extra, _split(default) if default else None


def _split(text: str) -> tuple[str, str]:
    """Take ``NAME=URL`` apart; a name is optional."""
    name, equals, url = text.partition("=")
    return (name, url) if equals and re.fullmatch(r"[\w.-]+", name) else ("", text)


def _read_files(variables: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Give what uv's files say; those of the account come before those of the machine."""
    if _is_on(variables, "UV_NO_CONFIG"):
        return
    chosen = variables.get("UV_CONFIG_FILE")
    home = Path(variables.get("HOME") or "~").expanduser()
    own = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    system = (variables.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    places = [own, next((Path(each) for each in system if _has(Path(each))), Path("/etc"))]
    for path in [Path(chosen)] if chosen else [each / "uv" / "uv.toml" for each in places]:
        with suppress(OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            settings = tomllib.loads(path.read_text())
            yield settings
            yield settings.get("pip", {})


def _has(folder: Path) -> bool:
    return (folder / "uv" / "uv.toml").is_file()


def _make(name: str, url: str, variables: Mapping[str, str]) -> Index:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    upper = re.sub(r"[^A-Z0-9]", "_", name.upper())
    user = variables.get(f"UV_INDEX_{upper}_USERNAME") if name else None
    password = variables.get(f"UV_INDEX_{upper}_PASSWORD") if name else None
    if user or password:
        return Index(bare, (user or "", password or ""))
    if parts.username is not None or parts.password is not None:
        return Index(bare, (unquote(parts.username or ""), unquote(parts.password or "")))
    return Index(bare, _ask_netrc(parts.hostname or "", variables))


def _ask_netrc(host: str, variables: Mapping[str, str]) -> tuple[str, str] | None:
    path = variables.get("NETRC") or os.path.join(variables.get("HOME") or "~", ".netrc")  # noqa: PTH118 - of text.
    with suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        found = netrc.netrc(str(Path(path).expanduser())).authenticators(host)
        if found:
            return found[0], found[2] or ""
    return None


def page_url(index: Index, name: str) -> str:
    """Give the address of a package's page; the name is in its normal form."""
    return f"{index.url}/{quote(name, safe='')}/"
