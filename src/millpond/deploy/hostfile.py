"""Read the list of machines: one a line, with what is said of it."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millpond.ground.errors import Fault, InvalidError
from millpond.machines.values import RESERVED_NAMES

_KEYS = ("name", "data", "slots", "key")
_LABEL = "label."
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ADDRESS = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:]+\]?"
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
PORT_MOST = 65535
_SLOTS_MOST = 4096

FORM = "USER@ADDRESS[:PORT] [name=NAME] [data=/FOLDER] [slots=N] [key=FILE] [label.KEY=VALUE]"


@dataclass(frozen=True)
class HostLine:
    """One machine of the list.

    Attributes:
        number: of its line.
        address: name or address.
        user: who to sign in as.
        port: of its SSH server.
        name: of the node; empty: made of the address.
        data: folder of objects, on a disk of its own; empty for none.
        slots: tasks at a time; 0: one per core.
        key: private key to sign in with; None: the account's own keys.
        labels: words about it.
    """

    number: int
    address: str
    user: str = "root"
    port: int = 22
    name: str = ""
    data: str = ""
    slots: int = 0
    key: Path | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What people call it before it has a name."""
        return self.name or self.address


def read_hosts(path: Path) -> list[HostLine]:
    """Read a list; keys that it names lie beside it unless their path is whole.

    Raises:
        InvalidError: it cannot be read, names no machine, or lines are wrong; all are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no text"
        raise InvalidError(
            f"The list of machines {path.absolute()} cannot be read: {why}.",
            next_step=f"Give a text file with one machine a line: {FORM}",
        ) from fault
    lines, faults = parse_hosts(text, path.absolute().parent)
    if not lines and not faults:
        raise InvalidError(
            f"The list of machines {path.absolute()} names no machine.",
            next_step=f"Write a line for each: {FORM}",
            faults=[Fault("machines", "there are none")],
        )
    if faults:
        shown = "\n".join(f"  {fault.field}: {fault.message}" for fault in faults)
        raise InvalidError(
            f"The list of machines {path.absolute()} is not good:\n{shown}",
            next_step=f"Write each line so: {FORM}; # begins a comment.",
            faults=faults,
        )
    return lines


def parse_hosts(text: str, folder: Path) -> tuple[list[HostLine], list[Fault]]:
    """Take a list apart; give its machines and everything that is wrong with it.

    Args:
        text: the list.
        folder: where keys lie whose path is not whole.
    """
    lines: list[HostLine] = []
    faults: list[Fault] = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.partition("#")[0].split()
        if words:
            found = [*_faults_of_words(words), *_faults_of_values(words, folder)]
            if not found:
                line = _read_line(number, words, folder)
                found += _faults_of_twins(line, lines)
                lines.append(line)
            faults += [Fault(f"line {number}", fault) for fault in found]
    return lines, faults


def _faults_of_words(words: list[str]) -> Iterator[str]:
    """Name what cannot even be read of a line."""
    user, _, rest = words[0].rpartition("@")
    address, port = _split_port(rest)
    if "=" in words[0] or not _ADDRESS.fullmatch(address):
        yield f"{words[0]!r} is no machine: USER@ADDRESS"
    if user and not _USER.fullmatch(user):
        yield f"{user!r} is no name of a user"
    if not (port.isdigit() and 0 < int(port) <= PORT_MOST):
        yield f"{port!r} is no port: 1 to {PORT_MOST}"
    keys = [word.partition("=")[0] for word in words[1:]]
    for word, key in zip(words[1:], keys, strict=True):
        value = word.partition("=")[2]
        if key not in _KEYS and not (key.startswith(_LABEL) and key != _LABEL):
            near = difflib.get_close_matches(key, _KEYS, 1, 0.5)
            meant = f"; did you mean {near[0]}=?" if near else ""
            yield f"{word!r} says nothing that is known{meant}"
        elif not value:
            yield f"{word!r} has no value"
        elif key == "slots" and not (value.isdigit() and 1 <= int(value) <= _SLOTS_MOST):
            yield f"slots={value} is no number from 1 to {_SLOTS_MOST}"
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key}= stands there {keys.count(key)} times"


def _split_port(text: str) -> tuple[str, str]:
    """Take a port off an address; an IPv6 address with a port stands in brackets."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return address, port.removeprefix(":") or "22"
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, port
    return text, "22"


def _read_line(number: int, words: list[str], folder: Path) -> HostLine:
    user, _, rest = words[0].rpartition("@")
    address, port = _split_port(rest)
    said = _said(words)
    return HostLine(
        number,
        address,
        user or "root",
        int(port),
        said.get("name", ""),
        said.get("data", ""),
        int(said.get("slots", 0)),
        _key(said, folder),
        {k.removeprefix(_LABEL): v for k, v in said.items() if k.startswith(_LABEL)},
    )


def _said(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words[1:] if "=" in word)


def _key(said: Mapping[str, str], folder: Path) -> Path | None:
    return folder / Path(said["key"]).expanduser() if said.get("key") else None


def _faults_of_values(words: list[str], folder: Path) -> Iterator[str]:
    """Name what is wrong with the values of a line, whatever else is."""
    said = _said(words)
    name, data, key = said.get("name"), said.get("data"), _key(said, folder)
    if name and not _NAME.fullmatch(name):
        yield f"name={name} may have small letters, digits and - only, at most 40"
    if name in RESERVED_NAMES:
        yield f"name={name} is kept for Millpond itself"
    if data and not data.startswith("/"):
        yield f"data={data} must be a whole path there, such as /mnt/data"
    if key is not None and not key.is_file():
        yield f"key={key} is no file on this host"


def _faults_of_twins(line: HostLine, before: list[HostLine]) -> Iterator[str]:
    for other in before:
        if (line.address.lower(), line.port) == (other.address.lower(), other.port):
            yield f"{line.address} stands in line {other.number} already"
        elif line.name and line.name == other.name:
            yield f"name={line.name} stands in line {other.number} already"
