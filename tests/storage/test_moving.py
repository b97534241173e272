"""Objects move from one real store to another: all of them, verified, and nothing is lost."""

import hashlib
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from millpond.ground.errors import BusyError, ConflictError, InvalidError, NotFoundError
from millpond.ground.settings import ObjectsSettings
from millpond.lake.values import digest_in, object_key
from millpond.storage.database import Database
from millpond.storage.moving import ends
from millpond.storage.moving.home import check_home, find_home, find_old
from millpond.storage.moving.journal import Journal
from millpond.storage.moving.move import Choice, Move
from millpond.storage.moving.removing import Removal
from millpond.storage.nodes import store as nodes_sql

ALONE = Choice(is_alone=True)
FOLDER = ObjectsSettings()
NODES = ObjectsSettings(kind="nodes")


ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""What is a matter of the stores; the database is asked on both where its part is larger."""

LARGE, LOG = "projects/p/runs/r/s/0/1/large", "projects/p/runs/r/s/0/1.log/00000000"


class Place:
    """An installation's data folder, with its database, whose objects move about."""

    def __init__(self, folder: Path, database: Database, host=None) -> None:
        self.data, self.database = folder, database
        self.site = ends.Site(folder, database, lambda: host)
        self.journal = Journal(folder / "moves" / "journal.db")
        self.notes: list[str] = []
        self.steps: list[object] = []

    def note(self, tx, verb, target, before, after) -> None:
        del tx, before, after
        self.notes.append(f"{verb} {target}")

    def begin(self, chosen: ObjectsSettings) -> None:
        """Note where objects lie, as the first server does."""
        end = ends.open_end(self.site, chosen, chosen)
        folder = ends.folder_of(chosen, self.data)
        check_home(self.database, chosen, folder, end.side.objects)
        end.close()

    def move(self, source, target, choice=ALONE, on_step=None):
        start = ends.open_end(self.site, source, target)
        end = ends.open_end(self.site, target, source)
        try:
            move = Move(
                self.database, self.journal, start, end, note=self.note, digest_in=digest_in
            )
            plan = move.plan(choice)
            return plan, move.run(choice, on_step or self.steps.append)
        finally:
            start.close()
            end.close()

    def remove_old(self, old, home):
        here, there = ends.open_end(self.site, home, old), ends.open_end(self.site, old, home)
        try:
            removal = Removal(self.database, self.journal, there, here, note=self.note)
            return removal.run(self.steps.append)
        finally:
            here.close()
            there.close()

    def all_in(self, chosen, other=None) -> dict[str, bytes]:
        """Read everything at a store as its server would."""
        end = ends.open_end(self.site, chosen, other or chosen)
        try:
            store = end.side.objects
            return {info.key: store.get(info.key) for info in end.side.list()}
        finally:
            end.close()

    def home(self):
        return self.database.read(find_home)


@pytest.fixture
def place(tmp_path, database):
    one = Place(tmp_path / "data", database)
    yield one
    one.journal.close()


@pytest.fixture
def s3(ministack) -> ObjectsSettings:
    return ObjectsSettings(
        kind="s3",
        bucket="millpond-tests",
        endpoint=ministack,
        access_key_id="test",
        secret_access_key="test",
        allow_http=True,
        prefix=secrets.token_hex(8),
    )


@pytest.fixture
def three_nodes(tmp_path, nodes_authority, data_nodes_module):
    """Start nodes that hold nothing of other tests."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    made = data_nodes_module.DataNodes(folder, nodes_authority)
    for name in ("n1", "n2", "n3"):
        made.add(name)
    yield made
    made.stop()


@pytest.fixture
def on_nodes(tmp_path, database, three_nodes):
    """Give an installation whose server has heard of three nodes with data disks."""
    data = tmp_path / "data"
    (data / "keys").mkdir(parents=True)
    for path in (three_nodes.folder / "keys").iterdir():
        shutil.copy(path, data / "keys" / path.name)
    three_nodes.store(database, tmp_path).close()
    one = Place(data, database, three_nodes.host)
    yield one
    one.journal.close()


def contents(large: int = 3 << 20) -> dict[str, bytes]:
    """Make objects of each kind that an installation has; some have the same bytes."""
    made = {f"projects/p/runs/r/s/0/1/out{n}": f"row {n % 7}".encode() for n in range(40)}
    for data in (b"", b"small", os.urandom(70_000), os.urandom(large)):
        made[object_key("p", hashlib.sha256(data).hexdigest())] = data
    made[LARGE] = os.urandom(large)
    made[LOG] = b"a line\n"
    return made


def fill(place, chosen, objects) -> None:
    end = ends.open_end(place.site, chosen, chosen)
    for key, data in objects.items():
        end.side.objects.put(key, data)
    end.close()


@ON_SQLITE
def test_to_s3_and_back(place, s3):
    objects = contents()
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    plan, moved = place.move(FOLDER, s3)
    assert (plan.objects, plan.left_objects, plan.room_bytes) == (46, 46, None)
    assert plan.size_bytes == sum(map(len, objects.values()))
    assert moved.is_switched
    assert (moved.objects, moved.copied_objects, moved.damaged) == (46, 46, ())
    assert place.all_in(s3) == objects
    assert place.all_in(FOLDER) == objects
    assert (place.home().kind, place.notes) == ("s3", ["objects.moved store/s3"])

    added = b"made on S3"
    fill(place, s3, {"projects/p/later": added})
    plan, moved = place.move(s3, FOLDER)
    assert plan.objects == 47
    assert moved.is_switched
    assert place.all_in(FOLDER) == objects | {"projects/p/later": added}
    assert place.home().kind == "folder"

    removed = place.remove_old(s3, FOLDER)
    assert (removed.objects, removed.kept) == (47, 0)
    assert place.all_in(s3) == {}
    assert place.all_in(FOLDER) == objects | {"projects/p/later": added}
    assert place.database.read(find_old) is None
    with pytest.raises(NotFoundError, match="no copy"):
        place.remove_old(s3, FOLDER)


@ON_SQLITE
def test_between_two_s3_services(place, s3, moto):
    other = replace(s3, endpoint=moto, prefix=secrets.token_hex(8))
    objects = contents(large=1 << 20)
    fill(place, s3, objects)
    place.begin(s3)
    _, moved = place.move(s3, other)
    assert moved.is_switched
    assert place.all_in(other) == objects
    assert place.home().where.startswith(moto)


def test_to_nodes_and_back(on_nodes, three_nodes):
    place, objects = on_nodes, contents()
    logs = {key: data for key, data in objects.items() if ".log/" in key}
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    plan, moved = place.move(FOLDER, NODES)
    assert plan.stays.startswith("Logs stay in")
    assert plan.objects == len(objects) - len(logs)
    assert moved.is_switched
    assert place.all_in(NODES, FOLDER) == {k: v for k, v in objects.items() if k not in logs}
    for data in objects.values():
        if data not in logs.values():
            assert len(three_nodes.held(hashlib.sha256(data).hexdigest())) == 2

    removed = place.remove_old(FOLDER, NODES)
    assert (removed.objects, removed.kept) == (len(objects) - len(logs), 0)
    assert place.all_in(FOLDER) == logs
    assert place.all_in(NODES) == objects

    fill(place, NODES, {"projects/p/later": b"made on nodes"})
    _, moved = place.move(NODES, FOLDER)
    assert moved.is_switched
    assert place.all_in(FOLDER) == objects | {"projects/p/later": b"made on nodes"}
    removed = place.remove_old(NODES, FOLDER)
    assert (removed.kept, removed.waiting) == (0, 0)
    for data in objects.values():
        assert three_nodes.held(hashlib.sha256(data).hexdigest()) == []
    assert place.all_in(FOLDER) == objects | {"projects/p/later": b"made on nodes"}


@ON_SQLITE
def test_what_was_left_in_the_hosts_folder_follows_to_the_nodes(on_nodes):
    place, objects = on_nodes, contents(large=1000)
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    place.begin(NODES)  # As whoever changes objects.kind by hand.
    assert place.home().kind == "nodes"
    fill(place, NODES, {"projects/p/later": b"made on nodes"})
    plan, moved = place.move(FOLDER, NODES)
    assert plan.left_objects == len(objects) - 1
    assert moved.is_switched
    assert place.all_in(NODES, FOLDER).keys() == {*objects, "projects/p/later"} - {LOG}
    removed = place.remove_old(FOLDER, NODES)
    assert removed.objects == len(objects) - 1
    assert place.all_in(NODES) == objects | {"projects/p/later": b"made on nodes"}


@ON_SQLITE
def test_a_running_server_goes_on_while_all_is_copied_ahead(place, s3):
    objects = contents()
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    plan, moved = place.move(FOLDER, s3, Choice(is_alone=False))
    assert plan.is_running
    assert not moved.is_switched
    assert moved.copied_objects == len(objects)
    assert place.home().kind == "folder"
    server = ends.open_end(place.site, FOLDER, FOLDER).side.objects
    gone = next(iter(objects))
    server.delete(gone)
    server.put("projects/p/new", b"written meanwhile")
    server.put(LARGE, b"written anew", overwrite=True)
    now = {**objects, "projects/p/new": b"written meanwhile", LARGE: b"written anew"}
    del now[gone]
    plan, moved = place.move(FOLDER, s3)
    assert plan.left_objects == 2
    assert moved.is_switched
    assert moved.copied_objects == 2
    assert place.all_in(s3) == now


class Cut(BaseException):
    """The end of a process, at a moment that a test chooses."""


@ON_SQLITE
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it_goes_on_where_it_was(place, s3, number):
    objects = contents()
    fill(place, FOLDER, objects)
    place.begin(FOLDER)

    def cut(step):
        place.steps.append(step)
        if len(place.steps) > number:
            raise Cut

    with pytest.raises(Cut):
        place.move(FOLDER, s3, on_step=cut)
    assert place.home().kind == "folder"
    known = place.journal.count()[0]
    assert place.all_in(FOLDER) == objects
    plan, moved = place.move(FOLDER, s3)
    assert plan.left_objects == len(objects) - known
    assert moved.is_switched
    assert place.all_in(s3) == objects


@ON_SQLITE
def test_a_damaged_object_is_named_and_the_rest_moved(place, s3):
    objects = contents()
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    folder = place.data / "objects" / "objects"
    spoilt = [object_key("p", hashlib.sha256(data).hexdigest()) for data in objects.values()]
    spoilt = sorted((key for key in spoilt if key in objects), key=lambda k: len(objects[k]))[2:]
    assert [len(objects[key]) for key in spoilt] == [70_000, 3 << 20]
    for key in spoilt:
        with (folder / key).open("r+b") as file:
            file.write(b"rot")
    _, moved = place.move(FOLDER, s3)
    assert not moved.is_switched
    assert place.home().kind == "folder"
    assert {each.key for each in moved.damaged} == set(spoilt)
    assert all("do not match its key" in each.reason for each in moved.damaged)
    rest = {key: data for key, data in objects.items() if key not in spoilt}
    assert place.all_in(s3) == rest

    (folder / spoilt[0]).write_bytes(objects[spoilt[0]])  # From a backup.
    _, moved = place.move(FOLDER, s3)
    assert [each.key for each in moved.damaged] == spoilt[1:]
    _, moved = place.move(FOLDER, s3, replace(ALONE, leave_damaged=True))
    assert moved.is_switched
    assert place.all_in(s3) == rest | {spoilt[0]: objects[spoilt[0]]}
    removed = place.remove_old(FOLDER, s3)
    assert (removed.objects, removed.kept) == (len(objects) - 1, 1)
    assert place.all_in(FOLDER).keys() == {spoilt[1]}


@ON_SQLITE
def test_too_little_room_is_told_before_anything_is_copied(on_nodes):
    place = on_nodes
    fill(place, FOLDER, {"projects/p/big": bytes(5000)})
    place.begin(FOLDER)
    place.database.change(
        lambda tx: [nodes_sql.update_place(tx, n, free_bytes=4000) for n in ("n1", "n2", "n3")]
    )
    with pytest.raises(ConflictError, match=r"too little room in the nodes' data disks: 1 obj"):
        place.move(FOLDER, NODES)
    assert place.all_in(NODES, FOLDER) == {}


@ON_SQLITE
def test_too_few_nodes_are_told_with_the_state_of_each(on_nodes, three_nodes):
    place = on_nodes
    fill(place, FOLDER, {"projects/p/big": b"x"})
    place.begin(FOLDER)

    def hurt(tx):
        nodes_sql.update_place(tx, "n1", is_ok=False, reason="its disk is gone")
        nodes_sql.update_place(tx, "n2", url="https://127.0.0.1:9")

    place.database.change(hurt)
    with pytest.raises(BusyError, match=r"n1 is lost .*gone.*n2 does not answer.*n3 is up") as told:
        place.move(FOLDER, NODES)
    assert "millpond node add" in told.value.next_step
    assert place.home().kind == "folder"


@ON_SQLITE
def test_wrong_settings_of_the_target_are_told_before_anything_is_copied(place, s3):
    fill(place, FOLDER, {"projects/p/a": b"x"})
    place.begin(FOLDER)
    for wrong in (replace(s3, bucket=""), replace(s3, allow_http=False)):
        with pytest.raises(InvalidError, match=r"objects\."):
            ends.check_settings(wrong)
    with pytest.raises(BusyError):
        place.move(FOLDER, replace(s3, bucket="nobody-has-made-it"))
    used = replace(s3, prefix=secrets.token_hex(8))
    fill(place, used, {"projects/other/a": b"of others"})
    with pytest.raises(ConflictError, match="holds other objects already: projects/other/a"):
        place.move(FOLDER, used)
    (place.data / "file").write_text("no folder")
    with pytest.raises(ConflictError, match="cannot be used"):
        place.move(s3, replace(FOLDER, folder=str(place.data / "file" / "below")))
    assert place.all_in(used) == {"projects/other/a": b"of others"}
    assert place.home().kind == "folder"


@ON_SQLITE
def test_another_move_waits_until_this_one_is_finished(place, s3):
    fill(place, FOLDER, {"projects/p/a": b"x"})
    place.begin(FOLDER)
    place.move(FOLDER, s3, Choice(is_alone=False))
    other = replace(s3, prefix=secrets.token_hex(8))
    with pytest.raises(ConflictError, match="was begun") as told:
        place.move(FOLDER, other)
    assert "--anew" in told.value.next_step
    _, moved = place.move(FOLDER, other, replace(ALONE, anew=True))
    assert moved.is_switched
    third = replace(s3, prefix=secrets.token_hex(8))
    with pytest.raises(ConflictError, match="still kept from the move before") as told:
        place.move(other, third)
    assert "millpond store remove-old" in told.value.next_step


def test_a_store_that_is_not_the_installations_is_refused(place, s3):
    fill(place, FOLDER, {"projects/p/a": b"x"})
    place.begin(FOLDER)
    with pytest.raises(ConflictError, match="objects lie in the folder") as told:
        place.begin(s3)
    assert "millpond store move --to s3" in told.value.next_step
    moved_away = replace(FOLDER, folder=str(place.data / "empty"))
    with pytest.raises(ConflictError, match="objects lie in the folder"):
        place.begin(moved_away)
    (place.data / "objects").rename(place.data / "elsewhere")
    with pytest.raises(ConflictError, match="store-id is missing"):
        place.begin(FOLDER)
    place.begin(replace(FOLDER, folder=str(place.data / "elsewhere")))  # The same, moved by hand.
    place.begin(replace(s3, accept_restored=True))
    assert place.home().kind == "s3"


def test_a_change_by_hand_from_before_homes_were_noted_is_refused(on_nodes, s3):
    fill(on_nodes, FOLDER, {"projects/p/a": b"x"})
    with pytest.raises(ConflictError, match="objects lie in the folder"):
        on_nodes.begin(s3)
    fill(on_nodes, NODES, {"projects/p/b": b"x"})
    with pytest.raises(ConflictError, match="objects lie in the nodes' data disks"):
        on_nodes.begin(FOLDER)
    on_nodes.begin(NODES)


@ON_SQLITE
def test_a_store_that_does_not_answer_is_left_to_health(place, s3):
    place.begin(replace(s3, bucket="nobody-has-made-it"))
    assert place.home() is None
    place.begin(s3)
    assert place.home().kind == "s3"
    with pytest.raises(ConflictError, match="objects lie in the S3 service"):
        place.begin(replace(s3, bucket="nobody-has-made-it"))


@ON_SQLITE
def test_a_disk_that_is_unmounted_in_the_middle_is_not_taken_for_an_emptied_one(place, s3):
    objects = contents()
    fill(place, FOLDER, objects)
    place.begin(FOLDER)
    folder, away = place.data / "objects", place.data / "away"

    def unmount(step):
        if step.stage == "Comparing both stores" and not away.exists():
            folder.rename(away)
            folder.mkdir()

    with pytest.raises(ConflictError, match="is not there any more; nothing was switched"):
        place.move(FOLDER, s3, on_step=unmount)
    assert place.home().kind == "folder"
    assert place.all_in(s3) == objects, "the disk may be broken: these may be the only copies"
    shutil.rmtree(folder)
    away.rename(folder)
    _, moved = place.move(FOLDER, s3)
    assert (moved.is_switched, moved.copied_objects) == (True, 0)
    assert place.all_in(s3) == objects
