"""A filled form as an address that can be shared, and as a line for the command line.

In an address a parameter stands under its own name and an input under ``input.NAME``:
``?min_score=0.5&input.files=photos@3``. A parameter whose name means something else there is
written ``parameters.NAME``, which is always understood.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlencode

from millpond.ground.errors import Fault
from millpond.pipelines.forms import (
    AS_JSON,
    INPUTS,
    PARAMETERS,
    Field,
    Texts,
    list_fields,
    read_texts,
)
from millpond.pipelines.values import PipelineSpec

RESERVED = frozenset({"version", "preset", "from_run", AS_JSON})
"""What an address of a form says besides its fields."""

_SHORT_INPUT = "input."


def read_link(
    spec: PipelineSpec, pairs: Iterable[tuple[str, str]]
) -> tuple[dict[str, tuple[str, ...]], list[Fault]]:
    """Give the texts that an address fills in, and what it names that the form lacks."""
    fields = {one.name: one for one in list_fields(spec)}
    by_link = {_link_name(one): one.name for one in fields.values()}
    texts: dict[str, tuple[str, ...]] = {}
    faults: list[Fault] = []
    for key, value in pairs:
        if key == AS_JSON:
            name = by_link.get(value, value)
            texts[AS_JSON] = (*texts.get(AS_JSON, ()), name)
        elif key not in RESERVED:
            name = by_link.get(key, key)
            if name in fields:
                before = texts.get(name, ()) if fields[name].is_many else ()
                texts[name] = (*before, value)
            else:
                near = get_close_matches(key, list(by_link), 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                told = f"is no field of this form{hint}"
                faults.append(Fault(key[:100], told))
    return texts, faults


def write_link(spec: PipelineSpec, texts: Texts) -> str:
    """Give the query of an address that fills the form like this: what differs from defaults."""
    pairs = []
    for field in list_fields(spec):
        given = field.texts(texts)
        is_json = field.is_json(texts) and field.kind != "json"
        is_untouched = (given, is_json) == (field.default, field.is_default_json)
        if is_untouched or not (field.default or any(given)):
            continue
        pairs += [(_link_name(field), text) for text in given]
        pairs += [(AS_JSON, _link_name(field))] if is_json else []
    return urlencode(pairs, safe="@/:,")


def write_command(address: str, spec: PipelineSpec, texts: Texts, project: str = "") -> str:
    """Give the command that starts the same run, for a shell."""
    inputs, parameters = read_texts(spec, texts)
    properties: Mapping[str, Mapping[str, Any]] = spec.parameters.get("properties", {})
    words = ["millpond", "run", *_start(address)]
    words += ["--project", project] if project else []
    for one in spec.inputs:
        if one.name in inputs or one.required:
            words += ["--input", f"{one.name}={inputs.get(one.name, 'DATASET')}"]
    required = spec.parameters.get("required", ())
    for name, schema in properties.items():
        if name not in parameters:
            words += ["--param", f"{name}=VALUE"] if name in required else []
            continue
        value = parameters[name]
        if "default" not in schema or json.dumps(schema["default"]) != json.dumps(value):
            words += ["--param", f"{name}={_as_argument(schema, value)}"]
    return shlex.join(words)


def _start(address: str) -> Iterator[str]:
    # A pipeline that is named like a command of `run` needs the long form.
    if "@" not in address:
        yield "start"
    yield address


def _as_argument(schema: Mapping[str, Any], value: Any) -> str:
    """Write a value so that the command line reads it back as the same."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    is_text = schema.get("type") == "string" or value in schema.get("enum", ())
    if is_text or value not in ("True", "False", "None"):
        if is_text:
            return value
        with suppress(ValueError):
            json.loads(value)  # It would be read as what it looks like.
            return json.dumps(value, ensure_ascii=False)
        return value
    return json.dumps(value)


def _link_name(field: Field) -> str:
    if field.name.startswith(INPUTS):
        return _SHORT_INPUT + field.short
    is_taken = field.short in RESERVED or field.short.startswith((_SHORT_INPUT, INPUTS, PARAMETERS))
    return field.name if is_taken else field.short
