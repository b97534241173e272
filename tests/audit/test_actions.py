"""Entries, seals and exports over a real database."""

import json
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from millpond.audit import actions, keys
from millpond.audit.keys import RotatingKey, SealKey, open_seal_key
from millpond.audit.opening import open_own_key
from millpond.audit.proof import verify_export
from millpond.audit.tables import audit_entry, audit_head, audit_seal, audit_sealed_head
from millpond.audit.values import EntryFilter, ProjectRef
from millpond.ground.actor import Actor
from millpond.ground.canonical import digest_of
from millpond.ground.errors import ConflictError, InvalidError
from millpond.storage.database import Database

ANN = Actor(user_id="user_1", name="ann")
BOB = Actor(user_id="user_2", name="bob")
BIRDS = ProjectRef("project_1", "birds")


@pytest.fixture
def key(tmp_path: Path) -> RotatingKey:
    return open_seal_key(tmp_path / "keys")


def write(database: Database, count: int = 1, project: str | None = BIRDS.id) -> None:
    for number in range(count):
        with database.transaction(f"req-{number}") as tx:
            actions.note(
                tx, ANN, "dataset.version.added", f"dataset/x@{number}", project_id=project
            )


def export(database: Database, key: SealKey, project: ProjectRef | None = BIRDS) -> list[bytes]:
    started = database.change(lambda tx: actions.start_export(tx, key, project))
    return list(actions.export_lines(database.read, started))


def verify(database: Database, key: SealKey, project: ProjectRef | None = BIRDS) -> Any:
    started = database.change(lambda tx: actions.start_export(tx, key, project))
    return actions.verify(database.read, key, started)


def meddle(database: Database, statement: sa.Executable) -> None:
    with database.transaction() as tx:
        tx.execute(statement)


def keys_of(database: Database, key: SealKey) -> dict[str, bytes]:
    del database
    return {key.key_id: key.public_key}


def test_an_entry_holds_who_did_what_when_to_what(database: Database) -> None:
    with database.transaction("req-1") as tx:
        before, after = {"size": 1}, {"size": 2}
        actions.note(tx, ANN, "x.changed", "x/1", before=before, after=after)
        now = tx.now
    entry = database.read(lambda tx: actions.list_entries(tx, None)).items[0]
    assert (entry.actor_id, entry.actor_name, entry.verb, entry.target) == (
        "user_1", "ann", "x.changed", "x/1",
    )  # fmt: skip
    assert (entry.chain, entry.number, entry.at, entry.request_id) == ("site", 1, now, "req-1")
    assert (entry.before_digest, entry.after_digest) == (digest_of(before), digest_of(after))


def test_a_change_that_fails_leaves_no_entry(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as tx:
            actions.note(tx, ANN, "x.changed", "x/1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not database.read(lambda tx: actions.list_entries(tx, None)).items


def test_several_chains_in_one_transaction_keep_their_own_numbers(database: Database) -> None:
    with database.transaction() as tx:
        for project in ("project_2", None, "project_1", "project_2"):
            actions.note(tx, ANN, "x.changed", "x", project_id=project)
    counts = {
        chain: len(database.read(lambda tx, of=chain: actions.list_entries(tx, of)).items)
        for chain in ("project_1", "project_2", None)
    }
    assert counts == {"project_1": 1, "project_2": 2, None: 1}


def test_writers_at_once_leave_chains_without_gaps(database: Database, key: SealKey) -> None:
    def work(worker: int) -> None:
        for _ in range(5):

            def change(tx: Any) -> None:
                for project in sorted({f"project_{worker % 3}", "project_1"}, reverse=True):
                    actions.note(tx, ANN, "x.changed", "x", project_id=project)

            database.change(change)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    verdict = verify(database, key)
    assert (verdict.is_ok, verdict.entries) == (True, 40)
    assert verify(database, key, ProjectRef("project_2", "")).entries == 10


def test_a_list_is_paged_and_filtered(database: Database) -> None:
    write(database, 5)
    with database.transaction() as tx:
        actions.note(tx, BOB, "run.started", "run/1", project_id=BIRDS.id)
    page = database.read(lambda tx: actions.list_entries(tx, BIRDS.id, limit=4))
    assert [entry.number for entry in page.items] == [6, 5, 4, 3]
    rest = database.read(
        lambda tx: actions.list_entries(tx, BIRDS.id, limit=4, cursor=page.next_cursor)
    )
    assert ([entry.number for entry in rest.items], rest.next_cursor) == ([2, 1], None)
    wanted = {
        EntryFilter(actor="bob"): [6],
        EntryFilter(verb="run.*"): [6],
        EntryFilter(verb="dataset.version.added", target="dataset/x@4"): [5],
        EntryFilter(target="dataset/*"): [5, 4, 3, 2, 1],
        EntryFilter(target="d_taset/*"): [],
        EntryFilter(since=datetime(2999, 1, 1, tzinfo=UTC)): [],
    }
    for asked, numbers in wanted.items():
        found = database.read(lambda tx, a=asked: actions.list_entries(tx, BIRDS.id, asked=a))
        assert [entry.number for entry in found.items] == numbers
    with pytest.raises(InvalidError):
        database.read(lambda tx: actions.list_entries(tx, BIRDS.id, cursor="nonsense"))


def test_an_export_verifies_off_line_and_shows_nothing_of_others(
    database: Database, key: SealKey
) -> None:
    write(database, 3)
    write(database, 2, "project_2")
    export(database, key)
    write(database, 2)
    lines = export(database, key)
    verdict = verify_export(lines, keys_of(database, key))
    assert (verdict.is_ok, verdict.entries, verdict.seals) == (True, 5, 2)
    assert b"project_2" not in b"".join(lines)


def test_an_export_of_more_than_a_page_of_entries_and_seals_is_whole(
    database: Database, key: SealKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millpond.audit.store.PAGE_ROWS", 3)
    for _ in range(7):
        write(database)
        database.change(lambda tx: actions.seal(tx, key))
    verdict = verify(database, key)
    assert (verdict.is_ok, verdict.entries, verdict.seals) == (True, 7, 7)


def test_an_export_leaves_out_what_happens_after_it_began(database: Database, key: SealKey) -> None:
    write(database, 2)
    started = database.change(lambda tx: actions.start_export(tx, key, BIRDS))
    write(database)
    database.change(lambda tx: actions.seal(tx, key))
    verdict = verify_export(actions.export_lines(database.read, started), keys_of(database, key))
    assert (verdict.is_ok, verdict.entries) == (True, 2)


def test_a_log_without_entries_is_good(database: Database, key: SealKey) -> None:
    assert verify(database, key, ProjectRef("project_9", "empty")).is_ok


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (audit_entry.update().values(verb="x.hidden"), "changed"),
        (audit_entry.delete(), "removed"),
    ],
)
def test_what_is_done_to_the_database_is_named(
    database: Database, key: SealKey, what: Any, kind: str
) -> None:
    write(database, 5)
    assert verify(database, key).is_ok
    meddle(database, what.where(audit_entry.c.number == 3))
    verdict = verify(database, key)
    assert (verdict.kind, verdict.entry) == (kind, 3)


@pytest.mark.parametrize("keeps_head", [True, False])
def test_a_log_cut_in_the_database_is_named_and_not_sealed_anew(
    database: Database, key: SealKey, keeps_head: bool
) -> None:
    write(database, 5)
    assert verify(database, key).is_ok
    meddle(database, audit_entry.delete().where(audit_entry.c.number > 3))
    if not keeps_head:
        row = database.read(lambda tx: actions.list_entries(tx, BIRDS.id)).items[0]
        meddle(database, audit_head.update().values(number=3, hash=row.hash))
        with pytest.raises(ConflictError, match="lies behind"):
            database.change(lambda tx: actions.seal(tx, key))
    verdict = verify(database, key)
    assert (verdict.kind, verdict.entry) == ("truncated", 4)


def test_a_chain_taken_out_whole_is_not_sealed_over(database: Database, key: SealKey) -> None:
    write(database, 2)
    write(database, 2, "project_2")
    database.change(lambda tx: actions.seal(tx, key))
    for table in (audit_entry, audit_head):
        meddle(database, table.delete().where(table.c.chain == BIRDS.id))
    with pytest.raises(ConflictError):
        database.change(lambda tx: actions.seal(tx, key))
    verdict = verify(database, key)
    assert (verdict.kind, verdict.entry) == ("truncated", 1)


def test_a_seal_is_made_when_due_and_only_when_something_happened(
    database: Database, key: SealKey
) -> None:
    def due(seconds: float) -> Any:
        return database.change(lambda tx: actions.seal_if_due(tx, key, seconds))

    assert due(60) is None
    write(database)
    first = due(60)
    assert first.number == 1
    write(database)
    assert due(60) is None
    second = due(0)
    assert second.number == 2
    assert second.at >= first.at
    due(0)
    assert due(0) is None


def test_a_checkpoint_can_be_held_against_every_later_export(
    database: Database, key: SealKey
) -> None:
    write(database, 2)
    write(database, 2, "project_2")
    database.change(lambda tx: actions.seal(tx, key))
    made = database.change(lambda tx: actions.make_checkpoint(tx, key))
    checkpoint = json.loads(json.dumps(made.__dict__))
    write(database, 2, "project_2")
    for project in (BIRDS, ProjectRef("project_2", "")):
        verdict = verify_export(export(database, key, project), keys_of(database, key), checkpoint)
        assert verdict.is_ok, verdict
        assert verdict.is_checkpoint_held


def test_a_checkpoint_of_a_log_that_stands_still_is_the_same(
    database: Database, key: SealKey
) -> None:
    write(database)
    database.change(lambda tx: actions.seal(tx, key))
    one = database.change(lambda tx: actions.make_checkpoint(tx, key))
    two = database.change(lambda tx: actions.make_checkpoint(tx, key))
    assert one == two
    assert database.change(lambda tx: actions.seal(tx, key)).number == one.seal["number"]


def test_an_old_copy_put_back_shows_against_a_checkpoint(database: Database, key: SealKey) -> None:
    write(database, 2)
    export(database, key)
    kept = {
        table: database.read(lambda tx, t=table: [dict(r._mapping) for r in tx.rows(sa.select(t))])
        for table in (audit_entry, audit_head, audit_seal, audit_sealed_head)
    }
    write(database, 3)
    checkpoint = database.change(lambda tx: actions.make_checkpoint(tx, key)).__dict__
    for table, rows in kept.items():
        meddle(database, table.delete())
        meddle(database, table.insert().values(rows))
    assert verify(database, key).is_ok
    verdict = verify_export(export(database, key), keys_of(database, key), checkpoint)
    assert (verdict.kind, verdict.entry) == ("truncated", 3)


def test_old_keys_stay_good_after_a_change_of_key(
    database: Database, key: RotatingKey, tmp_path: Path
) -> None:
    folder, old = tmp_path / "keys", key.key_id
    write(database, 2)
    old_keys = keys_of(database, key)
    known = database.change(lambda tx: actions.change_key(tx, ANN, key)).keys
    assert [k.key_id for k in known] == [key.key_id, old]
    assert key.key_id != old
    assert {path.name for path in folder.iterdir()} == {"seal.pem", f"seal-{old}.pem"}
    write(database)
    assert verify(database, key).is_ok
    assert verify(database, key, None).is_ok
    told = database.read(lambda tx: actions.public_keys(tx, key)).keys
    assert {k.key_id for k in told} == {key.key_id, old}
    entries = database.read(lambda tx: actions.list_entries(tx, None)).items
    assert (entries[0].verb, entries[0].target) == ("log.key.changed", f"key/{key.key_id}")
    for lacking in (keys_of(database, key), old_keys):
        assert verify_export(export(database, key), lacking).kind == "key"
    both = {**old_keys, **keys_of(database, key)}
    verdict = verify_export(export(database, key), both)
    assert verdict.is_ok
    assert verdict.seals == 2
    assert open_own_key(database, folder).key_id == key.key_id
    (folder / "seal.pem").chmod(0o640)
    with pytest.raises(ConflictError):
        open_seal_key(folder)


def test_a_change_of_key_that_fails_leaves_the_old_one_in_use(
    database: Database, key: RotatingKey, tmp_path: Path
) -> None:
    def fail(tx: Any) -> None:
        actions.change_key(tx, ANN, key)
        raise RuntimeError

    old = open_own_key(database, tmp_path / "keys").key_id
    with pytest.raises(RuntimeError):
        database.change(fail)
    assert database.change(lambda tx: actions.seal(tx, key)).key_id == key.key_id == old
    assert open_own_key(database, tmp_path / "keys").key_id == old


def test_a_change_of_key_that_was_cut_off_after_its_commit_is_finished(
    database: Database, key: RotatingKey, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    with database.transaction() as tx:  # What follows upon the commit is left out: a crash.
        made = key.change(tx)
        tx.run_after_commit = lambda: None  # type: ignore[method-assign]
    assert open_seal_key(folder).key_id != made.key_id
    assert open_own_key(database, folder).key_id == made.key_id
    assert open_seal_key(folder).key_id == made.key_id


def test_another_server_takes_the_new_key_as_soon_as_its_file_is_there(
    database: Database, key: RotatingKey, tmp_path: Path
) -> None:
    first, second = tmp_path / "keys", tmp_path / "second"
    shutil.copytree(first, second)
    other = open_own_key(database, second)
    database.change(lambda tx: actions.change_key(tx, ANN, key))
    write(database)
    with pytest.raises(ConflictError, match="by another server") as caught:
        database.change(lambda tx: actions.seal(tx, other))
    assert f"copy {first}/seal.pem of the machine" in caught.value.next_step
    shutil.copy(first / "seal.pem", second / "seal.pem")
    assert database.change(lambda tx: actions.seal(tx, other)).key_id == key.key_id
    assert other.key_id == key.key_id


def test_a_log_of_before_goes_on_with_its_own_key_alone(
    database: Database, key: SealKey, tmp_path: Path
) -> None:
    """A database of an older Millpond keeps no fingerprint: the newest seal decides."""
    write(database)
    database.change(lambda tx: actions.seal(tx, key))
    with pytest.raises(ConflictError, match=r"seal\.pem is missing"):
        open_own_key(database, tmp_path / "new")
    open_seal_key(tmp_path / "other")
    with pytest.raises(ConflictError, match="holds another key"):
        open_own_key(database, tmp_path / "other")
    assert open_own_key(database, tmp_path / "keys").key_id == key.key_id
    new = open_own_key(database, tmp_path / "other", accept_new=True)
    entries = database.read(lambda tx: actions.list_entries(tx, None)).items
    assert entries[0].verb == "log.key.replaced"
    assert entries[0].target == f"key/{new.key_id}"
    with pytest.raises(ConflictError, match=f"fingerprint {new.key_id}"):
        open_own_key(database, tmp_path / "keys")


def test_the_key_in_use_is_told_before_the_first_seal(database: Database, key: SealKey) -> None:
    assert [k.key_id for k in database.read(lambda tx: actions.public_keys(tx, key)).keys] == [
        key.key_id
    ]


def test_the_key_file_is_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    one = open_seal_key(tmp_path / "keys")
    path = tmp_path / "keys" / keys.SEAL_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert open_seal_key(tmp_path / "keys").key_id == one.key_id
    path.write_text("nonsense")
    with pytest.raises(ConflictError, match="no Ed25519"):
        open_seal_key(tmp_path / "keys")


def test_a_thousand_entries_take_three_readings_to_verify(database: Database, key: SealKey) -> None:
    with database.transaction() as tx:
        for number in range(1500):
            actions.note(tx, ANN, "x.changed", f"x/{number}", project_id=BIRDS.id)
    started = database.change(lambda tx: actions.start_export(tx, key, BIRDS))
    reads = 0

    def read(action: Callable[[Any], Any]) -> Any:
        nonlocal reads
        reads += 1
        return database.read(action)

    assert actions.verify(read, key, started).entries == 1500
    assert reads == 5  # The keys; two pages of entries; the seals and their end.
