"""Pure decisions about requirements and locks."""

import re
from collections.abc import Iterable

from millpond.environments.values import Package
from millpond.ground.errors import Fault, InvalidError

REQUIREMENTS_BYTES_MOST = 64 * 1024
LINES_MOST = 1000
FAULTS_MOST = 20

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_SPECIFIER = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9._*+!-]+"
_SPECIFIERS = rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*\s*,?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*(?:{_NAME}(?:\s*,\s*{_NAME})*)?\s*\])?"
    rf"\s*(?:{_SPECIFIERS}|\(\s*{_SPECIFIERS}\s*\))?"
    r"\s*(?:;\s*(?P<marker>[A-Za-z0-9_.\"'<>=!~()*+ \t-]+))?",
    re.ASCII,
)
_COMMENT = re.compile(r"(^|[ \t]+)#.*$")
_OPTION = re.compile(r"(?P<option>-{1,2}[A-Za-z][A-Za-z-]*)")
_PINNED = re.compile(rf"^({_NAME})(?:\[[^\]]*\])?==([^\s;\\]+)", re.ASCII)
_HEADER = re.compile(r"# millpond-lock 1 python=(\d+\.\d+) source=([a-z0-9.,_-]*)")


def split_lines(text: str) -> list[tuple[int, str]]:
    """Give the lines that ask for something, without comments, with their numbers from 1."""
    lines = enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1)
    bare = ((number, _COMMENT.sub("", line).strip()) for number, line in lines)
    return [(number, line) for number, line in bare if line]


def clean_requirements(text: str) -> str:
    """Give the checked lines alone, one a line; this, not what was sent, is shown to the resolver."""
    return "".join(f"{line}\n" for _, line in split_lines(text))


def check_requirements(text: str) -> None:
    """Refuse requirements that are anything but names with versions.

    URLs, paths, files, version control, indexes and other options would let a requirement run
    code of unknown origin or read the server's files, so each such line is a fault.

    Raises:
        InvalidError: lists each line that is not allowed, at most 20 of them and then a count.
    """
    if len(text.encode("utf-8", "replace")) > REQUIREMENTS_BYTES_MOST:
        faults = [Fault("requirements", f"more than {REQUIREMENTS_BYTES_MOST} bytes")]
    elif len(lines := split_lines(text)) > LINES_MOST:
        faults = [Fault("requirements", f"more than {LINES_MOST} lines")]
    else:
        found = ((number, find_fault(line)) for number, line in lines)
        faults = [
            Fault("requirements", f"line {number}: {message}")
            for number, message in found
            if message
        ]
    refuse(
        faults,
        "Some lines of the requirements are not allowed.",
        "Write one package a line, such as `numpy>=2` or `pandas==3.1.1; python_version >= '3.11'`.",
    )


def find_fault(line: str) -> str:
    """Say what is wrong with one line that has no comment; empty when nothing is."""
    shown = repr(line[:120])
    if line.startswith("-"):
        match = _OPTION.match(line)
        option = match["option"] if match else line[:20]
        return f"the option {option} is not allowed; only packages may stand here"
    if "--hash" in line or line.endswith("\\"):
        return f"{shown}: hashes and continued lines are not needed; locking adds the hashes"
    if "://" in line or line.lower().startswith(("git+", "hg+", "svn+", "bzr+", "file:")):
        return f"{mask_secrets(shown)}: addresses are not allowed; name a package of the index"
    if "@" in line:
        return f"{shown}: `NAME @ ADDRESS` is not allowed; name a package of the index"
    if line.startswith((".", "/", "~", "\\")) or re.search(r"[/\\]", line):
        return f"{shown}: paths are not allowed; name a package of the index"
    match = _REQUIREMENT.fullmatch(line)
    if match is None:
        return f"{shown} is not a package with versions"
    if line.lower().endswith((".whl", ".tar.gz", ".zip", ".txt", ".toml")):
        return f"{shown}: files are not allowed; name a package of the index"
    return ""


def check_source_names(names: Iterable[str]) -> tuple[str, ...]:
    """Give the names of packages to build from source in their normal form, sorted.

    Raises:
        InvalidError: some are not names of packages.
    """
    given = list(names)
    wrong = [name for name in given if not re.fullmatch(_NAME, name, re.ASCII)]
    refuse(
        [
            Fault("build_from_source", f"{name[:120]!r} is not the name of a package")
            for name in wrong
        ],
        "Some packages to build from source are not names.",
        "Name packages alone, without versions.",
    )
    return tuple(sorted({normal_name(name) for name in given}))


def normal_name(name: str) -> str:
    """Give a package's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_lock(body: str, python_version: str, build_from_source: tuple[str, ...]) -> str:
    """Put our header above a resolver's output: what it was resolved for is part of its identity."""
    header = f"# millpond-lock 1 python={python_version} source={','.join(build_from_source)}"
    return f"{header}\n{body.strip()}\n"


def read_header(lock_text: str) -> tuple[str, tuple[str, ...]]:
    """Give the Python version of a lock and the packages it lets be built from source.

    Raises:
        InvalidError: this is not a lock that Millpond made.
    """
    match = _HEADER.fullmatch(lock_text.partition("\n")[0])
    if match is None:
        raise InvalidError(
            "This is not a lock that Millpond made.",
            next_step="Make the environment from its requirements.",
            faults=[Fault("lock", "the first line is not a millpond-lock header")],
        )
    return match[1], tuple(name for name in match[2].split(",") if name)


def list_packages(lock_text: str) -> tuple[Package, ...]:
    """Read the pinned packages of a lock, by name; each once although markers may split it."""
    found = (_PINNED.match(line) for line in lock_text.splitlines())
    pairs = {(normal_name(match[1]), match[2]) for match in found if match}
    return tuple(Package(name, version) for name, version in sorted(pairs))


def mask_secrets(text: str) -> str:
    """Hide user names and passwords of addresses in a line of a log."""
    return re.sub(r"(?<=://)[^/\s@]*@", "***@", text)


def refuse(faults: list[Fault], message: str, next_step: str) -> None:
    """Raise when there are faults: the first twenty and a count of the rest.

    Raises:
        InvalidError: there is at least one fault.
    """
    if not faults:
        return
    shown = faults[:FAULTS_MOST]
    if len(faults) > FAULTS_MOST:
        more = len(faults) - FAULTS_MOST
        shown.append(Fault(faults[0].field, f"and {more} more"))
    raise InvalidError(message, next_step=next_step, faults=shown)
