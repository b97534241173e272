"""The record over the command line: every chain at once, and a new key for the seals."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from millpond.client.process import ServerProcess
from millpond.client.screen import counted


def test_nouns_agree_with_their_numbers() -> None:
    assert [counted(number, "seal") for number in (0, 1, 2, 1000)] == [
        "0 seals",
        "1 seal",
        "2 seals",
        "1,000 seals",
    ]
    assert [counted(1, "entry"), counted(3, "entry")] == ["1 entry", "3 entries"]


@pytest.mark.slow
def test_all_records_verify_before_and_after_a_new_key_and_a_changed_one_is_named(
    shell: Any, server: ServerProcess, place: Path
) -> None:
    for name in ("birds", "fish"):
        shell.run("project", "make", name)
    said = shell.run("log", "verify", "--project", "birds").stdout
    assert "The log is genuine: 1 entry, 1 seal, the last of " in said
    old = place / "old.json"
    shell.run("log", "key", str(old))

    refused = shell.fault("log", "rotate-key", code=6)
    assert "--yes" in refused["next_step"]
    new = place / "new.json"
    changed = shell.json("log", "rotate-key", str(new), "--yes")
    assert changed == json.loads(new.read_text())
    assert [key["key_id"] for key in changed["keys"]][1:] == [
        key["key_id"] for key in json.loads(old.read_text())["keys"]
    ]
    assert "log.key.changed" in shell.run("log", "show", "--site").stdout
    shell.run("project", "change", "birds", "--description", "sealed with the new key")

    lines = shell.run("log", "verify", "--all", "--key", str(new)).stdout.splitlines()
    assert [line.partition(" is ")[0] for line in lines] == [
        "The log of the site",
        "The log of project birds",
        "The log of project fish",
        "All genuine: 3 logs.",
    ]
    assert all("is genuine: " in line for line in lines[:3])
    found = shell.json("log", "verify", "--all")
    assert found["is_ok"]
    assert {verdict["project"] for verdict in found["logs"].values()} == {"", "birds", "fish"}
    assert shell.fault("log", "verify", "--site", "--key", str(old), code=9)["facts"]["kind"]

    with closing(sqlite3.connect(server.data / "millpond.db", timeout=20)) as hands, hands:
        hands.execute("UPDATE audit_entry SET verb = 'x' WHERE target = 'project/fish'")
    fault = shell.fault("log", "verify", "--all", code=9)
    assert fault["message"] == "1 log of 3 not genuine: project fish."
    logs = fault["facts"]["logs"]
    assert {name: verdict["kind"] for name, verdict in logs.items()} == {
        "the site": "",
        "project birds": "",
        "project fish": "changed",
    }
    assert shell.run("log", "verify", "--all", "fish.jsonl", code=2).stderr
