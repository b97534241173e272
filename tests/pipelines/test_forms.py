"""Forms: fields of a specification, texts to requests and back, addresses and commands."""

import json
import math
import shlex
from datetime import date
from enum import Enum
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from millpond.client.commands.starting import read_values
from millpond.kit.kinds import Param
from millpond.kit.schema import check_value, schema_of
from millpond.pipelines.forms import (
    AS_JSON,
    list_fields,
    read_texts,
    write_texts,
)
from millpond.pipelines.links import read_link, write_command, write_link
from millpond.pipelines.rules import check_parameters, fill_parameters
from millpond.pipelines.values import InputSpec, PipelineSpec


def spec_of(properties, required=(), inputs=()):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return PipelineSpec(
        name="score",
        title="",
        description="",
        parameters=parameters,
        inputs=tuple(inputs),
        outputs=(),
        steps=(),
    )


class Colour(Enum):
    RED = "red"
    NONE = ""


HINTS = {
    "text": str,
    "short": Annotated[str, Param(max_length=5, pattern="^[a-z]*$", title="A short text")],
    "maybe_text": str | None,
    "share": Annotated[float, Param(ge=0, le=1, unit="of all", help="How much.")],
    "maybe_share": float | None,
    "count": Annotated[int, Param(gt=0, lt=100)],
    "maybe_count": int | None,
    "mode": Literal["fast", "slow"],
    "maybe_mode": Literal["fast", "slow"] | None,
    "level": Literal[1, 2, 3],
    "colour": Colour,
    "maybe_colour": Colour | None,
    "ratio": Annotated[float, Param(choices=[0.5, 1.0, 2])],
    "flag": bool,
    "maybe_flag": bool | None,
    "day": date,
    "names": list[str],
    "maybe_names": list[str] | None,
    "sizes": Annotated[list[int], Param(min_length=1)],
    "modes": list[Literal["fast", "slow"]],
    "flags": list[bool],
    "pairs": list[list[float]],
    "holes": list[int | None],
    "anything": list,
}
SCHEMAS = {name: schema_of(hint) for name, hint in HINTS.items()}
FULL = spec_of(
    SCHEMAS, SCHEMAS, [InputSpec("files", "files"), InputSpec("extra", "file", required=False)]
)


def texts_st(most=20):
    # No NUL and no half characters: the server's door refuses both.
    return st.text(
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=most
    )


def values_st(schema):  # noqa: C901 - one for each kind.
    types = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    found = []
    for kind in types:
        if "enum" in schema and kind != "null":
            found.append(st.sampled_from([one for one in schema["enum"] if one is not None]))
        elif kind == "null":
            found.append(st.none())
        elif kind == "boolean":
            found.append(st.booleans())
        elif kind == "integer":
            whole = st.integers(-(2**70), 2**70) | st.sampled_from([5.0, -0.0, 1e22])
            found.append(st.integers(1, 99) if "exclusiveMinimum" in schema else whole)
        elif kind == "number":
            bounds = {"min_value": schema.get("minimum"), "max_value": schema.get("maximum")}
            plain = st.floats(allow_nan=False, allow_infinity=False, **bounds)
            found.append(plain | st.integers(0, 1))
        elif kind == "string" and schema.get("format") == "date":
            found.append(st.dates().map(str) | st.sampled_from(["20260331", "2026-W13-2"]))
        elif kind == "string" and "pattern" in schema:
            found.append(st.from_regex(r"\A[a-z]{0,5}\Z"))
        elif kind == "string":
            found.append(
                texts_st() | st.sampled_from(["", '""', "null", "5", "true", "a\nb", "\r\n"])
            )
        elif kind == "array":
            inner = values_st(schema["items"]) if "items" in schema else json_st()
            found.append(st.lists(inner, min_size=schema.get("minItems", 0), max_size=4))
    return st.one_of(found)


def json_st():
    leaves = st.none() | st.booleans() | st.integers() | texts_st(5)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts_st(3), inner, max_size=2), max_leaves=4
    )  # fmt: skip


def as_sent(texts):
    """What a browser makes of texts on their way: it writes every end of a line as two."""
    return {
        name: tuple(
            one.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n") for one in rows
        )
        for name, rows in texts.items()
    }


def untouched(spec, texts):
    """What a browser sends of a form that shows these texts and that nobody has touched."""
    fields = list_fields(spec)
    shown = {one.name: one.texts(texts) or ("",) for one in fields}
    marked = tuple(one.name for one in fields if one.is_json(texts) and one.kind != "json")
    return as_sent({**shown, AS_JSON: marked})


@st.composite
def filled(draw):
    schemas = {
        name: draw(st.sampled_from([schema, {**schema, "default": draw(values_st(schema))}]))
        for name, schema in draw(st.permutations(list(SCHEMAS.items())))[:6]
    }
    required = [name for name, schema in schemas.items() if "default" not in schema]
    spec = spec_of(schemas, required, FULL.inputs)
    values = {name: draw(values_st(schema)) for name, schema in schemas.items()}
    return spec, {"files": "photos@3"}, values


@given(filled())
@settings(max_examples=150)
def test_any_valid_parameters_survive_the_form_and_its_address(case):
    spec, inputs, values = case
    assert not check_parameters(spec, values), "the strategy makes valid values"
    texts = write_texts(spec, inputs, values)
    again = read_texts(spec, as_sent(texts))
    assert again[0] == inputs
    assert json.dumps(again[1]) == json.dumps(values)  # 1, 1.0 and true are not the same.
    assert write_texts(spec, *again) == texts
    linked, faults = read_link(spec, parse_qsl(write_link(spec, texts), keep_blank_values=True))
    assert not faults
    found = read_texts(spec, untouched(spec, linked))
    assert found[0] == inputs
    assert json.dumps(fill_parameters(spec, found[1])) == json.dumps(fill_parameters(spec, values))


@given(filled())
@settings(max_examples=100)
def test_what_stands_in_the_fields_is_what_is_sent_when_nobody_touches_the_form(case):
    spec, _, _ = case
    _, found = read_texts(spec, untouched(spec, {}))
    defaults = fill_parameters(spec, {})
    assert json.dumps({name: found.get(name, value) for name, value in defaults.items()}) == (
        json.dumps(defaults)
    )
    # Without a default a field stands empty: a value only where "none" or an empty choice is one.
    blank = {name for name in found.keys() - defaults if found[name] is not None}
    assert blank <= {"colour", "maybe_colour"}


@given(st.dictionaries(st.sampled_from(sorted(SCHEMAS)), st.lists(texts_st(), max_size=3)))
def test_whatever_is_typed_stays_in_its_field_and_can_be_sent(typed):
    texts = {f"parameters.{name}": tuple(rows) for name, rows in typed.items()}
    _, values = read_texts(FULL, texts)
    json.dumps(values, allow_nan=False)
    check_parameters(FULL, values)
    for field in list_fields(FULL):
        assert field.texts(texts) == texts.get(field.name, field.default)
        assert field.input_type(texts) == "text" or "\n" not in field.text(texts)


class Versions:
    """Stands where the SDK's client does; the command line asks it for the form alone."""

    def __init__(self, spec):
        self.spec = spec
        self.pipelines = self

    def version(self, address):
        assert address == "score@2"
        return self


@given(filled())
@settings(max_examples=100)
def test_the_command_shown_beside_the_form_starts_the_same_run(case):
    spec, inputs, values = case
    assume(not any(isinstance(value, str) and "\x00" in value for value in values.values()))
    words = shlex.split(write_command("score@2", spec, write_texts(spec, inputs, values)))
    assert words[:5] == ["millpond", "run", "score@2", "--input", "files=photos@3"]
    pairs = [word for flag, word in zip(words[5::2], words[6::2], strict=True) if flag == "--param"]
    found = read_values(Versions(spec), "score@2", pairs, None)
    assert json.dumps(fill_parameters(spec, found)) == json.dumps(fill_parameters(spec, values))


@pytest.mark.parametrize(
    ("name", "typed", "sent"),
    [
        ("share", "0.5", 0.5),
        ("share", " .5 ", 0.5),
        ("share", "1", 1),
        ("share", "0,5", "0,5"),
        ("share", "abc", "abc"),
        ("share", "1e999", "1e999"),
        ("share", "NaN", "NaN"),
        ("count", "7", 7),
        ("count", "7.5", 7.5),
        ("count", "1_000", "1_000"),
        ("count", "9" * 5000, "9" * 5000),
        ("level", "2", 2),
        ("level", "9", 9),
        ("mode", "quick", "quick"),
        ("flag", "true", True),
        ("flag", "perhaps", "perhaps"),
        ("day", " 2026-03-31", "2026-03-31"),
        ("day", "tomorrow", "tomorrow"),
        ("anything", "[1, {", "[1, {"),
        ("anything", "[NaN]", "[NaN]"),
        ("pairs", "[[1, 2]]", [[1, 2]]),
        ("text", "a\r\nb", "a\nb"),
        ("maybe_text", "", None),
        ("maybe_count", "", None),
        ("maybe_mode", "", None),
        ("colour", "", ""),
    ],
)  # fmt: skip
def test_a_text_becomes_what_its_field_takes_or_stays_the_text(name, typed, sent):
    _, found = read_texts(FULL, {f"parameters.{name}": (typed,)})
    assert json.dumps(found) == json.dumps({name: sent})
    faults = [
        fault.message
        for fault in check_parameters(FULL, found)
        if fault.field == f"parameters.{name}"
    ]
    assert bool(faults) == bool(check_value(SCHEMAS[name], sent))


def test_empty_fields_are_left_out_where_empty_is_no_value():
    typed = {f"parameters.{name}": ("",) for name in ("share", "count", "mode", "text", "sizes")}
    assert read_texts(FULL, typed) == ({}, {})
    assert read_texts(FULL, {"inputs.files": (" photos ",), "inputs.extra": ("",)})[0] == {
        "files": "photos"
    }
    with_defaults = spec_of({"text": {"type": "string", "default": "abc"}, "sizes": {
        "type": "array", "items": {"type": "integer"}, "default": [1]}})  # fmt: skip
    cleared = {"parameters.text": ("",), "parameters.sizes": ("", " ")}
    assert read_texts(with_defaults, cleared)[1] == {"text": "", "sizes": []}


def test_rows_that_are_no_numbers_keep_their_place():
    _, found = read_texts(FULL, {"parameters.sizes": ("1", "", "two", "3")})
    assert found == {"sizes": [1, "two", 3]}
    told = {fault.message for fault in check_parameters(FULL, found)}
    assert "entry 2 must be a whole number, not 'two'" in told


def test_fields_say_what_they_take():
    fields = {one.short: one for one in list_fields(FULL)}
    assert list(fields)[:2] == ["files", "extra"]
    assert (fields["files"].kind, fields["files"].data) == ("dataset", "files")
    assert fields["files"].is_required
    assert not fields["extra"].is_required
    share = fields["share"]
    assert (share.kind, share.unit, share.help) == ("number", "of all", "How much.")
    assert share.bounds == "at least 0, at most 1"
    assert (share.minimum, share.maximum) == ("0", "1")
    assert fields["short"].label == "A short text"
    assert fields["maybe_share"].label == "Maybe share"
    assert fields["maybe_share"].is_nullable
    assert fields["mode"].choices == ("fast", "slow")
    assert fields["ratio"].choices == ("0.5", "1.0", "2")
    assert (fields["sizes"].kind, fields["sizes"].is_many) == ("integer", True)
    assert fields["modes"].choices == ("fast", "slow")
    assert {fields[name].kind for name in ("pairs", "holes", "anything")} == {"json"}
    assert {fields[name].kind for name in ("day", "flag", "text")} == {"date", "boolean", "text"}


def test_a_browsers_picker_is_used_only_where_it_drops_nothing():
    stamp = spec_of({"at": schema_of(HINTS["day"]) | {"format": "date-time"}})
    (at,) = list_fields(stamp)
    shapes = {
        "": "datetime-local",
        "2026-03-31T12:00": "datetime-local",
        "2026-03-31T12:00:05": "datetime-local",
        "2026-03-31T12:00:00": "text",
        "2026-03-31T12:00:00+00:00": "text",
        "soon": "text",
    }
    assert {text: at.input_type({at.name: (text,)}) for text in shapes} == shapes


def test_an_address_is_short_and_knows_what_it_does_not_know():
    spec = spec_of(
        {
            "min_score": {"type": "number", "default": 0.25},
            "version": {"type": "integer", "default": 1},
            "input.x": {"type": "string", "default": ""},
            "sizes": {"type": "array", "items": {"type": "integer"}, "default": []},
        },
        inputs=[InputSpec("files", "files")],
    )
    values = {"min_score": 0.5, "version": 2, "input.x": "y", "sizes": [1, 2]}
    texts = write_texts(spec, {"files": "photos@3"}, values)
    link = write_link(spec, texts)
    assert link == (
        "input.files=photos@3&min_score=0.5&parameters.version=2&parameters.input.x=y"
        "&sizes=1&sizes=2"
    )
    found, faults = read_link(spec, parse_qsl(link + "&version=3&min_scor=1"))
    assert found == texts
    assert [(one.field, one.message) for one in faults] == [
        ("min_scor", "is no field of this form; did you mean 'min_score'?")
    ]
    assert write_link(spec, write_texts(spec, {}, {"min_score": 0.25})) == ""
    whole = [("inputs.files", "x"), ("parameters.min_score", "1"), ("parameters.min_score", "2")]
    assert read_link(spec, whole) == (
        {"inputs.files": ("x",), "parameters.min_score": ("2",)}, [],
    )  # fmt: skip


def test_numbers_of_all_sizes_stay_themselves():
    spec = spec_of({"x": {"type": "number"}}, ["x"])
    for number in (math.pi, 1e-300, -0.0, 2**63, 1e308, 5.0, 5):
        _, found = read_texts(spec, write_texts(spec, {}, {"x": number}))
        assert repr(found["x"]) == repr(number)
