"""Pages of the way in and out, as a browser gets them."""

import re
from typing import Any

from millpond.people.accounts import actions, store

WORDS = "correct horse battery"


def give_password(site: Any, name: str) -> None:
    hashed = site.house.passwords.hash(WORDS)
    root = site.actor("root")
    site.database.change(lambda tx: actions.set_password(tx, root, name, hashed))


def test_signing_in_leads_where_one_was_going(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser() as http:
        sent = http.get("/projects/birds?x=1")
        assert sent.headers["location"] == "/sign-in?next=%2Fprojects%2Fbirds%3Fx%3D1"
        shown = http.get(sent.headers["location"]).text
        assert 'name="next" value="/projects/birds?x=1"' in shown
        form = {"name": "viewer", "password": WORDS, "next": "/projects/birds?x=1"}
        answer = http.post("/sign-in", data=form)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/projects/birds?x=1"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert http.get("/projects/birds").status_code == 200
        assert http.get("/sign-in?next=/projects").headers["location"] == "/projects"


def test_nobody_is_led_to_another_server(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    for bad in ("https://evil.example/", "//evil.example", "/\\evil.example", "/a\nb"):
        with portal_site.browser() as http:
            shown = http.get("/sign-in", params={"next": bad})
            assert 'name="next" value="/"' in shown.text
            form = {"name": "viewer", "password": WORDS, "next": bad}
            assert http.post("/sign-in", data=form).headers["location"] == "/"
            assert http.get("/sign-in", params={"next": bad}).headers["location"] == "/"


def test_a_wrong_password_keeps_the_name_and_never_the_password(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser() as http:
        for name in ("viewer", "nobody-here"):
            answer = http.post("/sign-in", data={"name": name, "password": "wrong horse"})
            assert answer.status_code == 401
            assert "The name or the password is wrong" in answer.text
            assert f'value="{name}"' in answer.text
            assert "wrong horse" not in answer.text
            assert portal_site.app.state.session_cookie not in http.cookies
        empty = http.post("/sign-in", data={"name": "viewer", "password": ""})
        assert empty.status_code in (401, 422)


def test_many_wrong_passwords_make_one_wait(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser() as http:
        for _ in range(8):
            http.post("/sign-in", data={"name": "viewer", "password": "wrong horse"})
        answer = http.post("/sign-in", data={"name": "viewer", "password": WORDS})
        assert answer.status_code == 429
        assert "Too many wrong tries" in answer.text


def test_a_form_of_another_site_signs_nobody_in_or_out(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser() as http:
        form = {"name": "viewer", "password": WORDS}
        cross = {"Sec-Fetch-Site": "cross-site"}
        assert http.post("/sign-in", data=form, headers=cross).status_code == 403
        assert http.post("/sign-in", data=form).status_code == 303
        assert http.post("/sign-out", headers=cross).status_code == 403
        assert http.get("/projects").status_code == 200


def test_signing_out_ends_the_session_itself(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        name = portal_site.app.state.session_cookie
        token = http.cookies[name]
        answer = http.post("/sign-out")
        assert answer.headers["location"] == "/sign-in"
        assert f'{name}=""; ' in ", ".join(answer.headers.get_list("set-cookie"))
        http.cookies.delete(name)
        assert "You are signed out." in http.get("/sign-in").text
        assert http.post("/sign-out").status_code == 303
        http.cookies.clear()
        http.cookies.set(name, token)
        assert http.get("/projects").headers["location"] == "/sign-in?next=%2Fprojects"


def test_the_first_administrator_is_made_in_the_browser(portal_site: Any) -> None:
    with portal_site.browser() as http:
        assert http.get("/setup").headers["location"] == "/sign-in"
    root = portal_site.users["root"]
    portal_site.database.change(lambda tx: store.change_user(tx, root.id, is_disabled=True))
    code = portal_site.database.change(actions.make_setup_code)
    with portal_site.browser() as http:
        assert http.get("/sign-in").headers["location"] == "/setup"
        assert f'value="{code}"' in http.get(f"/setup?code={code}").text
        form = {"code": code, "name": "ann", "password": WORDS, "again": WORDS}
        differs = http.post("/setup", data={**form, "again": "another"})
        assert differs.status_code == 422
        assert 'id="field-again-fault"' in differs.text
        assert f'value="{code}"' in differs.text
        assert WORDS not in differs.text
        bad = http.post("/setup", data={**form, "name": "Ann!"})
        assert 'id="field-name-fault"' in bad.text
        weak = {**form, "password": "short", "again": "short"}
        assert 'id="field-password-fault"' in http.post("/setup", data=weak).text
        assert http.post("/setup", data={**form, "code": "WRONG"}).status_code == 401
        made = http.post("/setup", data=form)
        assert made.headers["location"] == "/"
        home = http.get("/").text
        assert "you, ann, are its administrator" in home
        assert re.search(r'href="/admin/users"', home)
    with portal_site.browser() as http:
        assert http.post("/setup", data=form).status_code == 409
