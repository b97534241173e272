"""Pure decisions about packages that are built from source, and about what the sandbox gave back.

Nothing that comes out of the sandbox is believed: a build back end may have written it. A lock is
read line by line and written anew; what is left in it are pins with hashes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from millpond.environments.rules import normal_name, refuse
from millpond.ground.errors import Fault, InvalidError

NAMES_MOST = 50
LOCK_BYTES_MOST = 8 << 20
_BLOCK_MOST = 64 << 10
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PIN = re.compile(
    rf"(?P<name>{_NAME})(?P<extras>\[[A-Za-z0-9._,\s-]+\])?==(?P<version>[A-Za-z0-9._+!]+)"
    r"(?:\s*;\s*(?P<marker>[A-Za-z0-9_.\"'<>=!~()*+ \t-]+?))?"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)\s*",
    re.ASCII,
)
_WHEEL_LINE = re.compile(r"# millpond-wheel (?P<key>[!-~]+) (?P<filename>[A-Za-z0-9._+!-]+\.whl)")
_FILENAME = re.compile(
    r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[A-Za-z0-9._+!]+)-[\w.-]+\.whl", re.ASCII
)


@dataclass(frozen=True)
class Wheel:
    """A wheel that was built from source.

    Attributes:
        filename: its name, which tells package, version and platform.
        key: where it lies in the object store.
        digest: sha256 of its bytes.
    """

    filename: str
    key: str
    digest: str = ""


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    extras: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def write(self) -> str:
        """Write it as a line of a requirements file."""
        marker = f" ; {self.marker}" if self.marker else ""
        parts = [f"{self.name}{self.extras}=={self.version}{marker}"]
        return " \\\n    ".join([*parts, *(f"--hash=sha256:{each}" for each in self.hashes)])


def check_source_names(names: Iterable[str]) -> tuple[str, ...]:
    """Give the names in their normal form, each once and in order.

    Raises:
        InvalidError: some are no names of packages, or there are too many.
    """
    found = sorted({normal_name(name) for name in names})
    faults = [
        Fault("build_from_source", f"{name[:120]!r} is not the name of a package")
        for name in found
        if not re.fullmatch(_NAME, name, re.ASCII) or len(name) > 200  # noqa: PLR2004 - longer than any.
    ]
    if len(found) > NAMES_MOST:
        faults.append(Fault("build_from_source", f"more than {NAMES_MOST} packages"))
    refuse(
        faults,
        "Some packages to build from source are not allowed.",
        "Name packages alone, such as `annoy`, without versions.",
    )
    return tuple(found)


def read_pins(text: str) -> list[Pin]:
    """Read a lock that came out of the sandbox.

    Raises:
        InvalidError: there is anything in it but pins with hashes.
    """
    blocks = text.replace("\\\n", " ").splitlines()
    pins = []
    for block in (" ".join(each.split()) for each in blocks):
        if not block:
            continue
        match = _PIN.fullmatch(block) if len(block) <= _BLOCK_MOST else None
        if match is None:
            raise bad_lock(f"{block[:100]!r} is no package with hashes")
        digests = tuple(re.findall(r"sha256:([0-9a-f]{64})", match["hashes"]))
        facts = (match["name"], match["extras"] or "", match["version"], match["marker"] or "")
        pins.append(Pin(*facts, digests))
    return pins


def bad_lock(reason: str) -> InvalidError:
    """Say why the lock that came out of the sandbox can't be used."""
    return InvalidError(
        f"What the build left as its lock can't be used: {reason}.",
        next_step="A package's build may have changed it; choose another version of the package.",
        faults=[Fault("build_from_source", reason)],
    )


def join_wheels(pins: list[Pin], names: tuple[str, ...], wheels: Mapping[str, Wheel]) -> str:
    """Pin the named packages to the wheels built of them; give the lock's body.

    Args:
        pins: all packages of the lock.
        names: those that were to be built, in their normal form.
        wheels: what was built, by file name.

    Raises:
        InvalidError: a named package is not among the pins, or there is no wheel of it.
    """
    used: list[Wheel] = []
    lines: list[str] = []
    for pin in pins:
        if normal_name(pin.name) in names:
            wheel = _find_wheel(pin, wheels)
            used.append(wheel)
            lines.append(replace(pin, hashes=(wheel.digest,)).write())
        else:
            lines.append(pin.write())
    missing = sorted(set(names) - {normal_name(pin.name) for pin in pins})
    if missing:
        raise InvalidError(
            f"These packages were to be built from source, but nothing needs them:"
            f" {', '.join(missing)}.",
            next_step="Add them to the requirements, or leave them out of build_from_source.",
            faults=[Fault("build_from_source", f"{name!r} is not needed") for name in missing],
        )
    named = (f"# millpond-wheel {wheel.key} {wheel.filename}" for wheel in used)
    return "\n".join([*named, *lines])


def _find_wheel(pin: Pin, wheels: Mapping[str, Wheel]) -> Wheel:
    for filename, wheel in wheels.items():
        match = _FILENAME.fullmatch(filename)
        if match is None or normal_name(match["name"]) != normal_name(pin.name):
            continue
        if match["version"].replace("_", "-").lower() == pin.version.replace("_", "-").lower():
            return wheel
    raise InvalidError(
        f"The build of {pin.name} {pin.version} left no wheel of this name and version.",
        next_step="Choose another version of the package.",
        faults=[Fault("build_from_source", f"{pin.name!r} gave no wheel")],
    )


def list_wheels(lock_text: str) -> tuple[Wheel, ...]:
    """Give the built wheels that a lock of ours names."""
    found = (_WHEEL_LINE.fullmatch(line) for line in lock_text.splitlines())
    return tuple(Wheel(match["filename"], match["key"]) for match in found if match)
