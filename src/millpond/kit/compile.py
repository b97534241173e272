"""Compile a folder: import ``pipeline.py``, call its pipeline with symbols, write the spec."""

import inspect
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

from .declare import DECLARED, PipelineFunction
from .graph import step_json
from .hints import hints_of, kind_of
from .schema import check_value, schema_of
from .trace import Fault, Symbol, Trace, TraceError

FORMAT = 1
SPEC_FILE, RESULT_FILE = "spec.json", ".millpond/result.json"
_TRACE_LINES = 12


def compile_folder(name: str = "") -> None:
    """Compile the pipeline of /code; the entry that the server calls in the sandbox.

    Leaves ``spec.json`` and a result ``{"ok": true, "name": ...}``, or a result with ``faults``,
    each with ``file``, ``line`` and ``message``, and ``reason``.
    """
    code = os.environ.get("MILLPOND_CODE", "/code")
    out = Path(os.environ.get("MILLPOND_OUTPUT", "/task/out"))
    spec, faults, reason = compile_code(code, name)
    result = {"ok": spec is not None, "name": spec["name"] if spec else "", "reason": reason}
    result["faults"] = [vars(each) for each in faults[:100]]
    if spec is not None:
        (out / SPEC_FILE).write_text(json.dumps(spec, allow_nan=False))
    (out / RESULT_FILE).parent.mkdir(exist_ok=True)
    (out / RESULT_FILE).write_text(json.dumps(result))


def compile_code(code: str, name: str = "") -> "tuple[Optional[dict[str, Any]], list[Fault], str]":
    """Compile ``pipeline.py`` of a folder: the spec, or None with all faults and the reason."""
    sys.path.insert(0, code)
    if not os.path.isfile(os.path.join(code, "pipeline.py")):
        fault = Fault("pipeline.py", 1, "the folder holds no file pipeline.py")
        return None, [fault], "There is no pipeline.py."
    DECLARED.pipelines, DECLARED.faults, DECLARED.trace = [], [], None
    sys.dont_write_bytecode = True
    sys.modules.pop("pipeline", None)
    try:
        __import__("pipeline")
        found, faults = _choose(code, name)
        spec = None
        if found is not None:
            spec, more = _trace(found, code)
            faults += more
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - users' code may raise anything.
        last = _fault_of(fault, code)
        return None, [*_declared(code), last], _in_words(last, fault, code)
    reason = f"The code has {len(faults)} fault{'s' * (len(faults) != 1)}." if faults else ""
    return (None if faults else spec), faults, reason


def _choose(code: str, name: str) -> "tuple[Optional[PipelineFunction], list[Fault]]":
    faults = _declared(code)
    found = DECLARED.pipelines
    if not found:
        missing = "no function is decorated with @pipeline"
        return None, [*faults, Fault("pipeline.py", 1, missing)]
    named = [each for each in found if each.name == name] if name else []
    if len(found) == 1 or len(named) == 1:
        return (named or found)[0], faults
    names = ", ".join(each.name for each in found)
    told = f"there are {len(found)} pipelines ({names}); keep one per folder, or push with the name"
    return None, [*faults, *_relative([Fault(*found[1].place, told)], code)]


def _trace(found: PipelineFunction, code: str) -> "tuple[dict[str, Any], list[Fault]]":
    trace = Trace()
    form, symbols = _form(found, trace)
    DECLARED.trace = trace
    try:
        returned = found.function(**symbols)
    except TraceError as fault:
        trace.faults.append(Fault(*_place_of(fault, code), str(fault).partition(": ")[2]))
        return {}, _relative(trace.faults, code)
    finally:
        DECLARED.trace = None
    steps = [step_json(call, trace) for call in trace.calls]
    outputs = _outputs(found, returned, trace)
    _check_form(found, symbols, steps, trace)
    title, text = _documentation(found.function)
    spec = {
        "format": FORMAT,
        "name": found.name,
        "title": title,
        "description": text,
        **form,
        "outputs": outputs,
        "steps": steps,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
    }
    return spec, _relative(trace.faults, code)


def _form(found: PipelineFunction, trace: Trace) -> "tuple[dict[str, Any], dict[str, Symbol]]":
    hints, wrong = hints_of(found.function)
    helps = argument_helps(found.function.__doc__ or "")
    inputs: "list[dict[str, Any]]" = []
    properties: "dict[str, Any]" = {}
    required: "list[str]" = []
    symbols: "dict[str, Symbol]" = {}
    if wrong:
        trace.faults.append(Fault(*found.place, f"pipeline {found.name!r}: {wrong}"))
        return {"inputs": inputs, "parameters": {}}, symbols
    for name, argument in inspect.signature(found.function).parameters.items():
        has_default = argument.default is not argument.empty
        kind = kind_of(hints.get(name))
        if kind is not None:
            made = {"name": name, "kind": kind, "description": helps.get(name, "")}
            inputs.append({**made, "required": not has_default})
            symbols[name] = Symbol({"input": name}, kind)
            continue
        schema = _parameter(found, name, hints, helps, trace)
        if has_default:
            default = getattr(argument.default, "value", argument.default)
            schema["default"] = default.isoformat() if hasattr(default, "isoformat") else default
        else:
            required.append(name)
        properties[name] = schema
        symbols[name] = Symbol({"parameter": name}, "", schema)
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"inputs": inputs, "parameters": {**parameters, "required": required}}, symbols


def _parameter(
    found: PipelineFunction,
    name: str,
    hints: "dict[str, Any]",
    helps: "dict[str, str]",
    trace: Trace,
) -> "dict[str, Any]":
    if name not in hints:
        trace.faults.append(_fault(found, name, "it has no type hint"))
        return {}
    try:
        schema = schema_of(hints[name])
    except ValueError as fault:
        trace.faults.append(_fault(found, name, str(fault)))
        return {}
    if helps.get(name):
        schema.setdefault("description", helps[name])
    return schema


def _fault(found: PipelineFunction, name: str, message: str) -> Fault:
    return Fault(*found.place, f"pipeline {found.name!r}, argument {name!r}: {message}")


def _outputs(found: PipelineFunction, returned: Any, trace: Trace) -> "list[dict[str, Any]]":
    if isinstance(returned, Symbol):
        returned = {returned.source.get("step", "result"): returned}
    elif hasattr(returned, "_asdict"):
        returned = returned._asdict()
    if not isinstance(returned, dict) or not returned:
        told = "it must return what a step gave, or a dict of names to what steps gave"
        trace.faults.append(Fault(*found.place, f"pipeline {found.name!r}: {told}"))
        return []
    outputs = []
    for name, symbol in returned.items():
        if not isinstance(symbol, Symbol) or "step" not in symbol.source:
            told = f"pipeline {found.name!r}: the output {name!r} does not come from a step"
            trace.faults.append(Fault(*found.place, told))
            continue
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", str(name)):
            told = (
                f"the output {name!r} needs a name of letters, digits, dots, hyphens, underscores"
            )
            trace.faults.append(Fault(*found.place, f"pipeline {found.name!r}: {told}"))
        outputs.append(
            {"name": name, "kind": symbol.kind, "description": "", "source": symbol.source}
        )
    declared = kind_of(hints_of(found.function)[0].get("return"))
    if declared and len(outputs) == 1 and outputs[0]["kind"] != declared:
        told = f"its return hint says {declared}, but it returns {outputs[0]['kind']}"
        trace.faults.append(Fault(*found.place, f"pipeline {found.name!r}: {told}"))
    return outputs


def _check_form(
    found: PipelineFunction,
    symbols: "dict[str, Symbol]",
    steps: "list[dict[str, Any]]",
    trace: Trace,
) -> None:
    used = set()
    for step in steps:
        for argument in step["arguments"].values():
            for each in argument.get("all", [argument]):
                used |= {(key, each[key]) for key in ("input", "parameter") if key in each}
    for name, symbol in symbols.items():
        if "default" in symbol.schema:
            wrongs = check_value(symbol.schema, symbol.schema["default"])
            trace.faults += [_fault(found, name, f"its default {each}") for each in wrongs]
        key = "input" if symbol.kind else "parameter"
        if (key, name) not in used:
            trace.faults.append(_fault(found, name, "no step uses it"))


def _documentation(function: Any) -> "tuple[str, str]":
    text = inspect.getdoc(function) or ""
    title, _, rest = text.partition("\n")
    body = re.split(r"(?m)^(?:Args|Arguments|Parameters):\s*$", rest)[0]
    return title.strip(), body.strip()


def argument_helps(docstring: str) -> "dict[str, str]":
    """Read the ``Args:`` section of a docstring: one text per argument."""
    section = re.split(
        r"(?m)^(?:Args|Arguments|Parameters):\s*$", inspect.cleandoc(docstring), maxsplit=1
    )
    helps: "dict[str, str]" = {}
    name = ""
    for line in section[1].splitlines() if len(section) > 1 else []:
        if line and not line.startswith(" "):
            break
        found = re.match(r" {1,4}(\w+)(?: \([^)]*\))?: *(.*)", line)
        if found:
            name = found.group(1)
            helps[name] = found.group(2).strip()
        elif name and line.strip():
            helps[name] = f"{helps[name]} {line.strip()}".strip()
    return helps


def _declared(code: str) -> "list[Fault]":
    return _relative([Fault(*each) for each in DECLARED.faults], code)


def _relative(faults: "list[Fault]", code: str) -> "list[Fault]":
    return [Fault(_shorten(each.file, code), each.line, each.message) for each in faults]


def _shorten(file: str, code: str) -> str:
    inside = file.startswith(code.rstrip("/") + "/")
    return os.path.relpath(file, code) if inside else file


def _place_of(fault: BaseException, code: str) -> "tuple[str, int]":
    if isinstance(fault, SyntaxError) and fault.filename:
        return _shorten(fault.filename, code), fault.lineno or 1
    frames = traceback.extract_tb(fault.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(code.rstrip("/") + "/")]
    if not inside:
        return "pipeline.py", 1
    return _shorten(inside[-1].filename, code), inside[-1].lineno or 1


def _fault_of(fault: BaseException, code: str) -> Fault:
    name = type(fault).__name__
    text = str(fault.msg if isinstance(fault, SyntaxError) else fault)
    if isinstance(fault, ModuleNotFoundError):
        text += "; name its package in requirements.txt"
    elif isinstance(fault, OSError) and "resolution" in text.lower() + name.lower():
        text += "; there is no network while a pipeline is compiled"
    return Fault(*_place_of(fault, code), f"{name}: {text}")


def _in_words(told: Fault, fault: BaseException, code: str) -> str:
    """Say where it went wrong and what; then the way there, through the user's files alone."""
    frames = traceback.extract_tb(fault.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(code.rstrip("/") + "/")]
    way = [
        f"  {_shorten(frame.filename, code)}, line {frame.lineno}: {frame.line or ''}".rstrip(" :")
        for frame in inside[-_TRACE_LINES:]
    ]
    reason = f"{told.file}, line {told.line}: {told.message}"
    return "\n".join([reason, *way]) if len(way) > 1 else reason
