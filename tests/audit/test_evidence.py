"""One entry, the seal over it, and the file that proves it off line."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millpond.audit import actions, evidence
from millpond.audit.inclusion import is_proof, verify_proof
from millpond.audit.keys import SealKey, open_seal_key
from millpond.audit.tables import audit_entry
from millpond.audit.values import EntryFilter, ProjectRef
from millpond.ground.actor import Actor
from millpond.ground.canonical import canonical_json
from millpond.ground.errors import NotFoundError
from millpond.storage.database import Database

ANN = Actor(user_id="user_1", name="ann")
BIRDS, FISH = ProjectRef("project_1", "birds"), ProjectRef("project_2", "fish")


@pytest.fixture
def key(tmp_path: Path) -> SealKey:
    return open_seal_key(tmp_path / "keys")


def write(database: Database, count: int, project: ProjectRef = BIRDS) -> None:
    for number in range(count):
        with database.transaction() as tx:
            actions.note(tx, ANN, "run.started", f"run/{number}", project_id=project.id)


def prove(database: Database, key: SealKey, number: int) -> bytes:
    proof = database.change(lambda tx: evidence.start_proof(tx, key, BIRDS, number))
    return b"".join(evidence.proof_lines(database.read, proof))


def keys_of(key: SealKey) -> dict[str, bytes]:
    return {key.key_id: key.public_key}


def test_an_entry_tells_its_text_its_hash_and_its_seal(database: Database, key: SealKey) -> None:
    write(database, 2)
    before = database.read(lambda tx: evidence.get_entry(tx, BIRDS, 1))
    assert (before.seal, before.head, before.newest, before.is_whole) == (None, None, 2, True)
    assert json.loads(before.canonical)["target"] == "run/0"
    database.change(lambda tx: actions.seal(tx, key))
    after = database.read(lambda tx: evidence.get_entry(tx, BIRDS, 1))
    assert after.seal is not None
    assert after.head is not None
    assert (after.seal.number, after.head.number) == (1, 2)
    with pytest.raises(NotFoundError, match="no entry 3; its newest is 2"):
        database.read(lambda tx: evidence.get_entry(tx, BIRDS, 3))


def test_a_meddled_entry_says_that_it_is_not_whole(database: Database) -> None:
    write(database, 1)
    with database.transaction() as tx:
        tx.execute(audit_entry.update().values(actor_name="bob"))
    assert not database.read(lambda tx: evidence.get_entry(tx, BIRDS, 1)).is_whole


def test_the_proof_of_one_entry_holds_off_line(database: Database, key: SealKey) -> None:
    write(database, 2)
    write(database, 3, FISH)
    database.change(lambda tx: actions.seal(tx, key))
    write(database, 3)
    for number in (1, 2, 3, 5):
        data = prove(database, key, number)
        assert is_proof(data)
        verdict = verify_proof(data, keys_of(key))
        assert verdict.is_ok, verdict
        assert (verdict.project, verdict.seals) == ("birds", 1)
        assert f"Entry {number} is whole" in verdict.message
        assert b"fish" not in data
        assert FISH.id.encode() not in data
    first = prove(database, key, 1)
    assert len(first.splitlines()) == 4  # Up to the first seal over it, not to the newest.


def changed(data: bytes, place: int, **fields: Any) -> bytes:
    lines = data.splitlines()
    value = json.loads(lines[place])
    lines[place] = canonical_json({**value, **fields})
    return b"\n".join(lines) + b"\n"


MEDDLED: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: changed(data, 1, actor_name="bob"), "changed"),
    (lambda data: changed(data, 0, chain="project_2"), "removed"),
    (lambda data: changed(data, 0, entry=2), "removed"),
    (lambda data: changed(data, 0, until=2), "seal"),
    (lambda data: changed(data, 0, format="other"), "format"),
    (lambda data: changed(data, 4, signature="AAAA"), "seal"),
    (lambda data: b"\n".join(data.splitlines()[:-1]), "seal"),
    (lambda data: data + data, "format"),
    (lambda data: b"\n".join([*data.splitlines()[:2], *data.splitlines()[3:]]), "removed"),
    (lambda data: b"", "format"),
    (lambda data: data[:50], "format"),
]


@pytest.mark.parametrize(("meddle", "kind"), MEDDLED)
def test_a_meddled_proof_is_found_out(
    database: Database, key: SealKey, meddle: Callable[[bytes], bytes], kind: str
) -> None:
    write(database, 3)
    verdict = verify_proof(meddle(prove(database, key, 1)), keys_of(key))
    assert (verdict.is_ok, verdict.kind) == (False, kind)
    assert verdict.message


def test_a_proof_needs_the_key_it_was_sealed_with(
    database: Database, key: SealKey, tmp_path: Path
) -> None:
    write(database, 1)
    data = prove(database, key, 1)
    other = open_seal_key(tmp_path / "other")
    assert verify_proof(data, keys_of(other)).kind == "key"


def test_a_checkpoint_is_held_against_the_same_seal(database: Database, key: SealKey) -> None:
    write(database, 1)
    kept = vars(database.change(lambda tx: actions.make_checkpoint(tx, key)))
    data = prove(database, key, 1)
    assert verify_proof(data, keys_of(key), kept).is_checkpoint_held
    kept["seal"] = {**kept["seal"], "root": "0" * 64}
    assert verify_proof(data, keys_of(key), kept).kind == "checkpoint"


def test_entries_are_found_by_text_and_until_a_time(database: Database) -> None:
    write(database, 3)
    with database.transaction() as tx:
        actions.note(tx, Actor("user_9", "Zoë_%"), "x.done", "y", project_id=BIRDS.id)

    def numbers(**asked: Any) -> list[int]:
        found = database.read(
            lambda tx: actions.list_entries(tx, BIRDS.id, asked=EntryFilter(**asked))
        )
        return [entry.number for entry in found.items]

    assert numbers(text="RUN/1") == [2]
    assert numbers(text="started") == [3, 2, 1]
    assert numbers(text="ann") == [3, 2, 1]
    assert numbers(text="_%") == [4]
    third = database.read(lambda tx: evidence.get_entry(tx, BIRDS, 3)).entry
    assert numbers(until=third.at) == [2, 1]
    assert numbers(until=third.at + timedelta(days=1), since=third.at) == [4, 3]


def test_the_newest_of_several_projects_come_together(database: Database) -> None:
    write(database, 2)
    write(database, 1, FISH)
    found = database.read(lambda tx: evidence.newest_entries(tx, [BIRDS.id, FISH.id], 2))
    assert [(entry.chain, entry.number) for entry in found] == [(FISH.id, 1), (BIRDS.id, 2)]
    last = database.read(lambda tx: evidence.last_changes(tx, [BIRDS.id, FISH.id, "project_3"]))
    assert last == {FISH.id: found[0].at, BIRDS.id: found[1].at}
    assert database.read(lambda tx: evidence.last_changes(tx, [])) == {}
