"""The whole ceremony of passkeys over HTTP, with a device written out, and what is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.people.authenticator import Authenticator

from millpond.ground.actor import SYSTEM
from millpond.ground.errors import InvalidError
from millpond.people import rules as people_rules
from millpond.people.accounts import actions as accounts
from millpond.people.passkeys import rules
from millpond.people.passkeys.tables import passkey, passkey_challenge

PATH, SIGN_IN = "/profile/passkeys", "/sign-in/passkey"


class Place:
    """A portal as browsers find it at the name ``localhost``."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.host = f"localhost:{urlsplit(site.url).port}"
        self.device = Authenticator(f"http://{self.host}")

    @contextmanager
    def browser(self, who: str = "") -> Iterator[httpx.Client]:
        with self.site.browser(who) as http:
            http.headers.update({"Host": self.host, "HX-Request": "true"})
            yield http

    def make(self, who: str = "viewer", name: str = "my key") -> None:
        with self.browser(who) as http:
            options = http.post(PATH + "/options", json={"name": name})
            assert options.status_code == 200, options.text
            sent = {"name": name, "credential": self.device.make(options.json())}
            kept = http.post(PATH, json=sent)
            assert kept.headers["hx-redirect"] == PATH, kept.text

    def sign(self, http: httpx.Client) -> httpx.Response:
        options = http.post(SIGN_IN + "/options", json={})
        assert options.status_code == 200, options.text
        sent = {"credential": self.device.sign(options.json()), "next": "/projects/birds"}
        return http.post(SIGN_IN, json=sent)

    def log(self) -> str:
        with self.site.browser("root") as http:
            return http.get("/admin/activity").text


@pytest.fixture
def place(portal_site: Any) -> Place:
    return Place(portal_site)


def test_a_passkey_is_made_and_signs_in_without_a_name(place: Place) -> None:
    place.make(name="the blue key")
    with place.browser("viewer") as http:
        shown = http.get(PATH).text
        assert "the blue key" in shown
        assert "not yet" in shown
    with place.browser() as http:
        done = place.sign(http)
        assert done.headers["hx-redirect"] == "/projects/birds"
        assert "HttpOnly" in done.headers["set-cookie"]
        assert "Passkeys" in http.get(PATH).text
        assert "not yet" not in http.get(PATH).text
        http.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko Firefox/128.0"
        assert place.sign(http).status_code == 204  # And again, with a count that went on.
        shown = http.get("/profile/sessions").text
        assert "Firefox on Linux" in shown
        assert "127.0.0.1" in shown


def test_an_answer_counts_once_and_in_its_own_browser_alone(place: Place) -> None:
    place.make()
    with place.browser() as http, place.browser() as other:
        options = http.post(SIGN_IN + "/options", json={}).json()
        cookie = dict(http.cookies)
        sent = {"credential": place.device.sign(options)}
        assert "not asked here" in other.post(SIGN_IN, json=sent).json()["detail"]
        other.post(SIGN_IN + "/options", json={})
        foreign = other.post(SIGN_IN, json=sent)
        assert foreign.status_code == 401
        assert "not asked here" in foreign.json()["detail"]
        assert http.post(SIGN_IN, json=sent).status_code == 204
        http.cookies.update(cookie)
        again = http.post(SIGN_IN, json=sent)
        assert again.status_code == 401
        assert "not asked here" in again.json()["detail"]


def test_a_wrong_answer_uses_its_challenge_up(place: Place) -> None:
    place.make()
    with place.browser() as http:
        options = http.post(SIGN_IN + "/options", json={}).json()
        cookie = dict(http.cookies)
        good = place.device.sign(options)
        bad = good | {"response": good["response"] | {"signature": "AAAA"}}
        wrong = http.post(SIGN_IN, json={"credential": bad})
        assert wrong.status_code == 401
        assert wrong.json()["next_step"]
        http.cookies.update(cookie)
        assert http.post(SIGN_IN, json={"credential": good}).status_code == 401


def test_what_another_page_was_given_is_refused(place: Place) -> None:
    place.device.origin = "https://evil.example"
    with place.browser("viewer") as http:
        options = http.post(PATH + "/options", json={"name": "x"}).json()
        kept = http.post(PATH, json={"name": "x", "credential": place.device.make(options)})
        assert kept.status_code == 401
        assert "origin" in kept.json()["detail"]
    place.device.origin = f"http://{place.host}"
    place.make()
    place.device.origin = "https://evil.example"
    with place.browser() as http:
        assert "origin" in place.sign(http).json()["detail"]


def test_a_challenge_for_somebody_else_or_too_old_is_refused(place: Place) -> None:
    with place.browser("viewer") as http, place.browser("editor") as other:
        options = http.post(PATH + "/options", json={"name": "x"}).json()
        other.cookies.set("millpond_passkey", http.cookies["millpond_passkey"])
        sent = {"name": "x", "credential": place.device.make(options)}
        assert other.post(PATH, json=sent).status_code == 401
        options = http.post(PATH + "/options", json={"name": "x"}).json()
        with place.site.database.transaction() as tx:
            tx.execute(passkey_challenge.update().values(expires_at=tx.now - timedelta(seconds=1)))
        sent = {"name": "x", "credential": place.device.make(options)}
        assert http.post(PATH, json=sent).status_code == 401


def test_a_copy_is_found_out_by_its_count(place: Place) -> None:
    place.make()
    with place.browser() as http:
        assert place.sign(http).status_code == 204
        place.device.count = 0
        copied = place.sign(http)
        assert copied.status_code == 401
        assert "count" in copied.json()["detail"]


def test_a_closed_account_and_a_removed_passkey_sign_nobody_in(place: Place) -> None:
    place.make()
    database = place.site.database
    database.change(lambda tx: accounts.change_user(tx, SYSTEM, "viewer", is_disabled=True))
    with place.browser() as http:
        assert "disabled" in place.sign(http).json()["detail"]
    database.change(lambda tx: accounts.change_user(tx, SYSTEM, "viewer", is_disabled=False))
    with place.browser("viewer") as http:
        passkey_id = http.get(PATH).text.partition(f'action="{PATH}/')[2].partition("/")[0]
        alone = http.post(f"{PATH}/{passkey_id}/remove")
        assert alone.status_code == 409
        assert "last way" in alone.json()["detail"]
        hashed = place.site.house.passwords.hash("correct horse battery")
        database.change(lambda tx: accounts.set_password(tx, SYSTEM, "viewer", hashed))
    with place.browser("viewer") as http:
        assert http.post(f"{PATH}/{passkey_id}/remove").headers["hx-redirect"] == PATH
        assert http.post(f"{PATH}/{passkey_id}/remove").status_code == 404
    with place.browser() as http:
        assert "Nobody here" in place.sign(http).json()["detail"]
    log = place.log()
    assert "passkey.added" in log
    assert "passkey.removed" in log


def test_guessing_is_stopped(place: Place) -> None:
    place.make()
    with place.browser() as http:
        sent = {"credential": place.device.sign({"rpId": "localhost", "challenge": "AAAA"})}
        answers = [http.post(SIGN_IN, json=sent).status_code for _ in range(9)]
        assert answers == [401] * 8 + [429]


def test_passkeys_are_listed_and_removed_by_programs(place: Place) -> None:
    place.make()
    token = {"Authorization": f"Bearer {place.site.token('viewer')}"}
    path = place.site.url + "/api/v1/me/passkeys"
    found = httpx.get(path, headers=token).json()["items"]
    assert [(one["name"], one["place"]) for one in found] == [("my key", "localhost")]
    other = {"Authorization": f"Bearer {place.site.token('owner')}"}
    assert httpx.get(path, headers=other).json()["items"] == []
    assert httpx.delete(f"{path}/{found[0]['id']}", headers=other).status_code == 404


def test_one_device_makes_no_second_passkey_for_anybody(place: Place) -> None:
    place.make("viewer")
    with place.browser("viewer") as http:
        options = http.post(PATH + "/options", json={"name": "again"}).json()
        assert len(options["excludeCredentials"]) == 1
    with place.browser("editor") as http:
        options = http.post(PATH + "/options", json={"name": "theirs"}).json()
        assert options["excludeCredentials"] == []
        taken = {"name": "theirs", "credential": place.device.make(options)}
        assert http.post(PATH, json=taken).status_code == 409


def test_pages_of_others_and_damaged_answers_are_refused(place: Place) -> None:
    with place.browser("viewer") as http:
        assert http.post(PATH + "/options", json={"name": ""}).status_code == 422
        assert http.post(PATH + "/options", content=b"{").status_code == 422
        assert http.post(PATH, json={"name": "x", "credential": {}}).status_code == 422
        options = http.post(PATH + "/options", json={"name": "x"}).json()
        made = place.device.make(options)
        for name in ("clientDataJSON", "attestationObject"):
            bad = made | {"response": made["response"] | {name: "oWFh"}}
            http.post(PATH + "/options", json={"name": "x"})
            assert http.post(PATH, json={"name": "x", "credential": bad}).status_code == 401
        http.headers["Sec-Fetch-Site"] = "cross-site"
        assert http.post(PATH + "/options", json={"name": "x"}).status_code == 403
    with place.browser() as http:
        gone = http.post(PATH + "/options", json={"name": "x"})
        assert gone.headers["hx-redirect"].startswith("/sign-in")


def test_at_a_number_the_page_says_where_to_go(place: Place) -> None:
    with place.site.browser("viewer") as http:
        assert f'href="http://{place.host}{PATH}"' in http.get(PATH).text
        http.headers["HX-Request"] = "true"
        refused = http.post(PATH + "/options", json={"name": "x"})
        assert refused.status_code == 409
        assert place.host in refused.json()["next_step"]


def test_public_keys_alone_are_kept(place: Place) -> None:
    place.make()
    with place.site.database.reading() as tx:
        row = tx.one(passkey.select())
    numbers = place.device.key.private_numbers().private_value.to_bytes(32)
    assert numbers not in bytes(row.public_key)


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("https://m.example", "m.example", ("m.example", "https://m.example")),
        ("https://m.example:8443", "x", ("m.example", "https://m.example:8443")),
        ("https://10.0.0.1", "10.0.0.1", None),
        ("http://m.example", "localhost:1", None),
        ("http://127.0.0.1:1", "localhost:1", ("localhost", "http://localhost:1")),
        ("http://[::1]:1", "localhost:1", ("localhost", "http://localhost:1")),
        ("http://127.0.0.1:1", "127.0.0.1:1", None),
        ("http://127.0.0.1:1", "", None),
    ],
)
def test_where_passkeys_are_good(url: str, host: str, expected: tuple[str, str] | None) -> None:
    found = rules.place_of(url, host)
    assert (found and (found.name, found.origin)) == expected
    with pytest.raises(InvalidError):
        people_rules.refuse("It", rules.faults_of_passkey_name(""))
