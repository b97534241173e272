import json
import shutil

import pytest

from millpond.ground.errors import InvalidError
from millpond.pipelines.programs import choose_interpreter, plan_program
from millpond.pipelines.values import PipelineSpec


def plan(main="main.py", head=b"", **changes):
    facts = {
        "files": {main}, "inputs": {"data": "files"}, "parameters": {"least": 3},
        "has_program": lambda _: True,
    }  # fmt: skip
    return plan_program(main, head, **{**facts, **changes})


@pytest.mark.parametrize(
    ("main", "head", "command"),
    [
        ("main.py", b"#!/usr/bin/env ruby", ("python3",)),
        ("a/b.R", b"", ("Rscript",)),
        ("a.r", b"", ("Rscript",)),
        ("main.sh", b"", ("bash",)),
        ("run", b"#!/usr/bin/perl -w\nprint", ("/usr/bin/perl", "-w")),
        ("run", b"#!/usr/bin/env -S awk -f\n", ("awk", "-f")),
        ("run.jl", b"#! /usr/bin/env julia\r\n", ("julia",)),
    ],
)
def test_chooses_what_runs_it(main, head, command):
    assert choose_interpreter(main, head, lambda _: True) == (command, [])


def test_a_shell_without_bash_is_sh():
    assert choose_interpreter("a.sh", b"", lambda name: name == "sh")[0] == ("sh",)


@pytest.mark.parametrize(
    "head", [b"", b"\x7fELF", b"#!", b"#!/usr/bin/env -i x", b"#!/usr/bin/env", b"#!'"]
)
def test_says_when_nothing_tells_what_runs_it(head):
    with pytest.raises(InvalidError, match=r"\.py, \.R, \.sh"):
        plan("program", head)


def test_says_how_to_get_r_where_it_is_missing():
    with pytest.raises(InvalidError, match="apt-get install r-base-core"):
        plan("main.R", has_program=lambda _: False)


def test_lists_every_fault_at_once():
    with pytest.raises(InvalidError) as caught:
        plan(
            "gone.R", files={"main.py"}, inputs={"a b": "files", "x": "files", "X": "files"},
            parameters={"x": 1, "code": 2}, has_program=lambda _: False,
        )  # fmt: skip
    fields = [fault.field for fault in caught.value.faults]
    assert fields == [
        "program",
        "inputs.a b",
        "inputs.X",
        "parameters.code",
        "parameters.x",
        "program",
    ]


def test_makes_one_step_that_is_given_all_and_gives_all():
    spec = plan("src/Word Count.py", arguments=("--least", "{least}"), limits={"seconds": 60.0})
    (step,) = spec.steps
    assert step.command == ("python3", "{code}/src/Word Count.py", "--least", "{least}")
    assert step.arguments == {
        "data": {"input": "data", "kind": "files"},
        "least": {"parameter": "least"},
    }
    assert (step.kind, step.seconds, step.split) == ("command", 60.0, None)
    assert spec.name == "word-count"
    assert spec.parameters["properties"] == {"least": {"type": "integer", "default": 3}}
    (output,) = spec.outputs
    assert output.source == {"step": step.name, "output": step.outputs[0][0]}
    assert PipelineSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_every_interpreter_it_names_is_real_here():
    for main in ("a.py", "a.sh"):
        command, faults = choose_interpreter(main, b"", lambda n: shutil.which(n) is not None)
        assert not faults
        assert shutil.which(command[0])
