"""Leaving a project oneself."""

import pytest

from millpond.audit.actions import list_entries
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, NotAllowedError, NotFoundError
from millpond.people import actions
from millpond.people.accounts import actions as accounts


def make_user(database, name, *, is_admin=False):
    user = database.change(lambda tx: accounts.add_user(tx, SYSTEM, name, is_admin=is_admin))
    return Actor(user.id, user.name, is_admin)


@pytest.fixture
def cast(database):
    """Ann owns the project; bob reads, carl edits, root administers the site."""
    found = {name: make_user(database, name) for name in ("ann", "bob", "carl")}
    found["root"] = make_user(database, "root", is_admin=True)
    with database.transaction() as tx:
        actions.add_project(tx, found["ann"], "birds")
        actions.set_member(tx, found["ann"], "birds", "bob", "viewer")
        actions.set_member(tx, found["ann"], "birds", "carl", "editor")
    return found


def leave(database, actor):
    database.change(lambda tx: actions.leave_project(tx, actor, "birds"))


def entries(database, actor):
    project = database.read(lambda tx: actions.open_project(tx, actor, "birds", "log.read"))
    return database.read(lambda tx: list_entries(tx, project.id)).items


@pytest.mark.parametrize("name", ["bob", "carl"])
def test_any_member_may_leave_and_sees_the_project_no_more(database, cast, name):
    leave(database, cast[name])
    newest = entries(database, cast["ann"])[0]
    assert (newest.verb, newest.target, newest.actor_name) == (
        "member.left",
        f"member/{name}",
        name,
    )
    with pytest.raises(NotFoundError):
        leave(database, cast[name])


def test_the_last_owner_stays_until_there_is_another(database, cast):
    before = len(entries(database, cast["ann"]))
    with pytest.raises(ConflictError, match="'ann' is the last owner") as caught:
        leave(database, cast["ann"])
    assert "someone else an owner" in caught.value.next_step
    assert len(entries(database, cast["ann"])) == before
    database.change(lambda tx: actions.set_member(tx, cast["ann"], "birds", "bob", "owner"))
    leave(database, cast["ann"])
    assert entries(database, cast["bob"])[0].verb == "member.left"


def test_one_may_leave_an_archived_project(database, cast):
    database.change(lambda tx: actions.change_project(tx, cast["ann"], "birds", is_archived=True))
    leave(database, cast["bob"])


def test_who_is_no_member_cannot_leave_and_a_narrow_token_neither(database, cast):
    with pytest.raises(NotAllowedError, match="no member"):
        leave(database, cast["root"])
    narrow = Actor(cast["bob"].user_id, "bob", scopes=frozenset({"run.*"}))
    with pytest.raises(NotAllowedError, match="token"):
        leave(database, narrow)
