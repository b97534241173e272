"""Pure decisions: forms, cuts, retries, time left, what may be pushed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.ground.errors import InvalidError
from millpond.kit.schema import check_value
from millpond.lake.values import FileEntry
from millpond.pipelines.rules import check_inputs, check_parameters, fill_parameters
from millpond.pipelines.runs.rules import (
    cut_files,
    cut_rows,
    judge,
    lost_wait,
    must_split,
    retry_wait,
    seconds_left,
)
from millpond.pipelines.specs.rules import check_code, choose_name, find_pipelines
from millpond.pipelines.values import InputSpec, PipelineSpec, RunInput

SPEC = PipelineSpec(
    name="score",
    title="",
    description="",
    parameters={
        "properties": {
            "share": {"type": "number", "minimum": 0, "maximum": 1, "x-unit": "of all"},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "day": {"type": "string", "format": "date", "default": "2026-01-01"},
        },
        "required": ["share"],
    },
    inputs=(InputSpec("files", "files"), InputSpec("one", "file", required=False)),
    outputs=(),
    steps=(),
)


def pinned(name, kind="files", count=1):
    return RunInput(name, "docs", 1, "0" * 64, kind, count, 10, "key")


def told(faults):
    return {fault.field: fault.message for fault in faults}


def test_every_fault_of_parameters_is_named_with_bounds_units_and_the_nearest_name():
    found = told(check_parameters(SPEC, {"share": 2, "mod": "fast", "day": "tomorrow"}))
    assert found["parameters.share"] == "must be at most 1 of all, not 2"
    assert "'mode'" in found["parameters.mod"]
    assert "2026-03-31" in found["parameters.day"]
    assert "is missing" in told(check_parameters(SPEC, {}))["parameters.share"]
    assert not check_parameters(SPEC, {"share": 0.5, "mode": "slow"})
    assert fill_parameters(SPEC, {"share": 1}) == {"share": 1, "mode": "fast", "day": "2026-01-01"}


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5], float("nan"), float("inf")])
def test_number_is_a_number(value):
    assert "parameters.share" in told(check_parameters(SPEC, {"share": value}))


def test_every_fault_of_inputs_is_named():
    found = told(check_inputs(SPEC, {"file": pinned("file"), "one": pinned("one", count=3)}))
    assert "'files'" in found["inputs.file"]
    assert "is missing" in found["inputs.files"]
    assert "must be one file" in found["inputs.one"]
    assert (
        "is a table"
        in told(check_inputs(SPEC, {"files": pinned("files", "table")}))["inputs.files"]
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_value_is_judged_without_a_crash(value):
    for schema in SPEC.parameters["properties"].values():
        assert all(isinstance(fault, str) for fault in check_value(schema, value))


@given(
    st.lists(st.integers(0, 50), max_size=200),
    st.integers(1, 20),
    st.integers(1, 100),
    st.integers(1, 30),
)
def test_cuts_cover_all_in_order_and_keep_every_limit(sizes, files, size, most):
    cuts = cut_files(sizes, files, size, most)
    assert cuts[0] == 0
    assert cuts[-1] == len(sizes)
    assert cuts == sorted(set(cuts))
    assert len(cuts) - 1 <= most
    if len(cuts) - 1 < most // 2:  # Not widened: then each partition keeps both limits.
        for start, stop in pairwise(cuts):
            part = sizes[start:stop]
            assert len(part) == 1 or (len(part) <= files and sum(part) <= size) or most < len(sizes)


@given(st.lists(st.integers(0, 30), max_size=100), st.integers(1, 60))
def test_row_cuts_keep_parts_whole_and_full(rows, wanted):
    cuts = cut_rows(rows, wanted, 1_000_000)
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    assert [row for part in parts for row in part] == rows
    for part, after in pairwise(parts):
        assert sum(part) <= wanted or len(part) == 1
        assert sum(part) + after[0] > wanted


def test_table_is_cut_anew_when_rows_are_unknown_or_too_many():
    assert must_split([10, None], 100)
    assert must_split([101], 100)
    assert not must_split([100, 3], 100)


def test_failed_tasks_have_their_retries_and_lost_ones_their_own():
    assert judge("failed", failed=1, lost=0, retries=2) == "again"
    assert judge("failed", failed=2, lost=0, retries=2) == "give_up"
    assert judge("lost", failed=5, lost=3, retries=0) == "again"
    assert judge("lost", failed=0, lost=10, retries=0) == "give_up"
    assert judge("cancelled", failed=0, lost=0, retries=9) == "give_up"
    assert [retry_wait(1, n) for n in (1, 2, 3, 20)] == [1, 2, 4, 60]


def test_time_left_is_told_once_there_is_something_to_tell_it_by():
    assert seconds_left(50, 0, 100, 10) == 10
    assert seconds_left(60, 50, 100, 10) == 40, "what another driver did tells nothing of our pace"
    assert seconds_left(0, 0, 100, 10) is None
    assert seconds_left(5, 0, 100, 0.5) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@pipeline\ndef one(files): ...", ["one"]),
        ("@pipeline(name='two')\ndef other(): ...", ["two"]),
        ("@millpond.pipeline\n@other\ndef three(): ...", ["three"]),
        ("# @pipeline\ndef none(): ...", []),
    ],
)
def test_pipelines_are_found_in_the_text(text, names):
    assert find_pipelines(text) == names


def test_name_is_asked_for_when_it_cannot_be_told():
    files = [FileEntry("pipeline.py", "0" * 64, 1)]
    assert choose_name(None, files, "@pipeline\ndef Sizes(): ...") == ("sizes", "Sizes")
    assert choose_name("mine", files, "") == ("mine", "")
    with pytest.raises(InvalidError, match="several"):
        choose_name(None, files, "@pipeline\ndef a(): ...\n@pipeline\ndef b(): ...")
    with pytest.raises(InvalidError, match="holds no pipeline"):
        choose_name("mine", [], "")


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "a\0b", "pipeline.py/x"])
def test_code_stays_in_its_folder(path):
    with pytest.raises(InvalidError):
        check_code([FileEntry("pipeline.py", "0" * 64, 1), FileEntry(path, "0" * 64, 1)])


def test_what_is_lost_again_and_again_waits_longer_each_time():
    waits = [lost_wait(lost) for lost in range(1, 11)]
    assert waits[0] == 0, "the first time it goes elsewhere at once"
    assert waits == sorted(waits)
    assert 120 < sum(waits) < 600, "a cluster in trouble has minutes to mend"
