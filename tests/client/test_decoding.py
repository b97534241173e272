"""JSON becomes the rooms' values again, and only when it fits."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.client.decoding import decode
from millpond.client.faults import ServerDefectError
from millpond.client.screen import to_json
from millpond.pipelines.values import PipelineSpec, SplitSpec, StepSpec


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    at: datetime
    day: date | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    state: Literal["a", "b"]
    colour: Colour
    many: tuple[Inner, ...] = ()
    pairs: tuple[tuple[str, int], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    number: float = 0.0
    flag: bool | None = None


NOW = "2026-05-01T12:00:00+00:00"
WHOLE = {
    "name": "x",
    "inner": {"at": NOW, "day": "2026-05-01"},
    "state": "a",
    "colour": "red",
    "many": [{"at": NOW}],
    "pairs": [["a", 1]],
    "facts": {"k": [1]},
    "number": 3,
    "flag": True,
    "unknown_to_this_client": 1,
}


def test_a_value_comes_back_whole() -> None:
    made = decode(Outer, WHOLE)
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert made == Outer(
        "x", Inner(at, date(2026, 5, 1)), "a", Colour.RED, (Inner(at),), (("a", 1),),
        {"k": [1]}, 3.0, flag=True,
    )  # fmt: skip
    assert isinstance(made.number, float)


@pytest.mark.parametrize(
    "change",
    [{"name": 3}, {"name": None}, {"inner": None}, {"inner": {}}, {"inner": {"at": "noon"}},
     {"colour": "blue"}, {"many": "text"}, {"many": {"at": NOW}}, {"pairs": [["a", "1"]]},
     {"pairs": [["a", 1, 2]]}, {"flag": "yes"}, {"number": True}],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ServerDefectError, match="not a Outer"):
        decode(Outer, {**WHOLE, **change})


names = st.text(st.characters(codec="utf-8"), max_size=20)
specs = st.builds(
    PipelineSpec,
    name=names,
    title=names,
    description=names,
    parameters=st.just({"type": "object"}),
    inputs=st.just(()),
    outputs=st.just(()),
    steps=st.tuples(
        st.builds(
            StepSpec,
            name=names,
            kind=st.sampled_from(["map", "whole"]),
            command=st.tuples(names),
            slots=st.floats(0.5, 8),
            split=st.none() | st.builds(SplitSpec, over=names),
            outputs=st.just((("result", "files"),)),
        )
    ),
)


@given(specs)
def test_what_was_written_is_read_the_same(spec: PipelineSpec) -> None:
    assert decode(PipelineSpec, to_json(spec)) == spec
