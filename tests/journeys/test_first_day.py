"""A newcomer's first day, through the real command line against a real server."""

import csv
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

PIPELINE = '''
"""Count the characters of files."""

from typing import Annotated

from millpond import Files, Param, Table, pipeline, step


@step(map=True, files_per_task=2)
def measure(files: Files, least: Annotated[int, Param(ge=0, le=100, unit="letters")] = 0) -> Table:
    for file in files:
        length = len(file.read_bytes())
        print("measured", ascii(file.name))
        if length >= least:
            yield {"path": file.name, "length": length}


@pipeline
def lengths(files: Files, least: Annotated[int, Param(ge=0, le=100, unit="letters")] = 0) -> Table:
    """How long is each file?

    Counts its bytes.
    """
    return measure(files, least=least)
'''


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    folder = place / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "deep" / "b.txt").write_text("three")
    (folder / "empty").write_text("")
    (folder / os.fsdecode(b"caf\xe9\n.txt")).write_text("strange name")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module")
def pipeline(place: Path) -> Path:
    folder = place / "lengths"
    folder.mkdir()
    (folder / "pipeline.py").write_text(PIPELINE)
    return folder


@pytest.fixture(scope="module")
def day(shell: Any, folder: Path, pipeline: Path) -> dict[str, str]:
    """Go through the day once; each test looks at a part of it."""
    shell.run("project", "make", "first")
    pushed = shell.json("dataset", "push", str(folder))
    shell.run("pipeline", "push", str(pipeline))
    words = (
        "run",
        "lengths",
        "--input",
        "files=notes",
        "--param",
        "least=3",
        "--output",
        "results",
    )
    run = shell.json(*words)
    return {"run": run["id"], "digest": pushed["version"]["digest"]}


def test_who_starts_the_server_needs_no_password(shell: Any, day: dict[str, str]) -> None:
    me = shell.json("user", "me")
    assert me["user"]["is_admin"]
    assert "first" in shell.run("project", "list").stdout


def test_a_folder_goes_in_whole_and_comes_back_the_same(
    shell: Any, day: dict[str, str], folder: Path
) -> None:
    again = shell.json("dataset", "push", str(folder), "--name", "notes")
    assert again["version"]["unchanged"]
    assert again["version"]["digest"] == day["digest"]
    assert again["version"]["file_count"] == 4
    assert [path.rsplit("/", 1)[1] for path, _ in again["left_out"]] == ["link"]
    shell.run("dataset", "download", "notes@1", "back")
    for path in ("a.txt", "deep/b.txt", "empty", os.fsdecode(b"caf\xe9\n.txt")):
        assert (shell.folder / "back" / path).read_bytes() == (folder / path).read_bytes()
    assert shell.fault("dataset", "download", "notes", "back", code=5)["code"] == "conflict"


def test_a_file_and_an_archive_go_in_as_well(shell: Any, day: dict[str, str]) -> None:
    (shell.folder / "one.csv").write_text("a,b\n1,2\n")
    assert shell.json("dataset", "push", "one.csv")["version"]["file_count"] == 1
    with zipfile.ZipFile(shell.folder / "many.zip", "w") as packed:
        packed.writestr("x/1.txt", "1")
        packed.writestr("x/2.txt", "2")
    made = shell.json("dataset", "push", "many.zip")["version"]
    assert (made["dataset"], made["file_count"]) == ("many", 2)
    with zipfile.ZipFile(shell.folder / "climbing.zip", "w") as packed:
        packed.writestr("../../evil.txt", "x")
    fault = shell.fault("dataset", "push", "climbing.zip", code=6)
    assert "evil.txt" in json.dumps(fault)
    listed = {one["name"] for one in shell.json("dataset", "list")}
    assert {"notes", "one", "many"} == listed


def test_the_form_says_what_may_be_asked(shell: Any, day: dict[str, str]) -> None:
    shown = shell.run("pipeline", "show", "lengths").stdout
    for text in (
        "How long is each file?",
        "at least 0",
        "at most 100",
        "in letters",
        "--input files=",
    ):
        assert text in shown


def test_wrong_parameters_are_all_named_and_start_nothing(shell: Any, day: dict[str, str]) -> None:
    before = len(shell.json("run", "list"))
    words = [
        "run",
        "lengths",
        "--input",
        "files=notes",
        "--param",
        "least=1000",
        "--param",
        "leest=2",
    ]
    fault = shell.fault(*words, code=6)
    assert {one["field"] for one in fault["faults"]} == {"parameters.least", "parameters.leest"}
    fault = shell.fault("run", "lengths", "--param", "least=few", code=6)
    assert {one["field"] for one in fault["faults"]} == {"parameters.least", "inputs.files"}
    fault = shell.fault("run", "lengths", "--input", "files=nothing", code=6)
    assert fault["faults"][0]["field"] == "inputs.files"
    fault = shell.fault("run", "nonesuch", code=3)
    assert "nonesuch" in fault["message"]
    assert len(shell.json("run", "list")) == before


def test_the_outputs_lie_there_in_order(shell: Any, day: dict[str, str]) -> None:
    results = shell.folder / "results"
    for name in ("predictions.csv", "statistics.json", "report.html", "provenance.json"):
        assert (results / name).stat().st_size > 0
    with (results / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["length"]) for row in rows) == [3, 5, 12]
    shell.run("run", "outputs", day["run"], "--zip", "results.zip")
    with zipfile.ZipFile(shell.folder / "results.zip") as packed:
        assert any(name.endswith("predictions.csv") for name in packed.namelist())
    listed = {one["path"] for one in shell.json("run", "outputs", day["run"])}
    assert "predictions.csv" in listed


def test_the_run_can_be_looked_at(shell: Any, day: dict[str, str]) -> None:
    shown = shell.json("run", "show", day["run"])
    assert shown["run"]["state"] == "succeeded"
    assert shown["steps"][0]["partitions"] == 2
    assert len(shell.json("run", "tasks", day["run"])) >= 2
    assert "measured 'a.txt'" in shell.run("run", "logs", day["run"]).stdout
    assert day["run"] in shell.run("run", "list").stdout


def test_any_program_runs_as_it_is(shell: Any, day: dict[str, str]) -> None:
    (shell.folder / "count.py").write_text(
        "import os, pathlib, json\n"
        "data = pathlib.Path(os.environ['MILLPOND_INPUT_DATA'])\n"
        "files = sorted(p.name for p in data.rglob('*') if p.is_file())\n"
        "asked = json.load(open(os.environ['MILLPOND_PARAMETERS']))\n"
        "out = pathlib.Path(os.environ['MILLPOND_OUTPUT'])\n"
        "(out / 'count.txt').write_text(f\"{len(files)} {asked['word']}\")\n"
    )
    shell.run(
        "run", "--program", "count.py", "--input", "data=notes", "--param", "word=files",
        "--output", "counted",
    )  # fmt: skip
    (found,) = (shell.folder / "counted").rglob("count.txt")
    assert found.read_text() == "4 files"
    (shell.folder / "fail.sh").write_text("echo going wrong >&2\nexit 3\n")
    fault = shell.fault("run", "--program", "fail.sh", "--wait", code=8)
    assert fault["facts"]["state"] == "failed"
    assert "going wrong" in shell.run("run", "logs", fault["facts"]["run"]).stdout


def test_the_record_verifies_off_line_and_names_what_was_changed(
    shell: Any, day: dict[str, str]
) -> None:
    shell.run("log", "key", "server.key")
    shell.run("log", "checkpoint", "checkpoint.json")
    shell.run("log", "export", "log.jsonl")
    assert "genuine" in shell.run("log", "verify").stdout
    off_line = shell.another({"MILLPOND_CONFIG": str(shell.folder / "no.toml"), "HOME": "/none"})
    words = ("log", "verify", "log.jsonl", "--key", "server.key")
    assert off_line.json(*words, "--checkpoint", "checkpoint.json")["is_ok"]
    lines = (shell.folder / "log.jsonl").read_text().splitlines(keepends=True)
    number = next(
        i for i, line in enumerate(lines) if '"kind":"entry"' in line and "notes@1" in line
    )
    entry = json.loads(lines[number])["number"]
    lines[number] = lines[number].replace("notes@1", "notes@9")
    (shell.folder / "changed.jsonl").write_text("".join(lines))
    fault = off_line.fault("log", "verify", "changed.jsonl", "--key", "server.key", code=9)
    assert (fault["facts"]["kind"], fault["facts"]["entry"]) == ("changed", entry)


def test_a_colleague_signs_in_and_sees_only_what_they_may(shell: Any, day: dict[str, str]) -> None:
    shell.run("user", "add", "bob", told="correct horse battery\n")
    url = shell.json("doctor", "--offline")[-1]["meaning"].split()[2].rstrip(",")
    bob = shell.another({"MILLPOND_CONFIG": str(shell.folder / "bob.toml"), "HOME": "/none"})
    bob.run("login", url, "--user", "bob", told="wrong password\n", code=4)
    bob.run("login", url, "--user", "bob", told="correct horse battery\n")
    assert (shell.folder / "bob.toml").stat().st_mode & 0o777 == 0o600
    assert bob.json("project", "list") == []
    assert bob.fault("dataset", "list", "--project", "first", code=3)["code"] == "not_found"
    shell.run("member", "add", "bob", "viewer")
    bob.run("project", "use", "first")
    assert {one["name"] for one in bob.json("dataset", "list")} >= {"notes"}
    assert bob.fault("run", "lengths", "-i", "files=notes", code=4)["code"] == "not_allowed"
    made = bob.json("token", "make", "reader", "--scope", "dataset.read", "--days", "1")
    narrow = shell.another({**bob.variables, "MILLPOND_TOKEN": made["text"]})
    assert narrow.json("dataset", "list")
    assert narrow.fault("run", "list", code=4)
    bob.run("token", "revoke", made["token"]["id"], "--yes")
    narrow.run("dataset", "list", code=4)
    bob.run("logout")
    bob.run("project", "list", code=4)


def test_secrets_are_never_shown(shell: Any, day: dict[str, str]) -> None:
    shell.run("secret", "set", "API_KEY", told="very-secret-value")
    said = shell.run("secret", "list", "--json")
    assert "API_KEY" in said.stdout
    assert "very-secret-value" not in said.stdout + (shell.folder / "server.log").read_text()
    shell.run("secret", "remove", "API_KEY", "--yes")
    assert shell.json("secret", "list") == []
