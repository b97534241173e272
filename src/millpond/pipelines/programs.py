"""Any program on any data: an undecorated script becomes a pipeline of one command step.

The program finds each input in a folder named by ``MILLPOND_INPUT_<NAME>``, all parameters as JSON
in the file ``MILLPOND_PARAMETERS``, and leaves its results in its working folder, which
``MILLPOND_OUTPUT`` names too. Everything there comes back below ``files/output/``.
"""

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from millpond.ground.errors import Fault, InvalidError
from millpond.pipelines.values import InputSpec, Kind, OutputSpec, PipelineSpec, StepSpec

STEP, OUTPUT = "program", "output"
HEAD_BYTES = 256
"""How much of the program's beginning is read to find its ``#!`` line."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_INSTALL = {
    "Rscript": "Install R where tasks run (Debian: apt-get install r-base-core), or run a program"
    " in Python or shell",
}


def plan_program(
    main: str,
    head: bytes,
    *,
    files: Collection[str],
    inputs: Mapping[str, Kind],
    parameters: Mapping[str, Any],
    has_program: Callable[[str], bool],
    arguments: Sequence[str] = (),
    limits: Mapping[str, Any] | None = None,
) -> PipelineSpec:
    """Plan the one step that runs a program.

    ``head`` is how the program begins, ``files`` the paths of all files that came with it,
    ``arguments`` its own, in which ``{NAME}`` of an input stands for its folder and of a parameter
    for its value, ``limits`` what ``StepSpec`` takes: slots, memory_bytes, seconds and so on.

    Raises:
        InvalidError: it can't be run, or a name is wrong; lists every fault.
    """
    faults = [
        *_check_files(main, files),
        *_check_names("inputs", inputs),
        *_check_names("parameters", parameters),
        *(
            Fault(f"parameters.{name}", "an input has this name too; call one of them otherwise")
            for name in parameters
            if name in inputs
        ),
    ]
    command, wrong = choose_interpreter(main, head, has_program)
    faults += wrong
    if faults:
        raise InvalidError(
            f"The program {main[:200]!r} can't be run: {faults[0].message}.",
            next_step="Mend what is listed and start the run again.",
            faults=faults,
        )
    data = {name: {"input": name, "kind": kind} for name, kind in inputs.items()}
    step = StepSpec(
        name=STEP,
        kind="command",
        command=(*command, f"{{code}}/{main}", *arguments),
        arguments={**data, **{name: {"parameter": name} for name in parameters}},
        outputs=(("result", "files"),),
        **(limits or {}),
    )
    return PipelineSpec(
        name=_pipeline_name(main),
        title=PurePosixPath(main).name,
        description="",
        parameters=_schema(parameters),
        inputs=tuple(InputSpec(name, kind) for name, kind in inputs.items()),
        outputs=(OutputSpec(OUTPUT, "files", "", {"step": STEP, "output": "result"}),),
        steps=(step,),
    )


def choose_interpreter(
    main: str, head: bytes, has_program: Callable[[str], bool]
) -> tuple[tuple[str, ...], list[Fault]]:
    """Choose what runs a program, by its ending or its ``#!`` line; and tell what is wrong."""
    ending = PurePosixPath(main).suffix.lower()
    if ending == ".py":
        return ("python3",), []  # The environment's, or the machine's when there is none.
    if ending == ".r":
        chosen: tuple[str, ...] = ("Rscript",)
    elif ending == ".sh":
        chosen = ("bash",) if has_program("bash") else ("sh",)
    else:
        chosen = _of_first_line(head)
    if not chosen:
        return (), [
            Fault(
                "program",
                "it ends in none of .py, .R, .sh and its first line is no #! line that names an"
                " interpreter",
            )
        ]
    if not has_program(chosen[0]):
        mend = _INSTALL.get(chosen[0], f"Install {chosen[0]} where tasks run")
        return (), [Fault("program", f"it needs {chosen[0]}, which is not there. {mend}")]
    return chosen, []


def _of_first_line(head: bytes) -> tuple[str, ...]:
    line = head.split(b"\n", 1)[0]
    if not line.startswith(b"#!"):
        return ()
    try:
        words = shlex.split(line[2:].decode("utf-8", "replace"))
    except ValueError:
        return ()
    if words and PurePosixPath(words[0]).name == "env":
        words = [word for word in words[1:] if word != "-S"]
        if words and words[0].startswith("-"):
            return ()  # Other options of env change the environment, which is ours to make.
    return tuple(words)


def _check_files(main: str, files: Collection[str]) -> list[Fault]:
    if main in files:
        return []
    shown = ", ".join(sorted(files)[:10])
    return [Fault("program", f"{main[:200]!r} is not among the files sent ({shown})")]


def _check_names(field: str, names: Mapping[str, Any]) -> list[Fault]:
    told = "a name is a letter, then up to 63 letters, digits and underscores"
    faults = [Fault(f"{field}.{name[:80]}", told) for name in names if not _NAME.fullmatch(name)]
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.upper(), name)
        if other != name:
            faults.append(Fault(f"{field}.{name}", f"differs from {other!r} only in its case"))
    if "code" in names:
        faults.append(Fault(f"{field}.code", "'code' is the folder of the program; name it else"))
    return faults


def _schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {"type": _TYPES.get(type(value), "string"), "default": value}
            for name, value in parameters.items()
        },
        "additionalProperties": False,
        "required": [],
    }


def _pipeline_name(main: str) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(main).stem.lower()).strip("-")
    return stem[:60] or "program"
