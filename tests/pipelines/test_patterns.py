"""Patterns that students write are matched in linear time, or not at all."""

import time

import pytest

from millpond.ground.errors import InvalidError
from millpond.lake.values import FileEntry
from millpond.pipelines.patterns import find_pattern_fault
from millpond.pipelines.rules import check_parameters
from millpond.pipelines.specs.rules import check_code, find_pipelines
from millpond.pipelines.values import PipelineSpec

EVIL = "(a+)+$"
TEXT = "a" * 5000 + "!"


def spec(**schema):
    return PipelineSpec(
        name="p",
        title="",
        description="",
        parameters={"properties": {"word": schema}, "required": ["word"]},
        inputs=(),
        outputs=(),
        steps=(),
    )


def test_an_evil_pattern_takes_no_time():
    start = time.process_time()
    one = spec(type="string", pattern=EVIL)
    many = spec(type="array", items={"type": "string", "pattern": EVIL})
    assert "must match the pattern" in check_parameters(one, {"word": TEXT})[0].message
    (fault,) = check_parameters(many, {"word": ["a", TEXT]})
    assert fault.message.startswith("entry 2 must match")
    assert time.process_time() - start < 5
    assert not check_parameters(one, {"word": "aaa"})


def test_patterns_search_as_pythons_do():
    assert find_pattern_fault("b", "abc") == ""
    assert find_pattern_fault("^b", "abc")
    assert find_pattern_fault(r"^\d{3}$", "123") == ""


@pytest.mark.parametrize("pattern", [r"(?=a)a", r"(a)\1", "(", "a" * 1001])
def test_a_pattern_that_cannot_be_matched_safely_refuses_the_value(pattern):
    assert "can't be checked" in find_pattern_fault(pattern, "a")


@pytest.mark.parametrize("line", ["@pipeline(" + ")" * 400, "@pipeline(" + "name='" * 80, "@a\n@"])
def test_names_are_found_in_time_that_grows_with_the_text(line):
    start = time.process_time()
    assert find_pipelines(f"{line}\n" * 200) == []
    assert find_pipelines(line + "x" * 500_000) == []
    assert time.process_time() - start < 5


@pytest.mark.parametrize("digest", ["../../x/objects/ab", "x", "A" * 64, "a/" * 32])
def test_code_names_its_contents_by_digests_alone(digest):
    with pytest.raises(InvalidError) as caught:
        check_code([FileEntry("pipeline.py", digest, 1)])
    assert "no sha256" in caught.value.faults[0].message
