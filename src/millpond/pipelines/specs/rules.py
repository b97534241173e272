"""Decide what may be pushed as code, and what a failed compilation is called."""

import re
from collections.abc import Sequence

from millpond.engine.values import TaskReport
from millpond.ground.address import NAME_LENGTH_MOST
from millpond.ground.errors import Fault, InvalidError
from millpond.lake.values import FileEntry, is_digest

CODE_BYTES_MOST = 64 << 20
_PIPELINE = re.compile(
    r"^@(?:\w{1,80}\.)?pipeline\b"
    r"(?:\([^\n]{0,200}?(?:name[ ]?=[ ]?[\"'](?P<name>[^\"'\n]{1,200})[\"'])?[^\n]{0,200}\))?"
    r"[ \t]{0,20}\n(?:^@[^\n]*\n){0,20}^(?:async )?def (?P<function>\w+)",
    re.MULTILINE,
)
_PREFIX = "pipeline-"
_FAULTS_SHOWN = 20


def check_code(files: Sequence[FileEntry]) -> None:
    """Refuse files that can't be code of a pipeline or program; lists every fault.

    Raises:
        InvalidError: a path climbs, is no UTF-8, is a folder of another one, or all are too much.
    """
    faults = []
    paths = {entry.path for entry in files}
    for entry in files:
        parts = entry.path.split("/")
        if entry.path_bytes is not None or "\0" in entry.path:
            faults.append(Fault("files", f"{entry.path!a}: code must have UTF-8 names"))
        elif not all(parts) or {".", ".."} & set(parts) or len(entry.path.encode()) > 1000:  # noqa: PLR2004 - no sane path is longer.
            faults.append(Fault("files", f"{entry.path!a} is no path inside a folder"))
        if not is_digest(entry.digest):
            faults.append(Fault("files", f"{entry.path!a}: the digest is no sha256 in hexadecimal"))
        folders = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if folders & paths:
            faults.append(Fault("files", f"{entry.path!a} lies in a folder that is a file"))
    size = sum(entry.size for entry in files)
    if size > CODE_BYTES_MOST:
        most = CODE_BYTES_MOST >> 20
        faults.append(Fault("files", f"hold {size} bytes; code may have {most} MiB, data goes in"))
    if faults:
        raise InvalidError(
            "These files can't be code.",
            next_step="Push a folder with pipeline.py and what it imports; data goes to datasets.",
            faults=faults[:_FAULTS_SHOWN],
        )


def find_pipelines(text: str) -> list[str]:
    """Find names of the pipelines in a source text, without running it."""
    return [found["name"] or found["function"] for found in _PIPELINE.finditer(text)]


def choose_name(asked: str | None, files: Sequence[FileEntry], text: str) -> tuple[str, str]:
    """Give the pipeline's name and the function to compile.

    Raises:
        InvalidError: there is no pipeline.py, or several pipelines and no name.
    """
    if "pipeline.py" not in {entry.path for entry in files}:
        raise InvalidError(
            "The folder holds no pipeline.py.",
            next_step="Write pipeline.py with a function under @pipeline at the folder's top, or"
            " run a plain script with `millpond run --program`.",
            faults=[Fault("files", "pipeline.py is missing")],
        )
    found = find_pipelines(text)
    if asked:
        wanted = [name for name in found if asked in (name, name.lower().replace("_", "-"))]
        return asked, (wanted or [""])[0]
    if len(found) != 1:
        told = "names no pipeline that can be told" if not found else "holds several pipelines"
        raise InvalidError(
            f"pipeline.py {told}.",
            next_step="Push it with a name of your choice (--name NAME).",
            faults=[Fault("name", f"is needed; found: {', '.join(found) or 'none'}")],
        )
    return found[0].lower(), found[0]


def environment_name(pipeline: str) -> str:
    """Give the name of the environment that holds a pipeline's packages."""
    return f"{_PREFIX}{pipeline}"[:NAME_LENGTH_MOST]


def reason_of(report: TaskReport, seconds: float) -> str:
    """Say in words why a compilation ended without a word of its own."""
    if report.outcome == "timed_out":
        return (
            f"Reading pipeline.py took more than {seconds:g} seconds. Importing it must not load"
            " data, train or wait; do that in a step."
        )
    return f"Reading pipeline.py failed: {report.reason or report.outcome}"
