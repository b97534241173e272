"""Calls of steps, noted while tracing, as the steps of the specification."""

import json
from typing import Any, Optional

from .declare import AnyStep, CommandStep, StepFunction
from .hints import hints_of, kind_of, outputs_of
from .schema import check_value, schema_of
from .trace import Call, Fault, Symbol, Trace, returns

_TAKES = {
    "files": ("files", "file"),
    "file": ("file",),
    "table": ("table",),
    "model": ("model", "files", "file"),
}
_HANDED_ON = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "enum",
    "x-unit",
    "description",
    "title",
)


def step_json(call: Call, trace: Trace) -> "dict[str, Any]":
    """Give one call as a step of the specification; what is wrong goes to the trace."""
    step, options = call.step, call.step.options
    hints = _hints(call, trace)
    arguments = {
        name: _argument(call, name, hints.get(name, "missing"), value, trace)
        for name, value in call.arguments.items()
    }
    data = [name for name in arguments if "kind" in arguments[name]]
    needs = dict.fromkeys(
        each["step"]
        for name in data
        for each in arguments[name].get("all", [arguments[name]])
        if "step" in each
    )
    split = None
    if options.map:
        split = _split(call, data, arguments, trace)
    entry, kind = "", "map" if split else "whole"
    command: "tuple[str, ...]" = ()
    if isinstance(step, StepFunction):
        entry = f"{step.function.__module__}:{step.function.__qualname__}"
    elif isinstance(step, CommandStep):
        command, kind = step.command, "command"
    return {
        "name": call.name,
        "kind": kind,
        "entry": entry,
        "command": list(command),
        "needs": list(needs),
        "arguments": arguments,
        "outputs": [list(each) for each in returns(step)],
        "split": split,
        "slots": options.slots,
        "gpus": options.gpus,
        "memory_bytes": options.memory,
        "disk_bytes": options.disk,
        "seconds": options.seconds,
        "processes": options.processes,
        "retries": options.retries,
        "network": options.network,
        "secrets": list(options.secrets),
        "fork": options.fork,
        "preload": list(options.preload),
    }


def _hints(call: Call, trace: Trace) -> "dict[str, Any]":
    step: AnyStep = call.step
    if isinstance(step, CommandStep):
        return step.hints
    assert isinstance(step, StepFunction)  # noqa: S101 - there are two kinds.
    hints, wrong = hints_of(step.function)
    wrong = wrong or outputs_of(step.function)[1]
    if "<locals>" in step.function.__qualname__:
        wrong = "it must stand at the top of its module, not inside a function"
    if wrong:
        fault = Fault(*step.place, f"step {step.name!r}: {wrong}")
        if fault not in trace.faults:
            trace.faults.append(fault)
    return hints


def _split(
    call: Call, data: "list[str]", arguments: "dict[str, Any]", trace: Trace
) -> "Optional[dict[str, Any]]":
    over = [name for name in data if arguments[name]["kind"] in ("files", "table")]
    if not over:
        told = f"step {call.step.name!r}: map=True needs an input of Files or Table to split"
        trace.faults.append(Fault(*call.step.place, told))
        return None
    options = call.step.options
    return {
        "over": over[0],
        "files": options.files_per_task,
        "bytes": options.bytes_per_task,
        "rows": options.rows_per_task,
    }


class _WrongError(Exception):
    """An argument is not what its step takes."""


def _argument(call: Call, name: str, hint: Any, value: Any, trace: Trace) -> "dict[str, Any]":
    kind = kind_of(hint)
    try:
        return _parameter(schema_of(hint), value) if kind is None else _data(kind, value)
    except (_WrongError, ValueError) as fault:
        told = f"step {call.step.name!r}, argument {name!r}: {fault}"
        trace.faults.append(Fault(*call.line, told))
        return {"value": None}


def _data(kind: str, value: Any) -> "dict[str, Any]":
    if value is None:
        return {"value": None}
    several = list(value) if isinstance(value, (list, tuple)) else [value]
    parts = [each for each in several if isinstance(each, Symbol)]
    if not several or len(parts) < len(several):
        raise _WrongError(f"it takes {kind}: hand over an input or what a step gave")
    bad = [each.kind or "a parameter" for each in parts if each.kind not in _TAKES[kind]]
    if bad:
        raise _WrongError(f"it takes {kind}, not {bad[0]}")
    if isinstance(value, Symbol):
        return {**value.source, "kind": kind}
    return {"all": [each.source for each in parts], "kind": kind}


def _parameter(schema: "dict[str, Any]", value: Any) -> "dict[str, Any]":
    if not isinstance(value, Symbol):
        return _constant(schema, value)
    if value.kind:
        raise _WrongError(f"it takes a parameter, not {value.kind}")
    if not _fits(schema, value.schema):
        raise _WrongError("the parameter's type is another one")
    for key in _HANDED_ON:  # What the step refuses, the form refuses.
        if key in schema:
            value.schema.setdefault(key, schema[key])
    return {**value.source}


def _constant(schema: "dict[str, Any]", value: Any) -> "dict[str, Any]":
    value = getattr(value, "value", value)
    value = value.isoformat() if hasattr(value, "isoformat") else value
    value = list(value) if isinstance(value, tuple) else value
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise _WrongError("its value is no text, number, boolean or list of these") from None
    faults = check_value(schema, value) if value is not None else []
    if faults:
        raise _WrongError("; ".join(faults))
    return {"value": value}


def _fits(wanted: "dict[str, Any]", given: "dict[str, Any]") -> bool:
    def kinds(schema: "dict[str, Any]") -> "set[str]":
        kind = schema.get("type", [])
        return {kind} if isinstance(kind, str) else set(kind)

    takes = kinds(wanted) | ({"integer"} if "number" in kinds(wanted) else set())
    return kinds(given) - {"null"} <= takes or not given
