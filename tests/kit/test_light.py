"""What a new sandbox loads before a step's first line; each module is paid for by every task."""

import datetime as dt
import enum
import json
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import millpond
from millpond.kit import hints, wire
from millpond.kit.options import read_size

HEAVY = {
    "ast", "collections", "contextlib", "csv", "ctypes", "dataclasses", "difflib", "enum",
    "functools", "gzip", "inspect", "json", "pathlib", "random", "re", "signal", "socket",
    "subprocess", "textwrap", "traceback", "typing", "millpond.trace", "millpond.schema",
}  # fmt: skip

STEP = """
from __future__ import annotations
from millpond import Table, Files, pipeline, step

@step(map=True, memory="1 GiB")
def make(column: int, names: Files) -> Table:
    return [{"column": column}]

@pipeline
def work(column: int, names: Files) -> Table:
    return make(column, names)
"""

RUN = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.environ["MILLPOND_INPUT"] = os.environ["MILLPOND_OUTPUT"] = os.environ["TMPDIR"] = sys.argv[1]
import millpond.runner, millpond.task
arguments = {"column": {"value": 7}, "names": {"kind": "files"}}
millpond.task.run_step("pipeline:make", arguments, over="names", items=1)
print(*sys.modules)
"""


def test_a_step_that_needs_nothing_loads_nothing_heavy(tmp_path):
    (tmp_path / "millpond").symlink_to(Path(millpond.__file__).parent / "kit")
    (tmp_path / "pipeline.py").write_text(STEP)
    words = [sys.executable, "-I", "-S", "-c", RUN, str(tmp_path)]
    loaded = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert "millpond.task" in loaded
    assert not HEAVY & set(loaded)
    assert (tmp_path / "result" / "00000.jsonl").read_bytes() == b'{"column":7}\n'


RUN_COMMAND = """
import json, os, sys
words = json.loads(sys.argv[2])
for name in set(sys.modules) - names:
    del sys.modules[name]
sys.path.insert(0, sys.argv[1])
os.environ["MILLPOND_INPUT"] = os.environ["MILLPOND_OUTPUT"] = os.environ["TMPDIR"] = sys.argv[1]
import millpond.task
millpond.task.run_command(words, {"least": {"value": 2}}, ["result"])
print(*sys.modules)
"""


def run_command(folder, *words):
    (folder / "millpond").symlink_to(Path(millpond.__file__).parent / "kit")
    code = "import sys; names = set(sys.modules)\n" + RUN_COMMAND
    command = [sys.executable, "-I", "-S", "-c", code, str(folder), json.dumps(words)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_program_is_started_without_loading_anything_heavy(tmp_path):
    done = run_command(tmp_path, "sh", "-c", 'cp "$MILLPOND_PARAMETERS" {least}.json; pwd')
    assert done.returncode == 0, done.stderr
    where, loaded = done.stdout.splitlines()
    assert where == str(tmp_path / "result")
    assert not HEAVY & set(loaded.split())
    left = tmp_path / "result" / "2.json"
    assert left.read_text() == '{"least": 2}'
    assert left.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("sh", "-c", "exit 7"), 7, "sh ended with code 7"),
        (("sh", "-c", "kill -9 $$"), 137, "sh was killed by signal 9"),
        (("sh", "-c", "yes | head -1 >&2; kill -PIPE $$"), 141, "sh was killed by signal 13"),
        (("no-such-program",), 1, "can't be started: No such file or directory"),
    ],
)
def test_the_end_of_a_program_is_told(tmp_path, words, code, told):
    done = run_command(tmp_path, *words)
    assert done.returncode == code
    assert told in done.stderr


VALUES = [
    {"a": [1, 2.5, None, True, "ä\n\u2028\U0001f600"], "b": {"c": -0.0, "1": 10**30}},
    ["\udcff", "", {}, [], 1e-300],
    "text",
    float("inf"),
    None,
]


@pytest.mark.parametrize("value", VALUES)
def test_json_is_written_and_read_as_by_the_package(value):
    text = json.dumps(value)
    assert wire.dumps(value) == text
    assert wire.loads(text.encode()) == json.loads(text)
    assert wire.loads(b"\n " + text.encode() + b"\n") == json.loads(text)
    assert wire.loads(json.dumps(value, indent=2).encode("utf-16")) == json.loads(text)


def test_rows_are_written_short_and_without_what_json_lacks():
    row = {"a": "ä", "b": [1, 2.5]}
    assert wire.dumps_row(row) == '{"a":"ä","b":[1,2.5]}'
    with pytest.raises(ValueError, match="Out of range"):
        wire.dumps_row({"a": float("nan")})


@pytest.mark.parametrize("text", [b"", b"{", b"[1] 2", b"nul", b'{"a" 1}', b"\xff"])
def test_what_is_no_json_is_told_as_by_the_package(text):
    with pytest.raises(ValueError) as ours:
        wire.loads(text)
    with pytest.raises(ValueError) as theirs:
        json.loads(text)
    assert str(ours.value) == str(theirs.value)


def test_what_json_cannot_hold_is_refused():
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="Circular"):
        wire.dumps(ring)
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        wire.dumps({1})


class Colour(enum.Enum):
    RED = "red"


def plain(a: int, b: "float", c: Colour, d: "dt.date", e: None, f: "list[int]") -> "str":
    return f"{a}{b}{c}{d}{e}{f}"


def classes(a: int, b: "Colour", c: "millpond.Table") -> "str":
    return f"{a}{b}{c}"


def names(a: int, b: "Colour", c: "float" = 1.0) -> "str":
    return f"{a}{b}{c}"


def missing(a: "Nowhere") -> int:  # noqa: F821 - the fault is the test.
    return a


@pytest.mark.parametrize("function", [plain, classes, names])
def test_hints_are_read_as_typing_reads_them(function):
    assert hints.hints_of(function) == (typing.get_type_hints(function, include_extras=True), "")


def test_a_hint_that_names_nothing_is_told():
    assert "Nowhere" in hints.hints_of(missing)[1]


def test_values_become_what_hints_name():
    assert hints.from_json(Colour, "red") is Colour.RED
    assert hints.from_json(dt.date, "2026-03-01") == dt.date(2026, 3, 1)
    assert hints.from_json(float | None, 1) == 1.0
    assert hints.from_json(tuple[int, ...], [1, 2]) == (1, 2)


def test_a_param_is_a_value_that_does_not_change():
    one, other = millpond.Param(ge=0, unit="px"), millpond.Param(0, unit="px")
    assert one == other
    assert hash(one) == hash(other)
    assert one != millpond.Param(ge=1)
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one).startswith("Param(ge=0, le=None, gt=None, lt=None, unit='px', help=''")
    with pytest.raises(AttributeError, match="cannot assign to field 'ge'"):
        one.ge = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "size"),
    [("512 MiB", 512 << 20), (" 2GB ", 2 * 10**9), ("1.5 kB", 1500), (7, 7), ("3", 3)],
)
def test_sizes_are_read(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "1,5 GB", ".5", "5.", "1 2", "-1", "0", "5 parsecs", True])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"must be"):
        read_size(text)
