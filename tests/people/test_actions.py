"""People, their projects and secrets, over a real database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from millpond.audit.actions import list_entries
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.canonical import digest_of
from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    TooManyError,
)
from millpond.people import actions
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import tasks
from millpond.people.accounts.uses import LastUses
from millpond.people.passwords import Passwords
from millpond.people.tables import access_token, local_challenge, project_secret, sign_in_fault
from millpond.people.values import Device, ProjectFilter, local_proof
from millpond.people.vault import SecretBox
from millpond.storage.database import Database

PASSWORDS = Passwords(passes=1, memory_kib=64)
WORDS = "correct horse battery"
BOX = SecretBox(b"b" * 32)
KEY = b"l" * 32


def make_user(
    database: Database, name: str, *, is_admin: bool = False, password: str | None = None
) -> Actor:
    hashed = None if password is None else PASSWORDS.hash(password)
    user = database.change(
        lambda tx: accounts.add_user(tx, SYSTEM, name, is_admin=is_admin, password_hash=hashed)
    )
    return Actor(user.id, user.name, user.is_admin)


def do(
    database: Database, action: Callable[..., Any], actor: Actor, *values: Any, **named: Any
) -> Any:
    return database.change(lambda tx: action(tx, actor, *values, **named))


def sign_in(database: Database, name: str, password: str, address: str = "10.0.0.1") -> Any:
    return tasks.sign_in(database.change, PASSWORDS, name, password, Device(address))


def caller(database: Database, text: str) -> Actor | None:
    return database.read(lambda tx: accounts.find_actor(tx, text, is_local=False))


def verbs(database: Database, project_id: str | None = None) -> list[str]:
    found = database.read(lambda tx: list_entries(tx, project_id)).items
    return [entry.verb for entry in reversed(found)]


@pytest.fixture
def ann(database: Database) -> Actor:
    return make_user(database, "ann", password=WORDS)


@pytest.fixture
def bob(database: Database) -> Actor:
    return make_user(database, "bob")


@pytest.fixture
def root(database: Database) -> Actor:
    return make_user(database, "root", is_admin=True)


# Projects and members ----------------------------------------------------------------------


def test_a_project_is_there_for_its_members_alone(
    database: Database, ann: Actor, bob: Actor
) -> None:
    made = do(database, actions.add_project, ann, "birds", "of the lake")
    assert (made.role, made.is_archived) == ("owner", False)
    assert do(database, actions.open_project, ann, "birds", "member.write").id == made.id
    for name in ("birds", "nothing"):
        with pytest.raises(NotFoundError, match=f"no project '{name}'"):
            do(database, actions.open_project, bob, name, "project.read")
    with pytest.raises(NotFoundError):
        do(database, actions.require, bob, "run.read", made.id)
    assert do(database, actions.list_projects, bob).items == []
    do(database, actions.set_member, ann, "birds", "bob", "viewer")
    assert [p.role for p in do(database, actions.list_projects, bob).items] == ["viewer"]
    do(database, actions.require, bob, "run.read", made.id)
    with pytest.raises(NotAllowedError, match="needs the role editor"):
        do(database, actions.require, bob, "dataset.write", made.id)
    assert verbs(database, made.id) == ["project.added", "member.added"]


def test_a_taken_or_bad_name_is_refused(database: Database, ann: Actor, bob: Actor) -> None:
    do(database, actions.add_project, ann, "birds")
    with pytest.raises(ConflictError, match="taken"):
        do(database, actions.add_project, bob, "birds")
    with pytest.raises(InvalidError):
        do(database, actions.add_project, bob, "Birds!")


def test_a_project_never_loses_its_last_owner(database: Database, ann: Actor, bob: Actor) -> None:
    do(database, actions.add_project, ann, "birds")
    for take in (
        lambda: do(database, actions.set_member, ann, "birds", "ann", "viewer"),
        lambda: do(database, actions.remove_member, ann, "birds", "ann"),
    ):
        with pytest.raises(ConflictError, match="last owner"):
            take()
    do(database, actions.set_member, ann, "birds", "bob", "owner")

    def leave(actor: Actor) -> bool:
        try:
            do(database, actions.remove_member, actor, "birds", actor.name)
        except (ConflictError, NotFoundError, NotAllowedError):
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, [ann, bob])) == [False, True]


def test_members_are_listed_in_pages_and_taken_out(
    database: Database, ann: Actor, bob: Actor
) -> None:
    made = do(database, actions.add_project, ann, "birds")
    do(database, actions.set_member, ann, "birds", "bob", "viewer")
    assert do(database, actions.set_member, ann, "birds", "bob", "editor").role == "editor"
    page = do(database, actions.list_members, ann, "birds", limit=1)
    assert [m.user for m in page.items] == ["ann"]
    page = do(database, actions.list_members, ann, "birds", limit=1, cursor=page.next_cursor)
    assert [(m.user, m.role) for m in page.items] == [("bob", "editor")]
    do(database, actions.remove_member, ann, "birds", "bob")
    with pytest.raises(NotFoundError, match="no member"):
        do(database, actions.remove_member, ann, "birds", "bob")
    with pytest.raises(NotFoundError, match="no user"):
        do(database, actions.set_member, ann, "birds", "carl", "viewer")
    assert verbs(database, made.id)[-2:] == ["member.changed", "member.removed"]


def test_an_archived_project_can_be_read_and_brought_back(database: Database, ann: Actor) -> None:
    made = do(database, actions.add_project, ann, "birds")
    do(database, actions.change_project, ann, "birds", is_archived=True)
    do(database, actions.require, ann, "dataset.read", made.id)
    with pytest.raises(ConflictError) as caught:
        do(database, actions.require, ann, "dataset.write", made.id)
    assert "revive birds" in caught.value.next_step
    with pytest.raises(ConflictError):
        do(database, actions.change_project, ann, "birds", description="x")
    assert not do(database, actions.change_project, ann, "birds", is_archived=False).is_archived
    do(database, actions.require, ann, "dataset.write", made.id)


def test_a_project_is_renamed_and_all_in_it_stays(database: Database, ann: Actor) -> None:
    made = do(database, actions.add_project, ann, "birds")
    do(database, actions.add_project, ann, "fish")
    do(database, actions.set_secret, ann, "birds", "KEY", "value", box=BOX)
    for name in ("fish", "No Name", "new"):
        with pytest.raises((ConflictError, InvalidError)):
            do(database, actions.change_project, ann, "birds", new_name=name)
    renamed = do(database, actions.change_project, ann, "birds", new_name="songbirds")
    assert (renamed.id, renamed.name, renamed.role) == (made.id, "songbirds", "owner")
    with pytest.raises(NotFoundError):
        do(database, actions.open_project, ann, "birds", "project.read")
    kept = database.read(lambda tx: actions.secret_values(tx, made.id, ["KEY"], box=BOX))
    assert kept == {"KEY": "value"}
    newest, *_, first = database.read(lambda tx: list_entries(tx, made.id)).items
    facts = [{"name": n, "description": "", "is_archived": False} for n in ("birds", "songbirds")]
    assert [newest.before_digest, newest.after_digest] == [digest_of(each) for each in facts]
    assert (newest.target, first.target) == ("project/birds", "project/birds")
    assert do(database, actions.add_project, ann, "birds").id != made.id  # The old name is free.


def test_an_administrator_sees_to_projects_without_seeing_their_data(
    database: Database, ann: Actor, root: Actor
) -> None:
    made = do(database, actions.add_project, ann, "birds")
    assert do(database, actions.open_project, root, "birds", "member.write").role == ""
    with pytest.raises(NotAllowedError):
        do(database, actions.require, root, "dataset.read", made.id)
    assert do(database, actions.list_projects, root).items == []
    assert [
        p.name for p in do(database, actions.list_projects, root, ProjectFilter(is_all=True)).items
    ] == ["birds"]
    with pytest.raises(NotAllowedError):
        do(database, actions.list_projects, ann, ProjectFilter(is_all=True))


def test_projects_are_found_by_text_and_by_state(
    database: Database, ann: Actor, bob: Actor, root: Actor
) -> None:
    do(database, actions.add_project, ann, "birds", "Songs of the 100%")
    do(database, actions.add_project, ann, "fish", "Songs too")
    do(database, actions.add_project, bob, "songless")
    do(database, actions.change_project, ann, "fish", is_archived=True)

    def names(actor: Actor, **asked: Any) -> list[str]:
        found = do(database, actions.list_projects, actor, ProjectFilter(**asked))
        return [project.name for project in found.items]

    assert names(ann, text="SONGS") == ["birds", "fish"]
    assert names(ann, text="100%") == ["birds"]
    assert names(ann, is_archived=True) == ["fish"]
    assert names(ann, is_archived=False) == ["birds"]
    assert names(root) == []
    assert names(root, is_all=True, text="song") == ["birds", "fish", "songless"]
    with pytest.raises(NotAllowedError):
        names(ann, is_all=True)


def test_one_sees_what_one_may_do_in_a_project(database: Database, ann: Actor, root: Actor) -> None:
    made = do(database, actions.add_project, ann, "birds")
    assert {"project.write", "run.cancel"} <= actions.permissions_in(ann, made)
    narrow = Actor(ann.user_id, ann.name, scopes=frozenset({"run.*"}))
    assert actions.permissions_in(narrow, made) == {"run.read", "run.cancel"}
    seen = do(database, actions.open_project, root, "birds", "project.read")
    assert "dataset.read" not in actions.permissions_in(root, seen)
    archived = do(database, actions.change_project, ann, "birds", is_archived=True)
    allowed = actions.permissions_in(ann, archived)
    assert "dataset.read" in allowed
    assert "dataset.write" not in allowed


def test_scopes_narrow_what_a_role_allows(database: Database, ann: Actor) -> None:
    made = do(database, actions.add_project, ann, "birds")
    narrow = Actor(ann.user_id, ann.name, scopes=frozenset({"run.read"}))
    do(database, actions.require, narrow, "run.read", made.id)
    with pytest.raises(NotAllowedError, match=r"not for dataset\.read"):
        do(database, actions.require, narrow, "dataset.read", made.id)
    with pytest.raises(NotAllowedError):
        do(database, actions.require, narrow, "project.create")


# Secrets -----------------------------------------------------------------------------------


def test_a_secret_is_kept_encrypted_and_bound_to_its_place(database: Database, ann: Actor) -> None:
    made = do(database, actions.add_project, ann, "birds")
    other = do(database, actions.add_project, ann, "fish")
    do(database, actions.set_secret, ann, "birds", "API_KEY", "first", box=BOX)
    do(database, actions.set_secret, ann, "birds", "API_KEY", "hunter2", box=BOX)
    do(database, actions.set_secret, ann, "fish", "API_KEY", "carp", box=BOX)

    def value(project_id: str) -> Any:
        return database.read(lambda tx: actions.secret_values(tx, project_id, ["API_KEY"], box=BOX))

    assert value(made.id) == {"API_KEY": "hunter2"}
    sealed = database.read(lambda tx: tx.rows(sa.select(project_secret.c.sealed)))
    assert not any(b"hunter2" in bytes(row.sealed) for row in sealed)
    assert [s.name for s in do(database, actions.list_secrets, ann, "birds").items] == ["API_KEY"]
    with database.transaction() as tx:
        stolen = tx.scalar(
            sa.select(project_secret.c.sealed).where(project_secret.c.project_id == made.id)
        )
        tx.execute(
            project_secret.update()
            .where(project_secret.c.project_id == other.id)
            .values(sealed=stolen)
        )
    with pytest.raises(ConflictError, match="cannot be opened"):
        value(other.id)
    do(database, actions.remove_secret, ann, "birds", "API_KEY")
    for gone in (
        lambda: do(database, actions.remove_secret, ann, "birds", "API_KEY"),
        lambda: value(made.id),
    ):
        with pytest.raises(NotFoundError):
            gone()
    with pytest.raises(InvalidError):
        do(database, actions.set_secret, ann, "birds", "api key", "x", box=BOX)
    assert verbs(database, made.id) == [
        "project.added",
        "secret.set",
        "secret.set",
        "secret.removed",
    ]


# Users -------------------------------------------------------------------------------------


def test_the_site_never_loses_its_last_administrator(
    database: Database, root: Actor, ann: Actor
) -> None:
    for change in ({"is_admin": False}, {"is_disabled": True}):
        with pytest.raises(ConflictError, match="last site administrator"):
            do(database, accounts.change_user, root, "root", **change)
    do(database, accounts.change_user, root, "ann", is_admin=True)

    def step_down(name: str) -> bool:
        try:
            do(database, accounts.change_user, SYSTEM, name, is_admin=False)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(step_down, ["ann", "root"])) == [False, True]


def test_users_are_found_by_name_or_address(database: Database, ann: Actor, root: Actor) -> None:
    do(database, accounts.change_user, root, "ann", email="A.Nilsson@example.org")
    for text, names in (("nilsson", ["ann"]), ("N", ["ann"]), ("oo", ["root"]), ("_", [])):
        found = do(database, accounts.list_users, root, text=text, cursor=None, limit=9)
        assert [user.name for user in found.items] == names


def test_users_are_made_listed_and_changed_by_administrators(
    database: Database, root: Actor, ann: Actor
) -> None:
    made = do(database, accounts.add_user, root, "carl", email="c@example.org")
    assert do(database, accounts.get_user, root, "carl") == made
    with pytest.raises(ConflictError, match="already"):
        do(database, accounts.add_user, root, "carl")
    with pytest.raises(InvalidError):
        do(database, accounts.add_user, root, "C", email="nothing")
    with pytest.raises(NotAllowedError):
        do(database, accounts.add_user, ann, "dora")
    with pytest.raises(NotFoundError):
        do(database, accounts.get_user, root, "dora")
    page = do(database, accounts.list_users, root, cursor=None, limit=2)
    assert [u.name for u in page.items] == ["ann", "carl"]
    page = do(database, accounts.list_users, root, cursor=page.next_cursor, limit=2)
    assert [u.name for u in page.items] == ["root"]
    assert do(database, accounts.change_me, ann, email="a@b").email == "a@b"
    assert verbs(database)[-2:] == ["user.added", "user.changed"]


# Signing in --------------------------------------------------------------------------------


def test_a_password_gives_a_session(database: Database, ann: Actor) -> None:
    made = sign_in(database, "ann", WORDS)
    assert made.text.startswith("mp_")
    found = caller(database, made.text)
    assert found is not None
    assert (found.name, found.scopes, found.token_id) == ("ann", None, made.token.id)
    kept = database.read(lambda tx: tx.rows(sa.select(access_token)))
    assert made.text not in str(kept)
    assert made.token.expires_at - made.token.made_at == timedelta(days=14)
    assert "session.started" in verbs(database)


def test_wrong_unknown_disabled_and_without_password_get_one_answer(
    database: Database, ann: Actor, bob: Actor, root: Actor
) -> None:
    make_user(database, "dora", password=WORDS)
    do(database, accounts.change_user, root, "dora", is_disabled=True)
    said = set()
    for name, password in [("ann", "wrong words"), ("nobody", WORDS), ("bob", ""), ("dora", WORDS)]:
        with pytest.raises(NotSignedInError) as caught:
            sign_in(database, name, password)
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_unknown_user_costs_a_hash_as_well(database: Database, ann: Actor) -> None:
    class Counting(Passwords):
        asked = 0

        def is_right(self, hashed: str | None, password: str) -> bool:
            self.asked += 1
            return super().is_right(hashed, password)

    counting = Counting(passes=1, memory_kib=64)
    for name in ("ann", "nobody"):
        with pytest.raises(NotSignedInError):
            tasks.sign_in(database.change, counting, name, "wrong words", Device("10.0.0.1"))
    assert counting.asked == 2


def test_guessing_is_slowed_without_locking_the_right_person_out(
    database: Database, ann: Actor
) -> None:
    for _ in range(8):
        with pytest.raises(NotSignedInError):
            sign_in(database, "ann", "wrong words", "10.6.6.6")
    with pytest.raises(TooManyError) as caught:
        sign_in(database, "ann", WORDS, "10.6.6.6")
    assert caught.value.retry_after_seconds > 0
    assert sign_in(database, "ann", WORDS, "10.0.0.1")
    with database.transaction() as tx:
        old = tx.now - timedelta(minutes=16)
        tx.execute(sign_in_fault.update().values(at=old))
    assert sign_in(database, "ann", WORDS, "10.6.6.6")


def test_many_guesses_at_once_do_not_slip_through(database: Database, ann: Actor) -> None:
    def guess(_: int) -> type[Exception]:
        try:
            sign_in(database, "ann", "wrong words")
        except (NotSignedInError, TooManyError) as fault:
            return type(fault)
        raise AssertionError

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(guess, range(16)))
    assert answers.count(NotSignedInError) == 8


def test_an_address_that_tries_many_names_must_wait(database: Database) -> None:
    for number in range(50):
        with pytest.raises(NotSignedInError):
            sign_in(database, f"user{number}", "wrong words")
    with pytest.raises(TooManyError):
        sign_in(database, "another", "wrong words")


def test_expired_withdrawn_and_disabled_say_so(database: Database, ann: Actor, root: Actor) -> None:
    made = sign_in(database, "ann", WORDS)
    me = caller(database, made.text)
    assert me is not None
    do(database, accounts.change_user, root, "ann", is_disabled=True)
    with pytest.raises(NotSignedInError, match="disabled"):
        caller(database, made.text)
    do(database, accounts.change_user, root, "ann", is_disabled=False)
    do(database, accounts.sign_out, me)
    with pytest.raises(NotSignedInError, match="withdrawn"):
        caller(database, made.text)
    with database.transaction() as tx:
        tx.execute(access_token.update().values(withdrawn_at=None, expires_at=tx.now))
    with pytest.raises(NotSignedInError, match="expired"):
        caller(database, made.text)
    assert caller(database, "mp_nonsense") is None
    assert caller(database, "\udcff") is None


def test_a_new_password_ends_other_sessions(database: Database, ann: Actor, root: Actor) -> None:
    one, two = sign_in(database, "ann", WORDS), sign_in(database, "ann", WORDS)
    me = caller(database, one.text)
    assert me is not None
    change = database.change
    with pytest.raises(NotAllowedError, match="old password"):
        tasks.change_own_password(change, PASSWORDS, me, "wrong words", "a new long one")
    with pytest.raises(InvalidError):
        tasks.change_own_password(change, PASSWORDS, me, WORDS, "ann")
    tasks.change_own_password(change, PASSWORDS, me, WORDS, "a new long one")
    assert caller(database, one.text)
    with pytest.raises(NotSignedInError):
        caller(database, two.text)
    assert sign_in(database, "ann", "a new long one")
    do(database, accounts.set_password, root, "ann", PASSWORDS.hash(WORDS))
    with pytest.raises(NotSignedInError):
        caller(database, one.text)
    assert sign_in(database, "ann", WORDS)


# API tokens --------------------------------------------------------------------------------


def test_a_token_is_scoped_and_expires(database: Database, ann: Actor) -> None:
    made = do(database, accounts.add_token, ann, "ci", scopes=["run.*"])
    found = caller(database, made.text)
    assert found is not None
    assert found.scopes == {"run.*"}
    assert do(database, accounts.get_me, found).scopes == ["run.*"]
    assert [
        t.name for t in do(database, accounts.list_tokens, ann, cursor=None, limit=9).items
    ] == ["ci"]
    do(database, accounts.withdraw_token, ann, made.token.id)
    assert do(database, accounts.list_tokens, ann, cursor=None, limit=9).items == []
    with pytest.raises(NotFoundError):
        do(database, accounts.withdraw_token, ann, made.token.id)


def test_a_token_is_withdrawn_by_its_owner_alone(
    database: Database, ann: Actor, bob: Actor
) -> None:
    made = do(database, accounts.add_token, ann, "ci")
    with pytest.raises(NotFoundError):
        do(database, accounts.withdraw_token, bob, made.token.id)
    assert caller(database, made.text)


def test_bad_tokens_are_refused_with_every_fault(database: Database, ann: Actor) -> None:
    with database.transaction() as tx:
        far = tx.now + timedelta(days=400)
    with pytest.raises(InvalidError) as caught:
        do(database, accounts.add_token, ann, "ci", scopes=["dog.bark"], expires_at=far)
    assert [fault.field for fault in caught.value.faults] == ["scopes.0", "expires_at"]
    with pytest.raises(InvalidError, match="zone"):
        do(database, accounts.add_token, ann, "ci", expires_at=datetime(2027, 1, 1))  # noqa: DTZ001 - the fault.
    narrow = Actor(ann.user_id, "ann", scopes=frozenset({"token.*", "run.read"}))
    with pytest.raises(NotAllowedError, match="more than itself"):
        do(database, accounts.add_token, narrow, "ci", scopes=["run.*"])
    assert do(database, accounts.add_token, narrow, "ci", scopes=["run.read"])


def test_the_last_use_is_written_once_a_minute(database: Database, ann: Actor) -> None:
    made = do(database, accounts.add_token, ann, "ci")
    uses = LastUses()

    def use() -> datetime | None:
        database.read(lambda tx: accounts.find_actor(tx, made.text, is_local=False, uses=uses))
        database.change(uses.write)
        return do(database, accounts.list_tokens, ann, cursor=None, limit=9).items[0].last_used_at

    first = use()
    assert first is not None
    assert use() == first
    with database.transaction() as tx:
        tx.execute(access_token.update().values(last_used_at=first - timedelta(minutes=2)))
    again = use()
    assert again is not None
    assert again >= first


# The first administrator -------------------------------------------------------------------


def set_up(database: Database, code: str, name: str = "ann", password: str = WORDS) -> Any:
    return tasks.set_up(database.change, PASSWORDS, code, name, password, Device("10.0.0.1"))


def test_the_setup_code_makes_the_first_administrator_once(database: Database) -> None:
    assert database.read(accounts.get_setup_state).is_needed
    stale = database.change(accounts.make_setup_code)
    code = database.change(accounts.make_setup_code)
    assert stale
    assert code
    for wrong in (stale, "", "nonsense"):
        with pytest.raises(NotSignedInError):
            set_up(database, wrong)
    with pytest.raises(InvalidError):
        set_up(database, code, password="ann")
    with pytest.raises(InvalidError):
        set_up(database, code, name="Not Good")
    me = caller(database, set_up(database, code.lower()).text)
    assert me is not None
    assert me.is_admin
    with pytest.raises(ConflictError, match="is set up"):
        set_up(database, code, "bob")
    assert database.change(accounts.make_setup_code) is None
    assert not database.read(accounts.get_setup_state).is_needed
    assert sign_in(database, "ann", WORDS)


def test_setup_codes_cannot_be_guessed_without_end(database: Database) -> None:
    database.change(accounts.make_setup_code)
    for _ in range(8):
        with pytest.raises(NotSignedInError):
            set_up(database, "nonsense")
    with pytest.raises(TooManyError):
        set_up(database, "nonsense")


def challenge(database: Database) -> str:
    return str(database.change(tasks.make_challenge).challenge)


def locally(
    database: Database, text: str, name: str = "", key: bytes = KEY, proof: str = ""
) -> Any:
    proof = proof or local_proof(key, text, name)
    return tasks.sign_in_locally(database.change, KEY, text, name, proof)


def test_whoever_reads_the_key_file_signs_in_as_an_administrator(
    database: Database, root: Actor, ann: Actor
) -> None:
    for name in ("", "root"):
        found = caller(database, locally(database, challenge(database), name).text)
        assert found is not None
        assert found.name == "root"
    with pytest.raises(NotAllowedError, match="no administrator"):
        locally(database, challenge(database), "ann")


def test_a_replayed_late_wrong_or_renamed_proof_is_refused(database: Database, root: Actor) -> None:
    text = challenge(database)
    with pytest.raises(NotSignedInError):
        locally(database, text, key=b"x" * 32)
    with pytest.raises(NotSignedInError):  # A wrong answer uses the challenge up.
        locally(database, text)
    text = challenge(database)
    assert locally(database, text)
    with pytest.raises(NotSignedInError):
        locally(database, text)
    with pytest.raises(NotSignedInError):
        locally(database, "made up")
    text = challenge(database)
    with pytest.raises(NotSignedInError):
        locally(database, text, "root", proof=local_proof(KEY, text, ""))
    text = challenge(database)
    with database.transaction() as tx:
        tx.execute(local_challenge.update().values(expires_at=tx.now))
    with pytest.raises(NotSignedInError):
        locally(database, text)


def test_on_a_new_installation_the_local_caller_becomes_the_first_administrator(
    database: Database,
) -> None:
    with pytest.raises(ConflictError, match="no administrator"):
        locally(database, challenge(database))
    found = caller(database, locally(database, challenge(database), "ann").text)
    assert found is not None
    assert found.is_admin
    tasks.change_own_password(database.change, PASSWORDS, found, None, WORDS)
    assert sign_in(database, "ann", WORDS)


def test_challenges_do_not_pile_up(database: Database) -> None:
    for _ in range(200):
        challenge(database)
    with pytest.raises(TooManyError):
        challenge(database)
