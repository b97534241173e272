"""The form of a pipeline: its fields, what is typed into them, and the request that comes of it.

A form holds texts, a request holds JSON. ``read_texts`` turns the first into the second and
refuses nothing: what can't be read as the field's type goes on as the text it is, so that the one
check of requests names it in its own words and the field can show it again. ``write_texts`` turns
a request into texts that read back as exactly the same values; a value that its field can't hold
as plain text stands there as JSON, and its name is listed under ``AS_JSON``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from millpond.pipelines.values import InputSpec, Kind, PipelineSpec

FieldKind = Literal[
    "text", "number", "integer", "choice", "boolean", "date", "datetime", "json", "dataset"
]
Texts = Mapping[str, Sequence[str]]
"""What stands in a form: by the name of a field, its texts in order."""

INPUTS, PARAMETERS = "inputs.", "parameters."
AS_JSON = "as_json"
"""Names of the fields whose text is JSON although they would take plain text."""

_ABSENT = object()
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DIGITS_MOST = 4000  # Python reads no longer whole number than 4300 digits.
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_LONG_TEXT = 80
_KINDS: Mapping[str, FieldKind] = {
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "string": "text",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "pattern": "must match {}",
}


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Attributes:
        name: as the form posts it and as faults name it, such as ``parameters.min_score``.
        short: the parameter's or input's own name.
        kind: what it takes.
        is_many: whether it takes several values of that kind.
        is_required: whether it must be filled.
        is_nullable: whether empty stands for "none" rather than for the default.
        choices: the texts there are to choose from.
        bounds: what values must hold to, in words.
        minimum, maximum: bounds of a number as texts; empty where there are none.
        default: texts that stand there at first.
        data: for a dataset, what its pipeline makes of it.
    """

    name: str
    short: str
    label: str
    kind: FieldKind
    help: str = ""
    unit: str = ""
    is_many: bool = False
    is_required: bool = False
    is_nullable: bool = False
    choices: tuple[str, ...] = ()
    bounds: str = ""
    minimum: str = ""
    maximum: str = ""
    default: tuple[str, ...] = ()
    is_default_json: bool = False
    data: Kind | None = None

    def texts(self, given: Texts) -> tuple[str, ...]:
        """Give what stands in this field: what was typed, else the default."""
        return tuple(given.get(self.name, self.default))

    def text(self, given: Texts) -> str:
        """Give the one text that stands in this field."""
        return next(reversed(self.texts(given)), "")

    def is_json(self, given: Texts) -> bool:
        """Tell whether what stands here is JSON."""
        marked = self.name in given.get(AS_JSON, ())
        return self.kind == "json" or marked or (self.is_default_json and self.name not in given)

    def is_long(self, given: Texts) -> bool:
        """Tell whether what stands here needs several lines."""
        text = self.text(given)
        is_json = self.is_json(given)
        return is_json or (self.kind == "text" and (len(text) > _LONG_TEXT or "\n" in text))

    def input_type(self, given: Texts) -> str:
        """Choose the browser's field: its own pickers drop a text that is not to their liking."""
        text = self.text(given)
        if self.kind == "date" and re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?", text):
            return "date"
        shape = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:(?!00)[0-9]{2})?)?"
        if self.kind == "datetime" and re.fullmatch(shape, text):
            return "datetime-local"
        return "text"


# From a specification to fields -------------------------------------------------------------


def list_fields(spec: PipelineSpec) -> tuple[Field, ...]:
    """List the fields of a pipeline's form: its inputs, then its parameters."""
    required = spec.parameters.get("required", ())
    return (
        *(_input_field(one) for one in spec.inputs),
        *(
            _parameter_field(name, schema, is_required=name in required)
            for name, schema in _properties(spec).items()
        ),
    )


def _input_field(one: InputSpec) -> Field:
    return Field(
        name=INPUTS + one.name,
        short=one.name,
        label=_label(one.name),
        kind="dataset",
        help=one.description,
        is_required=one.required,
        data=one.kind,
    )


def _parameter_field(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Field:
    inner = schema.get("items", {}) if _is_many(schema) else schema
    has_default = "default" in schema
    default, is_json = _write(schema, schema["default"]) if has_default else ((), False)
    return Field(
        name=PARAMETERS + name,
        short=name,
        label=str(schema.get("title") or _label(name)),
        kind=_kind(schema),
        help=str(schema.get("description", "")),
        unit=str(schema.get("x-unit", "")),
        is_many=_is_many(schema),
        is_required=is_required and not _is_nullable(schema),
        is_nullable=_is_nullable(schema),
        choices=tuple(_plain(one) for one in inner.get("enum", ()) if one is not None),
        bounds=", ".join(
            words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema
        ),
        minimum=str(schema.get("minimum", schema.get("exclusiveMinimum", ""))),
        maximum=str(schema.get("maximum", schema.get("exclusiveMaximum", ""))),
        default=default,
        is_default_json=is_json,
    )


def _label(name: str) -> str:
    words = re.sub(r"[_.-]+", " ", name).strip() or name
    return words[0].upper() + words[1:]


def _properties(spec: PipelineSpec) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = spec.parameters.get("properties", {})
    return found


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _is_nullable(schema: Mapping[str, Any]) -> bool:
    return "null" in _types(schema)


def _scalar_kind(schema: Mapping[str, Any]) -> FieldKind:
    types = [one for one in _types(schema) if one != "null"]
    if len(types) != 1 or types[0] not in _KINDS:
        return "json"
    if "enum" in schema:
        return "choice"
    forms: Mapping[Any, FieldKind] = {"date": "date", "date-time": "datetime"}
    kind = _KINDS[types[0]]
    return forms.get(schema.get("format"), kind) if kind == "text" else kind


def _is_many(schema: Mapping[str, Any]) -> bool:
    is_list = [one for one in _types(schema) if one != "null"] == ["array"]
    items = schema.get("items", {})
    # Rows hold neither lists nor nothing.
    return is_list and _scalar_kind(items) != "json" and not _is_nullable(items)


def _kind(schema: Mapping[str, Any]) -> FieldKind:
    return _scalar_kind(schema["items"] if _is_many(schema) else schema)


# From texts to a request --------------------------------------------------------------------


def read_texts(spec: PipelineSpec, texts: Texts) -> tuple[dict[str, str], dict[str, Any]]:
    """Give the inputs and parameters of a request, as REST takes them.

    Fields that are not there are left out, as are empty ones unless empty is a value of theirs.
    """
    inputs = {}
    for one in spec.inputs:
        address = next(reversed(texts.get(INPUTS + one.name, ())), "").strip()
        if address:
            inputs[one.name] = address
    parameters = {}
    for name, schema in _properties(spec).items():
        given = texts.get(PARAMETERS + name)
        if given is not None:
            is_json = PARAMETERS + name in texts.get(AS_JSON, ())
            value = _read(schema, given, is_json=is_json)
            if value is not _ABSENT:
                parameters[name] = value
    return inputs, parameters


def _read(schema: Mapping[str, Any], texts: Sequence[str], *, is_json: bool) -> Any:
    kind = _kind(schema)
    if is_json or kind == "json":
        return _read_json(schema, next(reversed(texts), ""))
    if not _is_many(schema):
        text = next(reversed(texts), "")
        return _read_empty(schema, text) if _is_empty(kind, text) else _read_one(schema, text)
    rows = [text for text in texts if not _is_empty(kind, text)]
    if rows:
        return [_read_one(schema["items"], text) for text in rows]
    if _is_nullable(schema):
        return None
    return [] if "default" in schema else _ABSENT


def _is_empty(kind: FieldKind, text: str) -> bool:
    return not (text if kind in ("text", "choice") else text.strip())


def _read_json(schema: Mapping[str, Any], text: str) -> Any:
    if not text.strip():
        return None if _is_nullable(schema) else _ABSENT
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _read_empty(schema: Mapping[str, Any], text: str) -> Any:
    if text in schema.get("enum", ()):
        return text
    if _is_nullable(schema):
        return None
    is_text = _scalar_kind(schema) == "text"
    return text if is_text and "default" in schema else _ABSENT


def _read_one(schema: Mapping[str, Any], text: str) -> Any:
    """Read a text as a value; what is none of the field's type stays a text."""
    for choice in schema.get("enum", ()):
        if choice is not None and _plain(choice) == text:
            return choice
    types = _types(schema)
    if "string" in types:
        is_day = _scalar_kind(schema) in ("date", "datetime")
        # A browser sends every end of a line as two characters.
        return text.strip() if is_day else text.replace("\r\n", "\n").replace("\r", "\n")
    bare = text.strip()
    if "boolean" in types:
        return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}.get(
            bare.lower(), text
        )
    return _read_number(bare, text)


def _read_number(bare: str, text: str) -> int | float | str:
    found = _NUMBER.fullmatch(bare) if len(bare) <= _DIGITS_MOST else None
    if found is None:
        return text
    with suppress(ValueError):
        return int(bare)
    number = float(bare)
    return text if number in (float("inf"), float("-inf")) else number


# From a request to texts --------------------------------------------------------------------


def write_texts(
    spec: PipelineSpec, inputs: Mapping[str, str], parameters: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Give the texts of a filled form; fields of which nothing is said are left out.

    What the pipeline doesn't know is left out too: ``rules.check_parameters`` names it.
    """
    texts: dict[str, tuple[str, ...]] = {
        INPUTS + one.name: (inputs[one.name],) for one in spec.inputs if one.name in inputs
    }
    marked = []
    for name, schema in _properties(spec).items():
        if name in parameters:
            texts[PARAMETERS + name], is_json = _write(schema, parameters[name])
            marked += [PARAMETERS + name] if is_json else []
    return {**texts, AS_JSON: tuple(marked)} if marked else texts


def _write(schema: Mapping[str, Any], value: Any) -> tuple[tuple[str, ...], bool]:
    """Write a value as plain texts if they read back as the same; else as JSON."""
    is_json = _kind(schema) == "json"
    if not is_json:
        texts = tuple(_plain_rows(value)) if _is_many(schema) else (_plain(value),)
        if _is_same(_read(schema, texts, is_json=False), value):
            return texts, False
    return (json.dumps(value, ensure_ascii=False),), not is_json


def _plain_rows(value: Any) -> Iterator[str]:
    rows = value if isinstance(value, list) else [] if value is None else [value]
    for one in rows:
        # A row is one line: with another in it, it is not written as plain text.
        text = _plain(one)
        yield "" if "\n" in text else text
    if not rows:
        yield ""


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: a whole number is no fraction, nor true."""
    return one is not _ABSENT and json.dumps(one, sort_keys=True) == json.dumps(
        other, sort_keys=True
    )
