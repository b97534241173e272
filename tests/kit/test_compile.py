"""What the compiler says to code that is right and to code that is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import millpond
from millpond.kit.compile import argument_helps, compile_code
from millpond.kit.declare import DECLARED
from millpond.kit.trace import Symbol, TraceError
from millpond.pipelines.specs.reading import read_spec

HEAD = "from typing import *\nfrom millpond import *\nfrom millpond import step, pipeline\n"
MAP = "@step(map=True)\ndef count(files: Files, least: int = 0) -> Table: ...\n"


def compile_text(folder, text, name=""):
    (folder / "pipeline.py").write_text(HEAD + text)
    try:
        return compile_code(str(folder), name)
    finally:
        sys.path.remove(str(folder))


def faults(folder, text):
    spec, found, _ = compile_text(folder, text)
    assert spec is None
    return [(fault.file, fault.line, fault.message) for fault in found]


def test_types_docstring_and_defaults_make_the_form(tmp_path):
    text = '''
import enum, datetime
class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"
@step
def use(files: Files, score: Annotated[float, Param(ge=0, le=1, unit="share")], mode: Mode,
        size: Literal[1, 2], names: list[str], day: datetime.date, note: Optional[str], on: bool) -> Table: ...
@pipeline
def score(files: Files, score: float, mode: Mode = Mode.FAST, size: Literal[1, 2] = 2,
          names: list[str] = [], day: datetime.date = datetime.date(2026, 3, 1), note: Optional[str] = None, on: bool = True):
    """Score them.

    At length.

    Args:
        files: what
            to score.
        score: least.

    Returns:
        Rows.
    """
    return use(files, score, mode, size, names, day, note, on)
'''
    spec, found, _ = compile_text(tmp_path, text)
    assert not found, found
    assert spec["title"] == "Score them."
    assert spec["description"].startswith("At length.")
    assert spec["inputs"] == [
        {"name": "files", "kind": "files", "description": "what to score.", "required": True}
    ]
    form = spec["parameters"]
    assert form["required"] == ["score"]
    properties = form["properties"]
    assert properties["score"] == {
        "type": "number", "minimum": 0, "maximum": 1, "x-unit": "share", "description": "least."
    }  # fmt: skip
    assert properties["mode"] == {"type": "string", "enum": ["fast", "slow"], "default": "fast"}
    assert properties["size"]["enum"] == [1, 2]
    assert properties["names"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert properties["day"] == {"type": "string", "format": "date", "default": "2026-03-01"}
    assert properties["note"]["type"] == ["string", "null"]
    assert read_spec(json.dumps(spec).encode()).outputs[0].name == "use"


def test_graph_holds_calls_names_needs_and_lists(tmp_path):
    text = """
@step
def make() -> Table: ...
@step
def join(rows: Table, n: int) -> Table: ...
@pipeline
def wide():
    layer = [make() for _ in range(3)]
    return {"end": join(layer, n=3)}
"""
    spec, found, _ = compile_text(tmp_path, text)
    assert not found, found
    assert [step["name"] for step in spec["steps"]] == ["make", "make_2", "make_3", "join"]
    end = spec["steps"][3]
    assert end["needs"] == ["make", "make_2", "make_3"]
    assert end["arguments"]["n"] == {"value": 3}
    assert [each["step"] for each in end["arguments"]["rows"]["all"]] == end["needs"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1", 1, "no function is decorated"),
        ("import nowhere_at_all", 4, "name its package in requirements.txt"),
        ("def broken(:", 4, "SyntaxError"),
        ("raise SystemExit(3)", 4, "SystemExit"),
        (MAP + "@pipeline\ndef p(files: Files, extra: int = 1): return count(files)", 6, "'extra': no step uses it"),
        (MAP + "@pipeline\ndef p(files: Files, extra: complex): return count(files, extra)", 6, "type hint complex"),
        (MAP + "@pipeline\ndef p(files): return count(files)", 6, "no type hint"),
        (MAP + "@pipeline\ndef p(files: Files): return count(files, leest=1)", 7, "leest"),
        (MAP + "@pipeline\ndef p(files: Files): return count()", 7, "missing a required argument: 'files'"),
        (MAP + "@pipeline\ndef p(files: Files): return count(files, least='x')", 7, "must be a whole number"),
        (MAP + "@pipeline\ndef p(rows: Table): return count(rows)", 7, "takes files, not table"),
        (MAP + "@pipeline\ndef p(files: Files, n: str): return count(files, n)", 7, "type is another one"),
        (MAP + "@pipeline\ndef p(files: Files):\n  if files: return count(files)", 8, "no value while"),
        (MAP + "@pipeline\ndef p(files: Files, n: int = 1):\n  return count(files, n + 1)", 8, "no value while"),
        (MAP + "@pipeline\ndef p(files: Files): return files", 6, "does not come from a step"),
        (MAP + "@pipeline\ndef p(files: Files): count(files)", 6, "must return"),
        (MAP + "@pipeline\ndef p(files: Files) -> File: return count(files)", 6, "says file, but it returns table"),
        (MAP + "@pipeline\ndef p(files: Files, least: int = 'x'): return count(files, least)", 6, "its default must be"),
        (MAP + "@pipeline\ndef p(files: Files): return count(files)\n@pipeline\ndef q(files: Files): return count(files)", 8, "2 pipelines (p, q)"),
        ("@step(map=True)\ndef s(n: int) -> Table: ...\n@pipeline\ndef p(n: int): return s(n)", 4, "map=True needs"),
        ("@step(memori='1 GiB', retries=-1)\ndef s() -> Table: ...\n@pipeline\ndef p(): return s()", 4, "did you mean 'memory'"),
        ("@step\ndef s(): ...\n@pipeline\ndef p(): return s()", 4, "needs a return hint"),
        ("@step\ndef s(n) -> Table: ...\n@pipeline\ndef p(n: int): return s(n)", 7, "no type hint"),
    ],
)  # fmt: skip
def test_fault_names_file_line_and_what_to_mend(tmp_path, text, line, words):
    found = faults(tmp_path, text)
    assert any(f == "pipeline.py" and n == line and words in m for f, n, m in found), found


def test_all_faults_are_listed_not_just_the_first(tmp_path):
    text = MAP + (
        "@step(slots=0, retries='x')\ndef bad(rows: Table) -> int: ...\n"
        "@pipeline\ndef p(files: Files, a: complex, b: int = 1):\n    return bad(count(files, lest=2))\n"
    )
    messages = " ".join(message for _, _, message in faults(tmp_path, text))
    for words in ("slots=0", "retries='x'", "return hint", "complex", "'b': no step", "lest"):
        assert words in messages


def test_a_step_may_ask_for_sixteen_graphics_processors_at_most(tmp_path):
    text = "@step(gpus={})\ndef s() -> Table: ...\n@pipeline\ndef p(): return s()"
    for number, asked in enumerate(("17", "-1", "0.5", "True", "'2'")):
        (tmp_path / str(number)).mkdir()
        found = faults(tmp_path / str(number), text.format(asked))
        assert any(f"gpus={asked}: must be" in message for _, _, message in found), asked
    (tmp_path / "good").mkdir()
    spec, found, _ = compile_text(tmp_path / "good", text.format(16))
    assert not found, found
    assert read_spec(json.dumps(spec).encode()).steps[0].gpus == 16
    for wrong in (17, -1, 1.5, True, "2", None):
        spec["steps"][0]["gpus"] = wrong
        with pytest.raises(ValueError, match="gpus must be 0 to 16"):
            read_spec(json.dumps(spec).encode())
    del spec["steps"][0]["gpus"]  # As versions before wrote it.
    assert read_spec(json.dumps(spec).encode()).steps[0].gpus == 0


def test_fault_in_a_module_beside_names_that_module(tmp_path):
    (tmp_path / "beside.py").write_text("a = 1\nb = a / 0\n")
    sys.modules.pop("beside", None)
    found = faults(tmp_path, "import beside")
    assert found[0][:2] == ("beside.py", 2)
    assert "ZeroDivisionError" in found[0][2]


def test_folder_without_pipeline_says_so(tmp_path):
    spec, found, _ = compile_code(str(tmp_path))
    sys.path.remove(str(tmp_path))
    assert spec is None
    assert "no file pipeline.py" in found[0].message


def test_name_chooses_among_several_pipelines(tmp_path):
    text = (
        MAP
        + "@pipeline\ndef p(files: Files): return count(files)\n@pipeline(name='other')\ndef q(files: Files): return count(files)"
    )
    spec, found, _ = compile_text(tmp_path, text, "other")
    assert not found
    assert spec["name"] == "other"


def test_steps_are_plain_functions_in_a_plain_script():
    @millpond.step(map=True)
    def double(n: int) -> int:
        return 2 * n

    assert double(4) == 8
    assert DECLARED.trace is None


def test_arguments_of_a_docstring_are_read():
    text = "Title.\n\nArgs:\n    one: first\n        line.\n    two (int): second.\n\nReturns:\n    x: y"
    assert argument_helps(text) == {"one": "first line.", "two": "second."}


def test_trace_error_is_not_swallowed_by_hasattr(tmp_path):
    with pytest.raises(TraceError):
        Symbol({"input": "x"}, "files").anything  # noqa: B018 - the access is the test.


def test_kit_needs_nothing_but_the_standard_library(tmp_path):
    """As in the sandbox: the folder under the name millpond, no site packages."""
    (tmp_path / "millpond").symlink_to(Path(millpond.__file__).parent / "kit")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import millpond, millpond.compile, millpond.task, millpond.runner\n"
        "assert not [n for n in sys.modules if n.startswith(('pydantic', 'sqlalchemy', 'numpy'))]\n"
        "assert millpond.step and millpond.Files"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
