"""One's own account in the browser: address, password, sessions, tokens."""

import re
from typing import Any

import pytest

from millpond.client.client import Client
from millpond.people.accounts import actions
from millpond.people.accounts.rules import describe_agent
from millpond.people.values import Device

WORDS, NEW = "correct horse battery", "quite another phrase"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    ("agent", "wanted"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
                " Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0"
            ),
            "Edge on Windows",
        ),
        (
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML,"
                " like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
            ),
            "Safari on iPhone",
        ),
        (
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko)"
                " Chrome/140.0.0.0 Mobile Safari/537.36"
            ),
            "Chrome on Android",
        ),
        ("python-httpx/0.28", "Command line or Python"),
        ("curl/8.0", "curl"),
        ("", "Unknown"),
        ("<script>", "Unknown"),
    ],
)
def test_a_browser_is_named_in_short(agent: str, wanted: str) -> None:
    assert describe_agent(agent) == wanted


def give_password(site: Any, name: str) -> None:
    hashed, root = site.house.passwords.hash(WORDS), site.actor("root")
    site.database.change(lambda tx: actions.set_password(tx, root, name, hashed))


def test_sessions_say_where_from_and_are_ended_one_by_one(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser("viewer") as here, portal_site.browser() as there:
        form = {"name": "viewer", "password": WORDS}
        there.post("/sign-in", data=form, headers={"User-Agent": FIREFOX})
        assert there.get("/profile/sessions").status_code == 200
        text = here.get("/profile/sessions").text
        assert "Firefox on Linux" in text
        assert "127.0.0.1" in text
        assert text.count("this one</span>") == 1
        ends = re.findall(r"/profile/sessions/(\w+)/end", text)
        assert len(ends) == 2
        said = here.post(f"/profile/sessions/{ends[0]}/end")  # The newest first.
        assert said.headers["location"] == "/profile/sessions"
        assert there.get("/profile").headers["location"].startswith("/sign-in")
        with portal_site.browser("editor") as other:
            assert other.post(f"/profile/sessions/{ends[1]}/end").status_code == 404
        assert here.post(f"/profile/sessions/{ends[1]}/end").headers["location"] == "/sign-in"
        assert here.get("/profile").status_code == 303


def test_signing_out_everywhere_ends_all_sessions_and_no_token(portal_site: Any) -> None:
    root = portal_site.actor("root")
    token = portal_site.database.change(lambda tx: actions.add_token(tx, root, "kept")).text
    with portal_site.browser("root") as here, portal_site.browser("root") as there:
        assert there.get("/profile").status_code == 200
        answer = here.post("/profile/sign-out-everywhere")
        assert answer.headers["location"] == "/sign-in"
        assert here.get("/profile").status_code == 303
        assert there.get("/profile").status_code == 303
    with Client(portal_site.url, token, environ={}) as client:
        assert client.account.sessions() == []
        assert client.account.me().user.name == "root"


def test_sessions_over_rest(portal_site: Any) -> None:
    viewer = portal_site.users["viewer"]
    device = Device("10.1.2.3", FIREFOX)
    make = portal_site.database.change
    made = make(lambda tx: actions.add_session(tx, viewer, "password", device))
    with Client(portal_site.url, made.text, environ={}) as client:
        [one] = client.account.sessions()
        assert (one.device, one.address, one.is_current) == ("Firefox on Linux", "10.1.2.3", True)
        client.account.end_sessions()
    with portal_site.browser("viewer") as http:
        assert http.get("/profile").status_code == 200  # A new one is good.


def test_the_address_is_changed_and_forgotten(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        bad = http.post("/profile", data={"email": "nowhere"})
        assert bad.status_code == 422
        assert 'value="nowhere"' in bad.text
        assert http.post("/profile", data={"email": "v@b.example"}).status_code == 303
        assert 'value="v@b.example"' in http.get("/profile").text
        http.post("/profile", data={"email": ""})
        assert "v@b.example" not in http.get("/profile").text


def test_the_password_is_changed_with_the_old_one(portal_site: Any) -> None:
    give_password(portal_site, "viewer")
    with portal_site.browser("viewer") as http, portal_site.browser("viewer") as other:
        path, form = "/profile/password", {"old": WORDS, "new": NEW, "again": NEW}
        wrong = http.post(path, data={**form, "old": "something else"})
        assert wrong.status_code == 403
        assert "The old password is wrong" in wrong.text
        differs = http.post(path, data={**form, "again": WORDS})
        assert 'id="field-again-fault"' in differs.text
        weak = http.post(path, data={**form, "new": "short", "again": "short"})
        assert 'id="field-new-fault"' in weak.text
        assert NEW not in wrong.text + differs.text + weak.text
        assert http.post(path, data=form).headers["location"] == "/profile"
        assert http.get("/profile").status_code == 200
        assert other.get("/profile").status_code == 303
    with portal_site.browser() as http:
        assert http.post("/sign-in", data={"name": "viewer", "password": NEW}).status_code == 303


def test_a_token_is_shown_once_does_what_it_may_and_is_withdrawn(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        form = {"name": "laptop", "days": "30", "limit": "some", "scopes": ["run.read"]}
        made = http.post("/profile/tokens", data=form)
        text = re.search(r"mp_[\w-]+", made.text)
        assert text
        assert f"millpond login {portal_site.url} --with-token" in made.text
        shown = http.get("/profile/tokens").text
        assert text[0] not in shown
        assert "laptop" in shown
        with Client(portal_site.url, text[0], environ={}) as client:
            assert client.account.me().scopes == ["run.read"]
        [withdraw] = re.findall(r"/profile/tokens/\w+/withdraw", shown)
        assert http.post(withdraw).status_code == 303
        assert "laptop" not in http.get("/profile/tokens").text
        none = http.post("/profile/tokens", data={"name": "x", "limit": "some"})
        assert none.status_code == 422
        assert "names nothing that the token may do" in none.text
        bad = http.post("/profile/tokens", data={**form, "name": "", "days": "9999"})
        assert bad.status_code == 422
        assert 'value="run.read" checked' in bad.text


def test_each_page_of_ones_account_is_called_what_its_tab_says(portal_site: Any) -> None:
    with portal_site.browser("viewer") as http:
        tabs = re.findall(
            r'class="nav-link[^"]*" href="(/profile[^"]*)"[^>]*>([^<]+)<', http.get("/profile").text
        )
        assert len(tabs) == 5
        for path, label in tabs:
            heading = re.search(r"<h1[^>]*>([^<]+)</h1>", http.get(path).text)
            assert heading
            assert label.strip().lower() in heading[1].lower()
