import pytest

from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import NotAllowedError
from millpond.people.accounts import actions, store, tasks
from millpond.people.passwords import Passwords


def test_a_token_with_scopes_does_not_become_a_password(database):
    user = database.change(lambda tx: actions.add_user(tx, SYSTEM, "ana", is_admin=True))
    narrow = Actor(user.id, "ana", is_admin=True, scopes=frozenset({"profile.write"}))
    passwords, new = Passwords(passes=1, memory_kib=64), "quite long enough"
    with pytest.raises(NotAllowedError, match="first password"):
        tasks.change_own_password(database.change, passwords, narrow, None, new)
    assert database.read(lambda tx: store.password_of(tx, user.id)) is None
    whole = Actor(user.id, "ana", is_admin=True)
    tasks.change_own_password(database.change, passwords, whole, None, new)
    assert database.read(lambda tx: store.password_of(tx, user.id)) is not None
