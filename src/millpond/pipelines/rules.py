"""Decide whether parameters and inputs fit a pipeline; every fault is named, not just the first."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from millpond.ground.errors import Fault
from millpond.kit.schema import check_value
from millpond.pipelines.patterns import find_pattern_fault
from millpond.pipelines.values import InputSpec, PipelineSpec, RunInput


def fill_parameters(spec: PipelineSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values a run pins, in the form's order: what was given, else defaults."""
    properties: Mapping[str, Mapping[str, Any]] = spec.parameters.get("properties", {})
    filled = {}
    for name, schema in properties.items():
        if name in given:
            filled[name] = given[name]
        elif "default" in schema:
            filled[name] = schema["default"]
    return filled


def check_parameters(spec: PipelineSpec, given: Mapping[str, Any]) -> list[Fault]:
    """Say all that is wrong with parameters: unknown, missing, of another type, out of bounds."""
    properties: Mapping[str, Mapping[str, Any]] = spec.parameters.get("properties", {})
    faults = [
        Fault(f"parameters.{name}", _unknown("parameter", name, properties))
        for name in given
        if name not in properties
    ]
    required = spec.parameters.get("required", ())
    faults += [
        Fault(f"parameters.{name}", f"is missing: {_describe(properties[name])}")
        for name in required
        if name not in given
    ]
    for name, schema in properties.items():
        if name in given:
            wrongs = [
                *check_value(_without_patterns(schema), given[name]),
                *_pattern_faults(schema, given[name]),
            ]
            faults += [Fault(f"parameters.{name}", wrong) for wrong in wrongs]
    return faults


def _without_patterns(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key != "pattern"}
    if isinstance(kept.get("items"), dict):
        kept["items"] = _without_patterns(kept["items"])
    return kept


def _pattern_faults(schema: Mapping[str, Any], value: Any) -> Iterable[str]:
    if isinstance(value, str) and "pattern" in schema:
        fault = find_pattern_fault(str(schema["pattern"]), value)
        if fault:
            yield fault
    if isinstance(value, list):
        for place, each in enumerate(value, 1):
            for fault in _pattern_faults(schema.get("items", {}), each):
                yield f"entry {place} {fault}"


def check_inputs(spec: PipelineSpec, given: Mapping[str, RunInput]) -> list[Fault]:
    """Say all that is wrong with inputs: unknown, missing, of another kind."""
    wanted = {each.name: each for each in spec.inputs}
    faults = [
        Fault(f"inputs.{name}", _unknown("input", name, wanted))
        for name in given
        if name not in wanted
    ]
    for name, asked in wanted.items():
        if name not in given:
            if asked.required:
                told = f"is missing: name a dataset ({asked.kind})"
                faults.append(Fault(f"inputs.{name}", told))
            continue
        faults += [Fault(f"inputs.{name}", wrong) for wrong in _mismatch(asked, given[name])]
    return faults


def _mismatch(asked: InputSpec, given: RunInput) -> Iterable[str]:
    address = f"{given.dataset}@{given.number}"
    if asked.kind == "file" and given.file_count != 1:
        yield f"must be one file, but {address} holds {given.file_count}"
    if asked.kind in ("file", "files") and given.kind == "table":
        yield f"must be files, but {address} is a table"
    if asked.kind in ("table", "model") and given.file_count == 0:
        yield f"must be a {asked.kind}, but {address} is empty"


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"is no {what} of this pipeline; did you mean {near[0]!r}?"
    if not known:
        return f"is no {what} of this pipeline, which has none"
    return f"is no {what} of this pipeline; there are {', '.join(known)}"


def _describe(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "value")
    words = kind if isinstance(kind, str) else " or ".join(kind)
    text = str(schema.get("description", ""))
    return f"{words}, {text}" if text else words
