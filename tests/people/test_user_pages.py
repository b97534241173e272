"""Pages of the site's users, as an administrator gets them, and nobody else."""

import re
from typing import Any

import pytest

from millpond.people.accounts import tasks
from millpond.people.values import Device

WORDS = "correct horse battery"


def sign_in(site: Any, name: str, password: str) -> Any:
    return tasks.sign_in(
        site.database.change, site.house.passwords, name, password, Device("10.0.0.1")
    )


def test_users_are_listed_and_searched(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        text = http.get("/admin/users").text
        for name in portal_site.people:
            assert f'href="/admin/users/{name}"' in text
        found = http.get("/admin/users", params={"text": "STRA"}).text
        assert "/admin/users/stranger" in found
        assert "/admin/users/owner" not in found
        assert "No user holds" in http.get("/admin/users", params={"text": "<b>"}).text
        first = http.get("/admin/users", params={"limit": 1}).text
        assert re.search(r'href="(/admin/users\?[^"]+)">Next page', first)


def test_a_user_is_made_and_signs_in(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        assert "Make the account" in http.get("/admin/users/new").text
        weak = http.post("/admin/users/new", data={"name": "ann", "password": "short"})
        assert weak.status_code == 422
        assert 'value="ann"' in weak.text
        assert 'value="short"' not in weak.text
        assert 'id="field-password-fault"' in weak.text
        bad = http.post("/admin/users/new", data={"name": "Ann!", "email": "nowhere"})
        assert bad.status_code == 422
        assert 'id="field-name-fault"' in bad.text
        assert 'id="field-email-fault"' in bad.text
        taken = http.post("/admin/users/new", data={"name": "owner"})
        assert taken.status_code == 409
        made = http.post(
            "/admin/users/new", data={"name": "ann", "password": WORDS, "email": "a@b.example"}
        )
        assert made.headers["location"] == "/admin/users/ann"
        shown = http.get("/admin/users/ann").text
        assert "The account ann is made." in shown
        assert "a@b.example" in shown
        assert WORDS not in shown
    assert sign_in(portal_site, "ann", WORDS)


def test_an_account_is_changed_closed_and_opened_again(portal_site: Any) -> None:
    path = "/admin/users/viewer"
    with portal_site.browser("root") as http:
        assert http.post(path, data={"email": "v@b.example"}).status_code == 303
        assert "v@b.example" in http.get(path).text
        assert http.post(path, data={"email": "nowhere"}).status_code == 422
        assert http.post(path, data={"is_disabled": "true"}).status_code == 303
        assert "Let viewer sign in again?" in http.get(path).text
        with portal_site.browser("viewer") as other:
            assert other.get("/").headers["location"].startswith("/sign-in")
        assert http.post(path, data={"is_disabled": "false"}).status_code == 303
        assert http.post(path, data={"is_admin": "true"}).status_code == 303
        assert "Make viewer an ordinary user?" in http.get(path).text
        assert http.post(path, data={"is_admin": "false"}).status_code == 303
        alone = http.post("/admin/users/root", data={"is_admin": "false"})
        assert alone.status_code == 409
        assert "last site administrator" in alone.text
        assert http.get("/admin/users/nobody-here").status_code == 404


def test_a_password_is_set_and_ends_sessions(portal_site: Any) -> None:
    with portal_site.browser("root") as http, portal_site.browser("viewer") as other:
        assert other.get("/").status_code == 200
        weak = http.post("/admin/users/viewer/password", data={"new": "viewer123"})
        assert weak.status_code == 422
        assert "viewer123" not in weak.text
        assert http.post("/admin/users/viewer/password", data={"new": WORDS}).status_code == 303
        assert "signed out everywhere" in http.get("/admin/users/viewer").text
        assert other.get("/").headers["location"].startswith("/sign-in")
    assert sign_in(portal_site, "viewer", WORDS)


@pytest.mark.parametrize("who", ["owner", "stranger"])
def test_nobody_else_sees_users(portal_site: Any, who: str) -> None:
    with portal_site.browser(who) as http:
        for path in ("/admin/users", "/admin/users/new", "/admin/users/root"):
            assert http.get(path).status_code == 403, path
        for path in ("/admin/users/new", "/admin/users/root", "/admin/users/root/password"):
            data = {"name": "x", "is_admin": "false", "new": WORDS}
            assert http.post(path, data=data).status_code == 403, path
        assert "/admin/" not in http.get("/").text
