"""The examples do what their pages say: as plain programs, compiled, and step by step."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMPILE = (
    "import json, sys; from millpond.compile import compile_code;"
    "spec, faults, reason = compile_code(sys.argv[1]);"
    "print(json.dumps([spec, [vars(each) for each in faults], reason]))"
)


@pytest.fixture
def kit(tmp_path):
    """The folder to put on PYTHONPATH: the kit under the name it has in the sandbox."""
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "millpond").symlink_to(ROOT / "src" / "millpond" / "kit")
    return folder


@pytest.fixture(scope="session")
def magika_python(tmp_path_factory):
    """A Python with what the example's requirements name, and nothing else."""
    venv = tmp_path_factory.mktemp("magika") / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, venv], check=True)
    python = venv / "bin" / "python"
    wanted = EXAMPLES / "filetypes" / "requirements.txt"
    subprocess.run(
        [tool, "pip", "install", "-q", "--python", python, "--only-binary", ":all:", "-r", wanted],
        check=True,
    )
    return python


@pytest.fixture
def run(kit, tmp_path):
    def start(*words, cwd=tmp_path, **variables):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(kit), **variables}
        done = subprocess.run(
            list(map(str, words)), cwd=cwd, env=environment, capture_output=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return start


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.txt").write_text("The mill by the pond, the pond by the mill.")
    (folder / "deep" / "two.txt").write_text("Mill\tpond mill\nno line end")
    (folder / "empty").write_bytes(b"")
    (folder / "bytes").write_bytes(b"pond \xff\xfe mill \x00 the")
    return folder


EXPECTED = Counter(
    [
        "the",
        "mill",
        "by",
        "the",
        "pond",
        "the",
        "pond",
        "by",
        "the",
        "mill",
        "mill",
        "pond",
        "mill",
        "no",
        "line",
        "end",
        "pond",
        "mill",
        "the",
    ]
)


def counted(text):
    rows = list(csv.DictReader(text.splitlines()))
    assert [int(row["count"]) for row in rows] == sorted(
        (int(row["count"]) for row in rows), reverse=True
    )
    return {row["word"]: int(row["count"]) for row in rows}


@pytest.mark.parametrize(
    ("program", "interpreter"),
    [("plain.py", sys.executable), ("plain.sh", "sh"), ("plain.R", "Rscript")],
)
def test_plain_programs_count_words(run, texts, tmp_path, program, interpreter):
    if shutil.which(interpreter) is None:
        pytest.skip(f"{interpreter} is missing: apt-get install r-base-core")
    run(
        interpreter, EXAMPLES / "wordcount" / program,
        MILLPOND_INPUT_DATA=str(texts), MILLPOND_OUTPUT=str(tmp_path),
    )  # fmt: skip
    assert counted((tmp_path / "words.csv").read_text()) == EXPECTED


def test_the_decorated_count_is_the_same(run, texts):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import pipeline; from millpond import Files;"
        "print(json.dumps(list(pipeline.wordcount(Files(sys.argv[2]), least=2))))"
    )
    rows = json.loads(run(sys.executable, "-c", code, EXAMPLES / "wordcount", texts))
    found = {row["word"]: row["count"] for row in rows}
    assert found == {word: count for word, count in EXPECTED.items() if count > 1}


def test_the_shell_step_runs_the_same_script():
    own, plain = (EXAMPLES / "wordcount" / name for name in ("shell/count.sh", "plain.sh"))
    assert own.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("folder", ["wordcount", "wordcount/shell"])
def test_examples_compile_without_a_fault(run, folder):
    spec, faults, reason = json.loads(run(sys.executable, "-c", COMPILE, EXAMPLES / folder))
    assert (faults, reason) == ([], "")
    assert [each["name"] for each in spec["inputs"]] == ["data"]


@pytest.mark.slow
def test_file_types_compile_to_a_form_with_bounds(run, magika_python):
    spec, faults, _ = json.loads(run(magika_python, "-c", COMPILE, EXAMPLES / "filetypes"))
    assert faults == []
    score = spec["parameters"]["properties"]["min_score"]
    assert (score["minimum"], score["maximum"], score["default"]) == (0, 1, 0.5)
    assert "unknown" in score["description"]
    assert [(each["name"], each["kind"]) for each in spec["outputs"]] == [
        ("predictions", "table"), ("types", "table"), ("plot", "file"),
    ]  # fmt: skip


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "no ending").write_text("import os\n\n\ndef main():\n    print(os.getcwd())\n" * 5)
    (folder / "empty.png").write_bytes(b"")
    (folder / "short").write_text("a, b; c: d = 1 2 3")
    (folder / "data.txt").write_bytes(b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 9)
    Path(os.fsdecode(bytes(folder) + b"/\xff\nodd")).write_bytes(b"x")
    return folder


@pytest.mark.slow
def test_file_types_are_found_by_content_and_equal_the_plain_script(
    run, magika_python, mixed, tmp_path
):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import pipeline; from millpond import Files;"
        "rows = list(pipeline.identify(Files(sys.argv[2]), 0.5));"
        "types, plot = pipeline.summarise(rows); print(json.dumps([rows, types, plot]))"
    )
    rows, types, (name, drawing) = json.loads(
        run(magika_python, "-c", code, EXAMPLES / "filetypes", mixed)
    )
    found = {row["path"]: row["type"] for row in rows}
    assert found["no ending"] == "python"
    assert (found["empty.png"], found["\\xff\nodd"], found["data.txt"]) == ("empty", "txt", "pdf")
    assert sum(row["files"] for row in types) == len(rows) == 5
    assert sum(row["bytes"] for row in types) == sum(row["size"] for row in rows)
    assert name == "groups.svg"
    assert drawing.startswith("<svg")
    run(magika_python, EXAMPLES / "filetypes" / "plain.py", mixed, tmp_path / "plain.csv")
    with (tmp_path / "plain.csv").open(newline="") as file:
        plain = list(csv.DictReader(file))
    assert plain == [{name: str(value) for name, value in row.items()} for row in rows]


@pytest.mark.slow
def test_a_score_below_the_least_is_called_unknown(run, magika_python, mixed):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import pipeline; from millpond import Files;"
        "print(json.dumps([list(pipeline.identify(Files(sys.argv[2]), each)) for each in (0, 1)]))"
    )
    all_of_them, sure = json.loads(run(magika_python, "-c", code, EXAMPLES / "filetypes", mixed))
    unsure = {row["path"] for row in sure if row["score"] < 1}
    assert unsure
    assert {row["path"] for row in sure if row["type"] == "unknown"} >= unsure
    assert next(row["type"] for row in sure if row["path"] == "empty.png") == "empty"
    assert "unknown" not in {row["type"] for row in all_of_them}
