"""Type hints of parameters as JSON Schema, and values checked against it."""

import enum
import operator
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Literal, Union, get_args, get_origin

from .kinds import Param

SCALARS: "dict[Any, dict[str, Any]]" = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
}
_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "empty",
}
_NONE = type(None)


def schema_of(hint: Any) -> "dict[str, Any]":
    """Give the JSON Schema of a parameter's hint.

    Raises:
        ValueError: it is no hint that a form can show; says what can be.
    """
    metadata = getattr(hint, "__metadata__", None)
    if metadata is not None:
        schema = schema_of(hint.__origin__)
        for extra in metadata:
            if isinstance(extra, Param):
                schema.update(_bounds(extra, schema))
        return schema
    if hint in SCALARS:
        return dict(SCALARS[hint])
    origin = get_origin(hint)
    if origin is Literal:
        return _choices(list(get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choices([member.value for member in hint])
    if origin in (list, tuple) or hint in (list, tuple):
        inner = [each for each in get_args(hint) if each is not Ellipsis]
        return {"type": "array", **({"items": schema_of(inner[0])} if inner else {})}
    if origin is Union or type(hint).__name__ == "UnionType":
        inner = [each for each in get_args(hint) if each is not _NONE]
        if len(inner) == 1 and len(get_args(hint)) > 1:
            return _or_none(schema_of(inner[0]))
    raise ValueError(
        "it has no type hint"
        if hint == "missing"
        else f"the type hint {_name(hint)} is not one of int, float, str, bool, date, datetime,"
        " Literal, an Enum, list of these, Optional of these, Files, File, Table, Model"
    )


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _choices(values: "list[Any]") -> "dict[str, Any]":
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return {**SCALARS[kinds.pop()], "enum": values}
    if kinds <= {int, float}:
        return {"type": "number", "enum": values}
    raise ValueError(f"choices must all be texts, or all numbers; these are {values!r}")


def _or_none(schema: "dict[str, Any]") -> "dict[str, Any]":
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, **choices, "type": [schema["type"], "null"]}


def _bounds(param: Param, schema: "Mapping[str, Any]") -> "dict[str, Any]":
    is_list = "array" in schema["type"]
    found: "dict[str, Any]" = {
        "minimum": param.ge,
        "maximum": param.le,
        "exclusiveMinimum": param.gt,
        "exclusiveMaximum": param.lt,
        "x-unit": param.unit or None,
        "description": param.help or None,
        "title": param.title or None,
        "minItems" if is_list else "minLength": param.min_length,
        "maxItems" if is_list else "maxLength": param.max_length,
        "pattern": param.pattern,
    }
    given = {key: value for key, value in found.items() if value is not None}
    if param.choices is not None:
        if is_list:
            given["items"] = _choices(list(param.choices))
        else:
            given["enum"] = list(param.choices)
    numeric = {"integer", "number"} & set(_types(schema))
    wrong = [k for k in given if k.endswith("imum") and not numeric]
    if wrong:
        raise ValueError("ge, le, gt and lt are for numbers only")
    return given


def _types(schema: "Mapping[str, Any]") -> "list[str]":
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def check_value(schema: "Mapping[str, Any]", value: Any) -> "list[str]":
    """Say everything that is wrong with a value; an empty list when nothing is."""
    types = _types(schema)
    if types and not any(_is(kind, value) for kind in types):
        needed = " or ".join(_WORDS[kind] for kind in types)
        return [f"must be {needed}, not {_shown(value)}"]
    if value is None:
        return []
    if "enum" in schema and value not in schema["enum"]:
        choices = ", ".join(str(choice) for choice in schema["enum"] if choice is not None)
        return [f"must be one of {choices}, not {_shown(value)}"]
    faults = []
    if isinstance(value, (int, float)):
        faults += _check_number(schema, value)
    if isinstance(value, str):
        faults += _check_text(schema, value)
    if isinstance(value, list):
        faults += _check_size(schema, len(value), "Items", "entries")
        for place, each in enumerate(value, 1):
            inner = check_value(schema.get("items", {}), each)
            faults += [f"entry {place} {fault}" for fault in inner]
    return faults


def _is(kind: str, value: Any) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind == "number":
        return isinstance(value, (int, float)) and value - value == 0
    return isinstance(value, {"string": str, "array": list, "object": dict}[kind])


def _check_number(schema: "Mapping[str, Any]", value: float) -> "list[str]":
    unit = f" {schema['x-unit']}" if schema.get("x-unit") else ""
    rules = (
        ("minimum", "at least", operator.ge),
        ("maximum", "at most", operator.le),
        ("exclusiveMinimum", "more than", operator.gt),
        ("exclusiveMaximum", "less than", operator.lt),
    )
    return [
        f"must be {words} {schema[key]}{unit}, not {value}"
        for key, words, holds in rules
        if key in schema and not holds(value, schema[key])
    ]


def _check_text(schema: "Mapping[str, Any]", value: str) -> "list[str]":
    faults = _check_size(schema, len(value), "Length", "characters")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        faults.append(f"must match the pattern {schema['pattern']}, not {_shown(value)}")
    form = schema.get("format")
    if form in ("date", "date-time"):
        read: "Callable[[str], date]" = (
            date.fromisoformat if form == "date" else datetime.fromisoformat
        )
        try:
            read(value)
        except ValueError:
            example = "2026-03-31" if form == "date" else "2026-03-31T12:00:00+00:00"
            faults.append(f"must be a {form} such as {example}, not {_shown(value)}")
    return faults


def _check_size(schema: "Mapping[str, Any]", size: int, key: str, words: str) -> "list[str]":
    faults = []
    if size < schema.get(f"min{key}", 0):
        faults.append(f"must have at least {schema[f'min{key}']} {words}, not {size}")
    if size > schema.get(f"max{key}", size):
        faults.append(f"must have at most {schema[f'max{key}']} {words}, not {size}")
    return faults


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - one line of a message.
