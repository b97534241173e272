"""The key files of secrets and of the server's own machine."""

import stat
from pathlib import Path

import pytest

from millpond.audit.actions import list_entries
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError
from millpond.people import actions
from millpond.people.accounts import actions as accounts
from millpond.people.vault import SecretBox, open_local_key, open_own_box
from millpond.storage.database import Database

BOX = SecretBox(b"b" * 32)


def test_keys_lie_in_files_for_their_owner_alone(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    sealed = open_own_box(database, folder).seal("p", "N", "v")
    assert open_own_box(database, folder).open("p", "N", sealed) == "v"
    assert open_local_key(folder) == open_local_key(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    (folder / "local.key").chmod(0o644)
    with pytest.raises(ConflictError, match="Others than its owner"):
        open_local_key(folder)
    (folder / "secrets.key").write_bytes(b"short")
    with pytest.raises(ConflictError, match="32 bytes"):
        open_own_box(database, folder)


def test_secrets_of_before_are_opened_with_their_own_key_alone(
    database: Database, tmp_path: Path
) -> None:
    """A database of an older Millpond keeps no fingerprint: the newest secret decides."""
    user = database.change(lambda tx: accounts.add_user(tx, SYSTEM, "ann"))
    ann = Actor(user.id, user.name)
    database.change(lambda tx: actions.add_project(tx, ann, "birds"))
    database.change(lambda tx: actions.set_secret(tx, ann, "birds", "API_KEY", "x", box=BOX))
    with pytest.raises(ConflictError, match=r"secrets\.key is missing"):
        open_own_box(database, tmp_path)
    path = tmp_path / "secrets.key"
    path.write_bytes(b"o" * 32)
    path.chmod(0o600)
    with pytest.raises(ConflictError, match="holds another key"):
        open_own_box(database, tmp_path)
    path.write_bytes(b"b" * 32)
    open_own_box(database, tmp_path)
    path.write_bytes(b"n" * 32)
    with pytest.raises(ConflictError, match="fingerprint"):
        open_own_box(database, tmp_path)
    open_own_box(database, tmp_path, accept_new=True)
    newest = database.read(lambda tx: list_entries(tx, None)).items[0]
    assert newest.verb == "secret.key.replaced"
    open_own_box(database, tmp_path)
