import os
import threading

import pytest

from millpond.ground.errors import ConflictError
from millpond.ground.key_files import read_or_make
from millpond.storage.database import Database
from millpond.storage.fingerprints import KeyFile, find_kept, keep, open_key_file

NAME = "some.key"


def key_file(folder, *, right=None, replaced=None):
    """A key file of a database that needs ``right``, or nothing yet."""
    path = folder / NAME
    return KeyFile(
        path,
        read=lambda: read_or_make(path, lambda: os.urandom(8)),
        fingerprint_of=bytes.hex,
        fits=lambda _tx, key: right is None or key == right,
        on_replaced=lambda _tx, fingerprint: replaced.append(fingerprint),
    )


def put(folder, key):
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    path.write_bytes(key)
    path.chmod(0o600)


def test_a_new_database_takes_the_key_that_is_made_and_then_no_other(database, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made = open_key_file(database, key_file(first))
    assert open_key_file(database, key_file(first)) == made
    assert database.read(lambda tx: find_kept(tx, NAME)).fingerprint == made.hex()
    with pytest.raises(ConflictError, match="is missing") as caught:
        open_key_file(database, key_file(second))
    assert not second.exists(), "no key of its own is made"
    assert f"Copy {first}/{NAME} of the machine " in caught.value.next_step
    assert f"to {second}/{NAME}" in caught.value.next_step
    put(second, b"another")
    with pytest.raises(ConflictError, match="holds another key"):
        open_key_file(database, key_file(second))
    assert (second / NAME).read_bytes() == b"another"
    put(second, made)
    assert open_key_file(database, key_file(second)) == made


def test_a_database_of_before_takes_only_a_key_that_fits(database, tmp_path):
    right = b"the key!"
    with pytest.raises(ConflictError, match="is missing"):
        open_key_file(database, key_file(tmp_path / "new", right=right))
    put(tmp_path / "other", b"another")
    with pytest.raises(ConflictError, match="holds another key") as caught:
        open_key_file(database, key_file(tmp_path / "other", right=right))
    assert "of your backup" in caught.value.next_step
    assert database.read(lambda tx: find_kept(tx, NAME)) is None
    put(tmp_path / "own", right)
    assert open_key_file(database, key_file(tmp_path / "own", right=right)) == right
    assert database.read(lambda tx: find_kept(tx, NAME)).folder == str(tmp_path / "own")


def test_an_administrator_can_go_on_with_new_keys_and_the_log_tells(database, tmp_path):
    open_key_file(database, key_file(tmp_path / "lost"))
    told = []
    file = key_file(tmp_path / "new", replaced=told)
    made = open_key_file(database, file, accept_new=True)
    assert told == [made.hex()]
    assert open_key_file(database, file) == made
    assert told == [made.hex()]


def test_of_two_servers_that_start_at_once_one_is_refused(database, tmp_path):
    url = database.engine.url.render_as_string(hide_password=False)
    begin, outcomes = threading.Barrier(2), []

    def start(name):
        own = Database(url)
        file = key_file(tmp_path / name)
        begin.wait()
        try:
            outcomes.append(open_key_file(own, file))
        except ConflictError as fault:
            outcomes.append(fault)
        finally:
            own.close()

    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (key,) = [one for one in outcomes if isinstance(one, bytes)]
    assert [type(one) for one in outcomes if one != key] == [ConflictError]
    assert database.read(lambda tx: find_kept(tx, NAME)).fingerprint == key.hex()


def test_a_fingerprint_is_kept_in_place_of_the_one_before(database, tmp_path):
    for text in ("one", "two"):
        database.change(lambda tx, text=text: keep(tx, tmp_path / NAME, text))
    assert database.read(lambda tx: find_kept(tx, NAME)).fingerprint == "two"
