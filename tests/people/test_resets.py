"""Forgotten passwords: links by mail or by hand, good once, in actions, over HTTP and in pages."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from millpond.audit.actions import list_entries
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotSignedInError,
    TooManyError,
)
from millpond.jobs import actions as jobs
from millpond.jobs.mail import post_letter
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import tasks as sign_ins
from millpond.people.accounts.resets import actions, rules, tasks
from millpond.people.accounts.resets.tables import password_reset
from millpond.people.letters import Letter
from millpond.people.passwords import Passwords
from millpond.people.values import Device
from millpond.people.vault import SecretBox
from millpond.storage.database import Database, Transaction

PASSWORDS = Passwords(passes=1, memory_kib=64)
OLD, NEW = "correct horse battery", "staple of the new kind"
URL = "https://pond.example/"
HERE = Device("10.0.0.1")
ROOT = Actor("user_root", "root", is_admin=True)


class Letterbox:
    """Takes letters as they come."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def __call__(self, tx: Transaction, letter: Letter) -> None:
        self.letters.append(letter)


@pytest.fixture
def post() -> Letterbox:
    return Letterbox()


def add(database: Database, name: str, email: str | None = None) -> Actor:
    hashed = PASSWORDS.hash(OLD)
    user = database.change(
        lambda tx: accounts.add_user(tx, SYSTEM, name, email=email, password_hash=hashed)
    )
    return Actor(user.id, name)


def close(database: Database, name: str, *, is_disabled: bool = True) -> None:
    def change(tx: Transaction) -> None:
        if accounts.get_setup_state(tx).is_needed:  # The last administrator is never closed.
            accounts.add_user(tx, SYSTEM, "root", is_admin=True)
        accounts.change_user(tx, ROOT, name, is_disabled=is_disabled)

    database.change(change)


def ask(database: Database, who: str, post: Letterbox | None, address: str = "10.0.0.1") -> None:
    tasks.ask(database.change, who, url=URL, post=post, device=Device(address))


def make(database: Database, name: str) -> str:
    link = database.change(lambda tx: actions.make_link(tx, ROOT, name, url=URL)).link
    return code_of(link)


def code_of(text: str) -> str:
    found = re.search(r"https://pond\.example/reset\?code=(\S+)", text)
    assert found
    return found[1]


def reset(database: Database, code: str, password: str = NEW, address: str = "10.0.0.1") -> Any:
    return tasks.reset(database.change, PASSWORDS, code, password, Device(address))


def sign_in(database: Database, name: str, password: str) -> Any:
    return sign_ins.sign_in(database.change, PASSWORDS, name, password, Device("10.0.0.2"))


def move(database: Database, back: timedelta) -> None:
    """Let a link have been made so much earlier."""
    column = password_reset.c
    with database.transaction() as tx:
        for row in tx.rows(sa.select(column.user_id, column.made_at, column.expires_at)):
            values = {"made_at": row.made_at - back, "expires_at": row.expires_at - back}
            tx.execute(password_reset.update().where(column.user_id == row.user_id).values(values))


def verbs(database: Database) -> list[str]:
    found = database.read(lambda tx: list_entries(tx, None)).items
    return [entry.verb for entry in reversed(found)]


# By mail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["ann", "ann@lab.example", "Ann@Lab.Example", " ann "])
def test_a_link_by_mail_sets_a_new_password_once(
    database: Database, post: Letterbox, who: str
) -> None:
    ann = add(database, "ann", "ann@lab.example")
    session = sign_in(database, "ann", OLD)
    token = database.change(lambda tx: accounts.add_token(tx, ann, "script"))
    ask(database, who, post)
    (letter,) = post.letters
    assert letter.to == "ann@lab.example"
    code = code_of(letter.text)
    made = reset(database, code)
    actor = database.read(lambda tx: accounts.find_actor(tx, made.text, is_local=False))
    assert actor is not None
    assert actor.name == "ann"
    for text in (session.text, token.text):
        with pytest.raises(NotSignedInError):
            database.read(lambda tx, text=text: accounts.find_actor(tx, text, is_local=False))
    assert sign_in(database, "ann", NEW)
    with pytest.raises(NotSignedInError):
        sign_in(database, "ann", OLD)
    with pytest.raises(NotSignedInError):
        reset(database, code, "another good password")
    assert verbs(database)[-4:-1] == ["user.reset.mailed", "user.password.reset", "session.started"]
    kept = database.read(lambda tx: [str(row) for row in tx.rows(sa.select(password_reset))])
    assert code not in str(kept)


def test_asking_tells_nobody_who_has_an_account(database: Database, post: Letterbox) -> None:
    add(database, "bare")
    gone = add(database, "gone", "gone@lab.example")
    close(database, "gone")
    add(database, "one", "both@lab.example")
    add(database, "two", "both@lab.example")
    for who in ("bare", "gone", gone.user_id, "nobody", "both@lab.example", "%"):
        ask(database, who, post)
    assert not post.letters
    ask(database, "one", post)
    assert len(post.letters) == 1


def test_asking_again_and_again_sends_one_letter(database: Database, post: Letterbox) -> None:
    add(database, "ann", "ann@lab.example")
    ask(database, "ann", post)
    ask(database, "ann", post, "10.0.0.3")
    assert len(post.letters) == 1
    move(database, timedelta(minutes=6))
    ask(database, "ann", post)
    first, second = (code_of(letter.text) for letter in post.letters)
    with pytest.raises(NotSignedInError):
        reset(database, first)
    assert reset(database, second)


def test_asking_too_often_makes_one_wait(database: Database, post: Letterbox) -> None:
    for _ in range(8):
        ask(database, "ann", post)
    with pytest.raises(TooManyError):
        ask(database, "ann", post)
    ask(database, "bob", post)


def test_without_mail_an_administrator_is_asked(database: Database) -> None:
    with pytest.raises(ConflictError) as caught:
        ask(database, "ann", None)
    assert "millpond user reset-link" in caught.value.next_step


def test_the_code_stands_in_no_job(database: Database) -> None:
    add(database, "ann", "ann@lab.example")
    box, sent = SecretBox(b"b" * 32), Letterbox()

    def post(tx: Transaction, letter: Letter) -> None:
        sent(tx, letter)
        post_letter(tx, letter, box=box)

    tasks.ask(database.change, "ann", url=URL, post=post, device=HERE)
    (job,) = database.read(lambda tx: jobs.list_jobs(tx, ROOT)).items
    assert job.kind == "mail"
    assert code_of(sent.letters[0].text) not in str(job.facts)


# By hand ----------------------------------------------------------------------------------------


def test_a_link_by_hand_sets_the_first_password_of_an_account(database: Database) -> None:
    database.change(lambda tx: accounts.add_user(tx, SYSTEM, "newcomer"))
    assert reset(database, make(database, "newcomer"))
    assert sign_in(database, "newcomer", NEW)


def test_only_administrators_hand_links_over(database: Database) -> None:
    ann = add(database, "ann")
    with pytest.raises(NotAllowedError):
        database.change(lambda tx: actions.make_link(tx, ann, "ann", url=URL))
    close(database, "ann")
    with pytest.raises(ConflictError, match="disabled"):
        make(database, "ann")


def test_a_link_ends_when_it_is_old_or_its_account_or_password_changed(database: Database) -> None:
    add(database, "ann")
    old = make(database, "ann")
    move(database, rules.HANDED_LIFE)
    with pytest.raises(NotSignedInError):
        reset(database, old)
    closed = make(database, "ann")
    close(database, "ann")
    with pytest.raises(NotSignedInError):
        reset(database, closed)
    close(database, "ann", is_disabled=False)
    before = make(database, "ann")
    hashed = PASSWORDS.hash(OLD)
    database.change(lambda tx: accounts.set_password(tx, ROOT, "ann", hashed))
    with pytest.raises(NotSignedInError):
        reset(database, before)


def test_a_weak_password_leaves_the_link_good(database: Database) -> None:
    add(database, "ann")
    code = make(database, "ann")
    with pytest.raises(InvalidError):
        reset(database, code, "ann12345678")
    assert reset(database, f" {code} ")


def test_guessing_codes_is_limited(database: Database) -> None:
    add(database, "ann")
    code = make(database, "ann")
    for number in range(8):
        with pytest.raises(NotSignedInError):
            reset(database, f"mr_{number}")
    with pytest.raises(TooManyError):
        reset(database, code)
    assert reset(database, code, address="10.0.0.9")


def test_of_two_at_once_one_sets_the_password(database: Database) -> None:
    add(database, "ann")
    code = make(database, "ann")

    def attempt(number: int) -> bool:
        try:
            reset(database, code, f"{NEW} {number}", f"10.0.1.{number}")
        except NotSignedInError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1


def test_a_second_link_is_made_only_after_a_while() -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert not rules.is_too_soon(None, now)
    assert rules.is_too_soon(now - timedelta(minutes=4), now)
    assert not rules.is_too_soon(now - timedelta(minutes=5), now)


# Pages ------------------------------------------------------------------------------------------


def test_a_link_from_the_administrator_to_a_session(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        assert "/admin/users/viewer/reset-link" in http.get("/admin/users/viewer").text
        shown = http.post("/admin/users/viewer/reset-link")
        assert shown.status_code == 200
        found = re.search(r'data-copy="[^"]*(/reset\?code=[^"&]+)"', shown.text)
        assert found
    with portal_site.browser() as http:
        assert "/reset" in http.get("/sign-in").text
        page = http.get(found[1])
        assert "viewer" in page.text
        code = found[1].partition("code=")[2]
        form = {"code": code, "password": NEW, "again": "something else"}
        other = http.post("/reset/new", data=form)
        assert other.status_code == 422
        assert NEW not in other.text
        assert f'value="{code}"' in other.text
        cross = {"Sec-Fetch-Site": "cross-site"}
        good = {**form, "again": NEW}
        assert http.post("/reset/new", data=good, headers=cross).status_code == 403
        answer = http.post("/reset/new", data=good)
        assert answer.status_code == 303
        assert http.get("/profile").status_code == 200
        assert "is wrong, was used, or is too old" in http.get(found[1]).text
        assert http.post("/reset/new", data=good).status_code == 401


def test_only_an_administrator_makes_links_in_the_browser(portal_site: Any) -> None:
    for name in ("owner", "viewer"):
        with portal_site.browser(name) as http:
            assert http.post("/admin/users/viewer/reset-link").status_code == 403


def test_without_mail_the_page_says_whom_to_ask(portal_site: Any) -> None:
    with portal_site.browser() as http:
        assert "millpond user reset-link" in http.get("/reset").text
        answer = http.post("/reset", data={"name": "viewer"})
        assert answer.status_code == 409
        assert "sends no mail" in answer.text


def test_the_way_by_rest(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        made = http.post("/api/v1/users/viewer/reset-link")
        assert made.status_code == 201
        code = made.json()["link"].partition("code=")[2]
        body = {"code": code, "password": NEW}
        assert http.post("/api/v1/resets/use", json=body).status_code == 201
        assert http.post("/api/v1/resets/use", json=body).status_code == 401
