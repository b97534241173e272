"""Read what a run is started with: data by name, parameters by the pipeline's form."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.client.call import Call
from millpond.client.client import Client
from millpond.client.commands.lake import name_from
from millpond.client.progress import OnProgress
from millpond.ground.errors import Fault, InvalidError, MillpondError, NotFoundError

_LIMITS = {
    "slots": float,
    "gpus": int,
    "memory_bytes": int,
    "disk_bytes": int,
    "seconds": float,
}


def split_pairs(pairs: Sequence[str], what: str) -> dict[str, str]:
    """Split ``NAME=VALUE`` texts.

    Raises:
        InvalidError: some are no pairs, or a name comes twice; all are named.
    """
    found: dict[str, str] = {}
    faults: list[Fault] = []
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            faults.append(Fault(what, f"{pair!r} is not NAME=VALUE"))
        elif name in found:
            faults.append(Fault(f"{what}s.{name}", "was given twice"))
        else:
            found[name] = value
    if faults:
        raise InvalidError(
            f"Some of the {what}s can't be read.",
            next_step=f"Write each as --{what} NAME=VALUE.",
            faults=faults,
        )
    return found


def read_values(
    client: Client, pipeline: str | None, pairs: Sequence[str], file: Path | None
) -> dict[str, Any]:
    """Read parameters: texts become what the pipeline's form asks for.

    Raises:
        InvalidError: the file is no JSON object, or a pair can't be read.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            read = json.loads(file.read_text())
        except ValueError as fault:
            raise InvalidError(
                f"{file} is no JSON: {fault}.", next_step="Mend it, or use --param NAME=VALUE."
            ) from fault
        if not isinstance(read, dict):
            raise InvalidError(
                f"{file} holds no JSON object.", next_step='Write {"NAME": VALUE, ...}.'
            )
        values = read
    given = split_pairs(pairs, "param")
    schema: Mapping[str, Any] = {}
    if given and pipeline is not None:
        version = client.pipelines.version(pipeline)
        schema = version.spec.parameters.get("properties", {}) if version.spec else {}
    return values | {name: _value(text, schema.get(name, {})) for name, text in given.items()}


def read_limits(pairs: Sequence[str]) -> dict[str, Any]:
    """Read a program's limits.

    Raises:
        InvalidError: a name is unknown, or a value is no number; all are named.
    """
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in split_pairs(pairs, "limit").items():
        if name in _LIMITS:
            try:
                found[name] = _LIMITS[name](text)
            except ValueError:
                faults.append(Fault(f"limits.{name}", f"{text!r} is no number"))
        else:
            faults.append(Fault(f"limits.{name}", f"there is none; there are {', '.join(_LIMITS)}"))
    if faults:
        raise InvalidError(
            "Some of the limits can't be read.", next_step="Mend these.", faults=faults
        )
    return found


def resolve_inputs(
    call: Call, client: Client, pairs: Sequence[str], on_progress: OnProgress
) -> dict[str, str]:
    """Give dataset addresses by input; what is on this machine is pushed first.

    Raises:
        InvalidError: some are neither dataset nor path; all are named, and nothing is pushed.
    """
    given = split_pairs(pairs, "input")
    paths: dict[str, Path] = {}
    faults: list[Fault] = []
    for name, value in given.items():
        path = Path(value).expanduser()
        if "/" in value or value.startswith((".", "~")):
            if path.exists():
                paths[name] = path
            else:
                faults.append(Fault(f"inputs.{name}", f"there is no file or folder {value!r}"))
            continue
        fault = _no_dataset(client, value)
        if fault is not None and path.exists():
            paths[name] = path
        elif fault is not None:
            faults.append(Fault(f"inputs.{name}", f"{fault.message} Nor is it a path here."))
    if faults:
        raise InvalidError(
            "Some of the inputs are not there.",
            next_step="Give the address of a dataset (NAME or NAME@N), or a path: ./DIR.",
            faults=faults,
        )
    resolved = dict(given)
    for name, path in paths.items():
        pushed = client.datasets.push(path, name_from(path), on_progress=on_progress)
        for left, reason in pushed.left_out:
            call.tell(f"left out: {left}: {reason}")
        resolved[name] = pushed.version.address
        call.tell(f"{path} is {pushed.version.address}: {pushed.version.file_count:,} files.")
    return resolved


def _no_dataset(client: Client, address: str) -> MillpondError | None:
    try:
        client.datasets.version(address)
    except (NotFoundError, InvalidError) as fault:
        return fault
    return None


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    """Read a text as the form's type; what does not fit goes as it is, for the server to name."""
    choices = schema.get("enum", ())
    if schema.get("type") == "string" or text in choices:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
