"""Looking after a server from the command line: its settings and health, one entry with its proof."""

import json
from pathlib import Path
from typing import Any


def test_the_server_tells_its_settings_and_how_it_is(shell: Any) -> None:
    found = {one["key"]: one for one in shell.json("system", "settings")}
    assert found["server.port"]["origin"] == "start"
    assert found["jobs.workers"]["origin"] == "default"
    changed = {one["key"] for one in shell.json("system", "settings", "--changed")}
    assert "server.port" in changed
    assert "jobs.workers" not in changed
    said = shell.run("system", "settings", "--changed")
    assert "settings.toml" in said.stdout + said.stderr
    health = shell.json("system", "health")
    named = {one["name"]: one for one in health["findings"]}
    assert named["database"]["state"] == "ok"
    assert "answers" in shell.run("system", "health").stdout


def test_one_entry_is_proved_on_another_machine(shell: Any, place: Path) -> None:
    shell.run("project", "make", "birds", "--description", "songs")
    shell.run("project", "change", "birds", "--description", "more songs")
    entry = shell.json("log", "entry", "1", "--project", "birds")
    assert entry["entry"]["verb"] == "project.added"
    assert entry["is_whole"]
    assert "project.changed" in shell.run("log", "entry", "2", "--project", "birds").stdout
    found = shell.json("log", "show", "--project", "birds", "--text", "CHANGED")
    assert [one["number"] for one in found] == [2]
    assert not shell.json("log", "show", "--project", "birds", "--until", "2020-01-01")
    proof, keys = place / "entry.jsonl", place / "keys.json"
    shell.run("log", "proof", "1", str(proof), "--project", "birds")
    shell.run("log", "key", str(keys))
    alone = shell.another({"MILLPOND_URL": "http://127.0.0.1:1", "HOME": str(place)})
    assert "genuine" in alone.run("log", "verify", str(proof), "--key", str(keys)).stdout
    lines = proof.read_text().splitlines()
    value = json.loads(lines[1])
    lines[1] = json.dumps({**value, "actor_name": "nobody"}, sort_keys=True, separators=(",", ":"))
    proof.write_text("\n".join(lines) + "\n")
    fault = alone.fault("log", "verify", str(proof), "--key", str(keys), code=9)
    assert fault["facts"]["kind"] == "changed"
    assert shell.fault("log", "entry", "99", "--project", "birds", code=3)["code"] == "not_found"


def test_projects_and_users_are_searched(shell: Any) -> None:
    shell.run("project", "make", "ants", "--description", "insects")
    shell.run("project", "archive", "ants", "--yes")
    assert [one["name"] for one in shell.json("project", "list", "--text", "INSECT")] == ["ants"]
    assert not shell.json("project", "list", "--text", "insect", "--in-use")
    assert shell.json("project", "list", "--archived", "--all")
    shell.run("user", "add", "zoe", "--email", "z@b.example", "--no-password")
    assert [one["name"] for one in shell.json("user", "list", "--text", "Z@B")] == ["zoe"]
