"""Invitations and signing up: over a database, by REST and in the browser."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conftest import serve_portal

from millpond.audit.actions import list_entries
from millpond.client.client import Client
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    TooManyError,
)
from millpond.people import actions as people
from millpond.people.accounts import actions as accounts
from millpond.people.invitations import actions, tasks
from millpond.people.invitations.tables import invitation
from millpond.people.invitations.values import NewInvitation
from millpond.people.passwords import Passwords
from millpond.people.values import Device, NewToken
from millpond.storage.database import Database

WORDS, URL = "correct horse battery", "http://127.0.0.1:1"
PASSWORDS = Passwords(passes=1, memory_kib=64)


class House:
    """A site with an administrator and a project's owner."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as tx:
            root = accounts.add_user(tx, SYSTEM, "root", is_admin=True)
            owner = accounts.add_user(tx, SYSTEM, "owner")
            self.root = Actor(root.id, "root", is_admin=True)
            self.owner = Actor(owner.id, "owner", is_admin=False)
            self.project_id = people.add_project(tx, self.owner, "birds").id

    def invite(self, **more: Any) -> NewInvitation:
        return self.database.change(lambda tx: actions.invite(tx, self.root, URL, **more))

    def invite_into(self, role: str = "editor", **more: Any) -> NewInvitation:
        return self.database.change(
            lambda tx: actions.invite_into(tx, self.owner, "birds", role, URL, **more)
        )

    def sign_up(
        self, name: str, code: str | None, policy: str = "invitation", password: str = WORDS
    ) -> NewToken:
        device = Device("10.0.0.1", "")
        return tasks.sign_up(
            self.database.change, PASSWORDS, policy, code, name, password, None, device
        )

    def actor_of(self, made: NewToken) -> Actor:
        found = self.database.read(lambda tx: accounts.find_actor(tx, made.text, is_local=False))
        assert found
        return found


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


def test_an_invitation_makes_account_and_membership_once(house: House) -> None:
    made = house.invite_into("editor", email="ann@lab.example")
    assert made.link == f"{URL}/sign-up?invitation={made.code}"
    actor = house.actor_of(house.sign_up("ann", made.code))
    project = house.database.read(
        lambda tx: people.open_project(tx, actor, "birds", "dataset.write")
    )
    assert project.role == "editor"
    me = house.database.read(lambda tx: accounts.get_me(tx, actor))
    assert me.user.email == "ann@lab.example"
    with pytest.raises(NotFoundError, match="used"):
        house.sign_up("ben", made.code)
    entries = house.database.read(
        lambda tx: list_entries(tx, house.project_id, cursor=None, limit=50)
    )
    verbs = [entry.verb for entry in entries.items]
    assert {"invitation.made", "invitation.accepted", "member.added"} <= set(verbs)
    assert made.code not in str(entries)


def test_the_code_itself_is_kept_nowhere(house: House) -> None:
    made = house.invite()
    kept = house.database.read(lambda tx: [tuple(row) for row in tx.rows(sa.select(invitation))])
    assert made.code not in str(kept)


def test_a_fault_leaves_invitation_and_site_as_they_were(house: House) -> None:
    made = house.invite_into()
    with pytest.raises(InvalidError) as caught:
        house.sign_up("Ann!", made.code, password="short")
    assert {fault.field for fault in caught.value.faults} == {"name", "password"}
    with pytest.raises(ConflictError):
        house.sign_up("owner", made.code)
    assert house.sign_up("ann", made.code)


def test_of_many_who_use_one_link_at_once_one_gets_in(house: House) -> None:
    code = house.invite_into().code

    def attempt(number: int) -> bool:
        try:
            house.sign_up(f"ann{number}", code)
        except MillpondError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
    users = house.database.read(
        lambda tx: accounts.list_users(tx, house.root, text="ann", cursor=None, limit=9)
    )
    assert len(users.items) == 1


def test_an_invitation_ends_with_its_time_and_when_withdrawn(house: House) -> None:
    old, other = house.invite(days=1), house.invite()
    with house.database.transaction() as tx:
        past = tx.now - timedelta(seconds=1)
        of_old = invitation.c.id == old.invitation.id
        tx.execute(invitation.update().where(of_old).values(expires_at=past))
        actions.withdraw(tx, house.root, other.invitation.id)
    for code in (old.code, other.code, "mpi_wrong"):
        with pytest.raises(NotFoundError):
            house.sign_up("ann", code)
    with pytest.raises(NotFoundError):
        house.database.change(lambda tx: actions.withdraw(tx, house.root, other.invitation.id))


def test_an_invitation_is_as_good_as_whoever_made_it(house: House) -> None:
    change = house.database.change
    code = house.invite_into().code
    change(lambda tx: people.set_member(tx, house.root, "birds", "root", "owner"))
    change(lambda tx: people.set_member(tx, house.root, "birds", "owner", "viewer"))
    with pytest.raises(NotFoundError):
        house.sign_up("ann", code)
    change(lambda tx: people.set_member(tx, house.root, "birds", "owner", "owner"))
    change(lambda tx: accounts.change_user(tx, house.root, "owner", is_disabled=True))
    with pytest.raises(NotFoundError):
        house.sign_up("ann", code)
    change(lambda tx: accounts.change_user(tx, house.root, "owner", is_disabled=False))
    assert house.sign_up("ann", code)


def test_who_has_an_account_joins_with_it_and_never_loses_a_role(house: House) -> None:
    change = house.database.change
    ann = house.actor_of(house.sign_up("ann", house.invite().code))
    made = house.invite_into("viewer")
    assert change(lambda tx: actions.accept(tx, ann, made.code)).project == "birds"
    again = house.invite_into("viewer")
    with pytest.raises(ConflictError, match="member"):
        change(lambda tx: actions.accept(tx, house.owner, again.code))
    assert house.sign_up("ben", again.code)  # It was not used up.
    of_site = house.invite()
    with pytest.raises(ConflictError, match="no account yet"):
        change(lambda tx: actions.accept(tx, ann, of_site.code))


@pytest.mark.parametrize("policy", ["open", "invitation", "closed"])
def test_the_policy_decides(house: House, policy: str) -> None:
    code = house.invite().code
    if policy == "open":
        assert house.sign_up("ben", None, policy)
    else:
        with pytest.raises(NotAllowedError):
            house.sign_up("ben", None, policy)
    if policy == "closed":
        with pytest.raises(NotAllowedError):
            house.sign_up("ann", code, policy)
    else:
        assert house.sign_up("ann", code, policy)


def test_guessing_codes_must_wait(house: House) -> None:
    for _ in range(8):
        with pytest.raises(NotFoundError):
            house.sign_up("ann", "mpi_wrong")
    with pytest.raises(TooManyError):
        house.sign_up("ann", house.invite().code)


def test_a_viewer_invites_nobody(house: House) -> None:
    change = house.database.change
    ann = house.actor_of(house.sign_up("ann", house.invite_into("viewer").code))
    with pytest.raises(NotAllowedError):
        change(lambda tx: actions.invite_into(tx, ann, "birds", "viewer", URL))
    with pytest.raises(NotAllowedError):
        change(lambda tx: actions.invite(tx, house.owner, URL))
    with pytest.raises(NotAllowedError):
        change(lambda tx: actions.list_invitations(tx, ann, "birds", cursor=None, limit=9))


def test_from_invitation_to_member_in_the_browser(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        assert "Invite somebody" in http.get("/projects/birds/members").text
        path = "/projects/birds/invitations"
        assert "No invitation waits" in http.get(path).text
        bad = http.post(path, data={"role": "viewer", "email": "nowhere"})
        assert bad.status_code == 422
        assert 'id="invite-email-fault"' in bad.text
        made = http.post(path, data={"role": "editor", "email": "", "days": "7"})
        link = re.search(r"/sign-up\?invitation=[\w-]+", made.text)
        assert link
        assert link[0] not in http.get(path).text
    with portal_site.browser("viewer") as http:
        assert http.get(path).status_code == 403
        assert "Join as viewer" in http.get(link[0]).text
    with portal_site.browser() as http:
        shown = http.get(link[0])
        assert "owner invites you into the project <strong>birds</strong>" in shown.text
        code = link[0].partition("=")[2]
        form = {"invitation": code, "name": "ann", "password": WORDS, "again": WORDS}
        differs = http.post("/sign-up", data={**form, "again": "x"})
        assert 'id="field-again-fault"' in differs.text
        assert 'value="ann"' in differs.text
        taken = http.post("/sign-up", data={**form, "name": "owner"})
        assert taken.status_code == 409
        assert http.post("/sign-up", data=form).headers["location"] == "/"
        assert http.get("/projects/birds").status_code == 200
        http.cookies.clear()
        assert "wrong, used, withdrawn or too old" in http.get(link[0]).text
        assert "needs an invitation" in http.get("/sign-up").text
        assert "Make an account" not in http.get("/sign-in").text


def test_an_invitation_is_joined_and_withdrawn_in_the_browser(portal_site: Any) -> None:
    with portal_site.browser("owner") as http:
        made = http.post("/projects/birds/invitations", data={"role": "viewer"}).text
        code = re.search(r"invitation=([\w-]+)", made)
        assert code
        gone = http.post("/projects/birds/invitations", data={"role": "viewer"}).text
        ids = re.findall(r"invitations/(\w+)/withdraw", gone)
        assert http.post(f"/projects/birds/invitations/{ids[0]}/withdraw").status_code == 303
    with portal_site.browser("stranger") as http:
        joined = http.post("/invitations/accept", data={"code": code[1]})
        assert joined.headers["location"] == "/projects/birds"
        assert http.get("/projects/birds").status_code == 200
        assert http.post("/invitations/accept", data={"code": "wrong"}).status_code == 404
    with portal_site.browser("root") as http:
        assert "/sign-up?invitation=" in http.post("/admin/invitations", data={}).text
        [one] = re.findall(r"invitations/(\w+)/withdraw", http.get("/admin/invitations").text)
        assert http.post(f"/admin/invitations/{one}/withdraw").status_code == 303


def test_invitations_by_the_sdk(portal_site: Any) -> None:
    url = portal_site.url
    with Client(url, portal_site.token("owner"), project="birds", environ={}) as owner:
        made = owner.invitations.make_into("viewer")
        [one] = owner.invitations.list_into()
        assert (one.id, one.role, one.project) == (made.invitation.id, "viewer", "birds")
        with Client(url, "none", environ={}) as nobody:
            assert nobody.invitations.look().policy == "invitation"
            found = nobody.invitations.look(made.code).invitation
            assert found
            assert found.project == "birds"
            text = nobody.invitations.sign_up("ann", WORDS, code=made.code).text
        other = owner.invitations.make_into("editor")
        owner.invitations.withdraw_into(other.invitation.id)
        third = owner.invitations.make_into("editor")
        with Client(url, portal_site.token("stranger"), environ={}) as stranger:
            assert stranger.invitations.accept(third.code).role == "editor"
        assert not owner.invitations.list_into()
    with Client(url, text, environ={}) as ann:
        assert [project.name for project in ann.projects.list()] == ["birds"]
    with Client(url, portal_site.token("root"), environ={}) as root:
        made = root.invitations.make(email="b@lab.example", days=2)
        assert [one.email for one in root.invitations.list()] == ["b@lab.example"]
        root.invitations.withdraw(made.invitation.id)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_anybody_makes_an_account_where_that_is_open(database: Database, tmp_path: Path) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    settings = {"MILLPOND_DATABASE_URL": url, "MILLPOND_PEOPLE_SIGN_UP": "open"}
    with serve_portal(settings, tmp_path / "data") as site, site.browser() as http:
        assert 'href="/sign-up"' in http.get("/sign-in").text
        form = {"name": "ann", "password": WORDS, "again": WORDS}
        assert http.post("/sign-up", data=form).headers["location"] == "/"
        assert "Welcome, ann." in http.get("/").text
