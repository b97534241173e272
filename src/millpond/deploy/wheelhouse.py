"""What nodes are installed from: our wheel, those it needs, uv, and a few Debian packages.

It is gathered on the host, from whatever indexes the host is set up with, and checked by digests:
of wheels those of our lock, of Debian packages those that apt has checked. Nodes then need no
Internet. ``python -m millpond.deploy.wheelhouse FOLDER [--for MACHINE-PYTHON ...]`` gathers it
beforehand, to be carried to a host that has no Internet either.
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from millpond.deploy import debs, fetching
from millpond.deploy.locks import hashes_of, name_of, read_lock, unconditional, without_build_tools
from millpond.deploy.packing import lock_text, make_wheel, version_in
from millpond.deploy.target import digest_of
from millpond.ground.errors import ConflictError, InvalidError, MillpondError
from millpond.ground.units import size_text
from millpond.ground.versions import code_version, is_checkout

MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13")
_FORM = 1


@dataclass(frozen=True)
class Kit:
    """All that one kind of machine is installed from.

    Attributes:
        version: of Millpond.
        name: of the folder it is installed in, such as ``0.1.0-3f2a91cc``.
        files: by name, where they lie; ``lock.txt`` and ``uv`` among them.
    """

    version: str
    name: str
    files: dict[str, Path]

    @property
    def total_bytes(self) -> int:
        """Give how large it is."""
        return sum(path.stat().st_size for path in self.files.values())


class Wheelhouse:
    """A folder of everything that nodes are installed from. Safe for many threads and processes."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """Use a folder; made when something is gathered.

        Args:
            folder: where it lies.
            say: takes a sentence about what is being fetched.
        """
        self.folder, self._say = folder, say
        self._made: Path | None = None

    # Gathering --------------------------------------------------------------------------------

    def gather_wheel(self) -> Path:
        """Make our own wheel, once for each process from a checkout, else once; give it."""
        if self._made is not None and self._made.is_file():
            return self._made
        with self._open() as facts:
            held: Path = self.folder / "wheels" / facts.get("wheel", {}).get("name", "-")
            is_ours = held.is_file() and version_in(held) == code_version()
            if is_ours and not is_checkout():
                self._made = held
                return held
            made: Path = make_wheel(self.folder / "wheels")
            facts["version"] = version_of("millpond")
            facts["wheel"] = {"name": made.name, "sha256": digest_of(made)}
            self._made = made
            for key in facts.get("targets", {}):
                self._write_lock(facts, key)
            return made

    def gather(self, machine: str, python: str) -> None:
        """Fetch the wheels for one kind of machine; what is there already stays.

        Args:
            machine: as ``uname -m`` says it.
            python: its Python's first two numbers, such as ``3.11``.

        Raises:
            InvalidError: there is nothing for such a machine.
            ConflictError: the index does not answer, or it lacks a wheel; says which.
        """
        if machine not in MACHINES or python not in PYTHONS:
            raise InvalidError(
                f"There is no Millpond for a machine of kind {machine} with Python {python}.",
                next_step=f"Use {' or '.join(MACHINES)} with Python {', '.join(PYTHONS)}.",
            )
        with self._open() as facts:
            lock = read_lock(lock_text())
            digest = hashlib.sha256(lock_text().encode()).hexdigest()
            targets = facts.setdefault("targets", {})
            held = targets.get(f"{machine}-{python}", {})
            if held.get("lock") == digest and not self._missing(held["files"]):
                return
            self._say(f"Fetching the packages for {machine} with Python {python} ...")
            names = without_build_tools(lock)
            fits = fetching.choose("\n".join(lock[name] for name in names), machine, python)
            chosen = "\n".join(unconditional(lock[name]) for name in fits) + "\n"
            files = fetching.fetch(chosen, machine, python, self.folder / "wheels")
            self._check_against(lock, files)
            self._take_uv(machine, files)
            targets[f"{machine}-{python}"] = {"lock": digest, "files": files, "text": chosen}
            if "wheel" in facts:
                self._write_lock(facts, f"{machine}-{python}")

    def gather_debs(self) -> str:
        """Fetch Python and bubblewrap as Debian packages, with all they need, where apt is here.

        Returns:
            For which release and machine, such as ``bookworm-amd64``; empty without apt.
        """
        kind = debs.kind_here()
        if not kind:
            return ""
        with self._open() as facts:
            held = facts.setdefault("debs", {}).get(kind, {})
            folder = self.folder / "debs" / kind
            if not held or any(not (folder / name).is_file() for name in held):
                self._say("Fetching Python and bubblewrap as Debian packages ...")
                facts["debs"][kind] = debs.fetch(folder)
        return kind

    # Using ------------------------------------------------------------------------------------

    def kit(self, machine: str, python: str) -> Kit:
        """Give what one kind of machine is installed from, every file checked by its digest.

        Raises:
            ConflictError: something is missing or damaged; says what, and how to get it.
        """
        facts = self._read()
        key = f"{machine}-{python}"
        held, own = facts.get("targets", {}).get(key), facts.get("wheel")
        if not held or not own or facts.get("version") != version_of("millpond"):
            raise self._lacks(f"nothing of Millpond {version_of('millpond')} for {key}", key)
        files: dict[str, str] = {**held["files"], own["name"]: own["sha256"]}
        if broken := self._missing(files):
            raise self._lacks(f"{', '.join(broken[:5])} (missing or damaged)", key)
        lock, digest = self._write_lock(facts, key)
        paths = {name: self.folder / "wheels" / name for name in files}
        paths |= {"lock.txt": lock, "uv": self.folder / "bin" / f"uv-{machine}"}
        return Kit(facts["version"], f"{facts['version']}-{digest[:8]}", paths)

    def _write_lock(self, facts: dict[str, Any], key: str) -> tuple[Path, str]:
        """Write the lock of a kind of machine, our own wheel included; give it and its digest."""
        own, version = facts["wheel"]["sha256"], facts["version"]
        text = facts["targets"][key]["text"]
        text += f"millpond=={version} \\\n    --hash=sha256:{own}\n"
        lock = self.folder / f"lock-{key}.txt"
        if not lock.exists() or lock.read_text() != text:
            making = self.folder / f".lock-{key}-{os.getpid()}"
            making.write_text(text)
            making.replace(lock)
        return lock, hashlib.sha256(text.encode()).hexdigest()

    def find_debs(self, kind: str) -> dict[str, Path]:
        """Give the Debian packages for a release and machine by name; none when there are none.

        Raises:
            ConflictError: one is missing or damaged.
        """
        held: dict[str, str] = self._read().get("debs", {}).get(kind, {})
        folder = self.folder / "debs" / kind
        for name, digest in held.items():
            if not (folder / name).is_file() or digest_of(folder / name) != digest:
                raise self._lacks(f"{name} (missing or damaged)", kind)
        return {name: folder / name for name in held}

    def _missing(self, files: dict[str, str]) -> list[str]:
        at = self.folder / "wheels"
        return [
            name
            for name, digest in files.items()
            if not (at / name).is_file() or digest_of(at / name) != digest
        ]

    def _lacks(self, what: str, key: str) -> ConflictError:
        return ConflictError(
            f"The wheelhouse {self.folder} lacks {what}.",
            next_step="On a machine with Internet, in a checkout of the same version:"
            f" ./dev wheelhouse --for {key}; then copy its folder here.",
        )

    def _check_against(self, lock: dict[str, str], files: dict[str, str]) -> None:
        for name, digest in files.items():
            if digest not in hashes_of(lock.get(name_of(name.split("-")[0]), "")):
                (self.folder / "wheels" / name).unlink(missing_ok=True)
                raise ConflictError(
                    f"{name} is not what the lock says.",
                    next_step="Try again; when it stays so, distrust the package index.",
                )

    def _take_uv(self, machine: str, files: dict[str, str]) -> None:
        """Take the program uv out of its wheel, since a bare node cannot."""
        wheel = next(name for name in files if name.startswith("uv-"))
        path = self.folder / "bin" / f"uv-{machine}"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(self.folder / "wheels" / wheel) as archive:
            inside = next(n for n in archive.namelist() if n.endswith(".data/scripts/uv"))
            making = path.with_suffix(".new")
            with archive.open(inside) as source, making.open("wb") as target:
                shutil.copyfileobj(source, target)
        making.chmod(0o755)
        making.replace(path)

    # The list of what is there ----------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return facts if facts.get("form", _FORM) == _FORM else {}

    @contextmanager
    def _open(self) -> Iterator[dict[str, Any]]:
        """Let one at a time change it; what failed is not written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            facts = self._read()
            before = json.dumps(facts, sort_keys=True)
            yield facts
            facts["form"] = _FORM
            if json.dumps(facts, sort_keys=True) != before:
                making = self.folder / "manifest.new"
                making.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
                making.replace(self.folder / "manifest.json")


def own_kind() -> tuple[str, str]:
    """Give this machine's kind and its Python's first two numbers."""
    return platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather a wheelhouse; give the exit code."""
    parser = argparse.ArgumentParser(prog="./dev wheelhouse")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--for", dest="kinds", action="append", default=[], metavar="x86_64-3.12")
    given = parser.parse_args(arguments)
    house = Wheelhouse(given.folder, lambda text: print(text, file=sys.stderr))  # noqa: T201 - a program.
    kinds = [tuple(kind.rsplit("-", 1)) for kind in given.kinds] or [own_kind()]
    try:
        house.gather_wheel()
        found = house.gather_debs()
        for machine, python in kinds:
            house.gather(machine, python)
            kit = house.kit(machine, python)
            print(f"{machine}-{python}: {len(kit.files)} files, {size_text(kit.total_bytes)}")  # noqa: T201 - the same.
        print(f"Debian packages: {found or 'none, since apt is not here'}")  # noqa: T201 - the same.
    except MillpondError as fault:
        print(f"{fault.message}\n{fault.next_step}", file=sys.stderr)  # noqa: T201 - the same.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
