"""Which Millpond this is: its number, and a digest of its very code, which may change alone."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]
LOCK = "deploy/run.txt"
"""What it is installed with, by its name in a wheel."""

_LENGTH = 8


@cache
def code_version() -> str:
    """Give the number and the code of this program as it was started: ``0.1.0+3f2a91cc``.

    A checkout gives its number alone: its code changes under the programs that run from it. The
    digest is of modules and lock alone, and the same whoever installed them, and when.

    Source: PEP 440, local version identifiers. Cost: reads every module once, about 3 MB.
    """
    number = version_of("millpond")
    return number if is_checkout() else in_words(number, digest_of(code_below(PACKAGE)))


def is_checkout() -> bool:
    """Tell whether this Millpond runs from a checkout."""
    return (CHECKOUT / "pyproject.toml").is_file() and (CHECKOUT / "locks").is_dir()


def is_same(one: str, other: str) -> bool:
    """Tell whether two programs work together: of one number, and of one code where both tell."""
    if "+" in one and "+" in other:
        return one == other
    return number_of(one) == number_of(other)


def in_words(number: str, digest: str) -> str:
    """Write a number and a digest of code as one version."""
    return f"{number}{'.' if '+' in number else '+'}{digest[:_LENGTH]}"


def number_of(version: str) -> str:
    """Give the number alone, by which it can be installed from an index."""
    return version.partition("+")[0]


def code_below(package: Path) -> Iterator[tuple[str, bytes]]:
    """Read the modules of a package, and the lock, by their names in a wheel."""
    for path in package.rglob("*.py"):
        yield path.relative_to(package).as_posix(), path.read_bytes()
    # A checkout has the lock where developers look for it; a wheel has it inside.
    for lock in (package / LOCK, package.parents[1] / "locks" / "run.txt"):
        if lock.is_file():
            yield LOCK, lock.read_bytes()
            return


def digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """Give the digest of code, in hexadecimal, of files by name below the package.

    The examples count for nothing: a checkout has them elsewhere.
    """
    found = {name: data for name, data in files if name.endswith(".py") or name == LOCK}
    digest = hashlib.sha256()
    for name in sorted(found):
        if not name.startswith("examples/"):
            digest.update(f"{name} {hashlib.sha256(found[name]).hexdigest()}\n".encode())
    return digest.hexdigest()
