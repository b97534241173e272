"""The demonstration: one command from nothing to results on record; the second time it is quick."""

import os
from pathlib import Path
from typing import Any

import pytest

from millpond.client.commands.demo import choose_files, find_example, summarise
from millpond.client.local import read_server


@pytest.fixture
def alone(make_shell: Any, tmp_path: Path) -> Any:
    """A shell on a machine where nothing was started yet."""
    return make_shell(tmp_path, {"MILLPOND_CONFIG": str(tmp_path / "config.toml")})


@pytest.mark.slow
def test_the_second_start_reuses_everything_but_the_run(alone: Any, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(120):
        (files / f"{number}.py").write_text(f"import os\n\n\ndef f{number}():\n    return os.sep\n")
    (files / "data.json").write_text('{"a": [1, 2, 3]}\n' * 20)
    words = ("demo", "--data", "d", "--files", "files", "--exit")
    first = alone.run(*words, "--output", "out", seconds=600)
    assert "Log:        genuine" in first.stdout
    assert "121 of 121 predicted" in first.stdout
    assert "python 120" in first.stdout
    assert (tmp_path / "out" / "report.html").stat().st_size > 0
    assert read_server(tmp_path / "d") is None, "the server was left behind"
    second = alone.json(*words)
    third = alone.json(*words)
    assert second["run"] != third["run"]
    assert second["dataset"] == third["dataset"] == "demo-files@1"
    assert second["pipeline"] == third["pipeline"] == "filetypes@1"
    assert second["log_is_genuine"]
    assert (Path(third["outputs"]) / "predictions.csv").exists()


@pytest.mark.slow
def test_a_fault_leaves_no_server_behind(alone: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fault = alone.fault("demo", "--data", "d", "--files", "empty", "--exit", code=6)
    assert "no file" in fault["message"]
    assert read_server(tmp_path / "d") is None


def test_there_are_enough_files_on_any_machine() -> None:
    chosen = choose_files()
    assert 2000 <= len(chosen) <= 3000
    assert chosen == choose_files()
    assert all(os.access(one.place, os.R_OK) for one in chosen)
    assert not any(b"__pycache__" in one.raw_path or b"/." in one.raw_path for one in chosen)
    assert len({one.raw_path for one in chosen}) == len(chosen)


def test_the_example_is_found() -> None:
    assert (find_example() / "requirements.txt").is_file()


def test_five_lines_say_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(
        "path,type,group,score,size\na.py,python,code,0.99,10\nb,elf,executable,0.5,2048\n"
        "c.py,python,code,1.0,0\n"
    )
    assert summarise(tmp_path, 3, 2.0) == [
        "Files:      3 of 3 predicted, 2.1 kB",
        "Groups:     code 2, executable 1",
        "Types:      python 2, elf 1",
        "Least sure: b (score 0.500)",
        "Time:       2.0 s, 2 files a second",
    ]
