"""Signing in through a real provider on loopback, and through bad ones."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey
from tests.people.oidc_provider import CLIENT, SECRET, OidcProvider, serve_provider

from millpond.ground.actor import SYSTEM
from millpond.ground.settings import ProviderSettings
from millpond.people.accounts import actions as accounts
from millpond.people.oidc import rules
from millpond.people.oidc.tables import oidc_visit
from millpond.people.oidc.values import Claims

WITH, BACK, PATH = "/sign-in/with/lab", "/sign-in/back/lab", "/profile/identities"


@pytest.fixture
def provider(portal_site: Any) -> Iterator[OidcProvider]:
    """Give a provider through which people sign in, and may make an account."""
    with serve_provider() as served:
        portal_site.house.settings.oidc["lab"] = ProviderSettings(
            served.issuer, CLIENT, SECRET, label="The Lab", sign_up=True
        )
        yield served


def close_sign_up(site: Any) -> None:
    chosen = site.house.settings.oidc
    chosen["lab"] = replace(chosen["lab"], sign_up=False)


def visit(http: httpx.Client, start: str = WITH) -> str:
    """Go to the provider and give the address by which it sends one back."""
    there = http.get(start)
    assert there.status_code == 303, there.text
    answer = httpx.get(there.headers["location"])
    return answer.headers["location"]


def come_back(http: httpx.Client, start: str = WITH) -> httpx.Response:
    back = visit(http, start)
    return http.get(back, headers={"Sec-Fetch-Site": "cross-site"})


def test_somebody_new_makes_an_account_and_comes_again(
    portal_site: Any, provider: OidcProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.user |= {"preferred_username": "Ann Öhrn@uni.example", "email": "ann@uni.example"}
    provider.user["email_verified"] = True
    with portal_site.browser() as http:
        assert "Sign in with The Lab" in http.get("/sign-in").text
        done = come_back(http, WITH + "?next=/profile")
        assert done.headers["location"] == "/profile"
        assert "ann-hrn" in http.get("/projects").text
    with portal_site.browser() as http:
        come_back(http, WITH + "?next=https://evil.example/")
        assert "not yet" not in http.get(PATH).text
        http.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko Firefox/128.0"
        come_back(http)
        shown = http.get("/profile/sessions").text
        assert "Firefox on Linux" in shown
        assert "127.0.0.1" in shown
    users = portal_site.database.read(lambda tx: accounts.store.list_users(tx, after="", limit=99))
    assert [user.email for user in users if user.name == "ann-hrn"] == ["ann@uni.example"]
    assert SECRET not in caplog.text
    assert "opens" not in caplog.text
    with portal_site.browser("root") as http:
        assert "identity.linked" in http.get("/admin/activity").text


def test_nobody_is_led_elsewhere_afterwards(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser() as http:
        assert come_back(http, WITH + "?next=//evil.example").headers["location"] == "/"
    assert provider.asked.count("/.well-known/openid-configuration") == 1


def test_a_stranger_is_refused_where_accounts_are_not_made(
    portal_site: Any, provider: OidcProvider
) -> None:
    close_sign_up(portal_site)
    # A provider's word for an address is not enough to become whoever has it here.
    change = {"email": "owner@uni.example"}
    database = portal_site.database
    database.change(lambda tx: accounts.change_user(tx, SYSTEM, "owner", **change))
    provider.user |= change | {"email_verified": True, "preferred_username": "owner"}
    with portal_site.browser() as http:
        refused = come_back(http)
        assert refused.status_code == 403
        assert "Nobody here is linked to owner at The Lab" in refused.text
        assert PATH in refused.text
        assert http.get("/").headers["location"].startswith("/sign-in")


def test_a_name_that_is_taken_gets_a_number(portal_site: Any, provider: OidcProvider) -> None:
    provider.user["preferred_username"] = "owner"
    with portal_site.browser() as http:
        come_back(http)
        assert "Signed in as owner-2" in http.get("/projects").text


def test_an_account_is_linked_used_and_unlinked(portal_site: Any, provider: OidcProvider) -> None:
    close_sign_up(portal_site)
    with portal_site.browser("editor") as http:
        assert "Link an account at The Lab" in http.get(PATH).text
        done = come_back(http, PATH + "/link/lab")
        assert done.headers["location"] == PATH
        assert "You can sign in with ann at The Lab" in http.get(PATH).text
        assert come_back(http, PATH + "/link/lab").status_code == 409
    with portal_site.browser("viewer") as http:
        assert come_back(http, PATH + "/link/lab").status_code == 409
    with portal_site.browser() as http:
        assert come_back(http).status_code == 303
        shown = http.get(PATH).text
        assert "Signed in as editor" in shown
        identity = shown.partition(f'action="{PATH}/')[2].partition("/")[0]
        assert http.post(f"{PATH}/{identity}/remove").status_code == 409
        hashed = portal_site.house.passwords.hash("correct horse battery")
        database = portal_site.database
        database.change(lambda tx: accounts.set_password(tx, SYSTEM, "editor", hashed))
    with portal_site.browser("editor") as http:
        assert http.post(f"{PATH}/{identity}/remove").headers["location"] == PATH
        assert http.post(f"{PATH}/{identity}/remove").status_code == 404
    with portal_site.browser() as http:
        assert come_back(http).status_code == 403


def test_a_link_of_another_site_links_nothing(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser("editor") as http:
        cross = {"Sec-Fetch-Site": "cross-site"}
        assert http.get(PATH + "/link/lab", headers=cross).status_code == 403
        del http.headers["Sec-Fetch-Site"]
        assert http.get(PATH + "/link/lab").status_code == 403
        own = {"Referer": portal_site.url + PATH}
        assert http.get(PATH + "/link/lab", headers=own).status_code == 303
    assert "/authorize" not in provider.asked


def test_who_links_must_be_who_comes_back(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser("editor") as http:
        back = visit(http, PATH + "/link/lab")
        http.cookies.set(*portal_site.cookie("viewer"))
        refused = http.get(back)
        assert refused.status_code == 403
        assert "not begun in this browser" in refused.text
    assert "/token" in provider.asked


def test_a_closed_account_stays_closed(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser() as http:
        come_back(http)
    database = portal_site.database
    database.change(lambda tx: accounts.change_user(tx, SYSTEM, "ann", is_disabled=True))
    with portal_site.browser() as http:
        refused = come_back(http)
        assert refused.status_code == 403
        assert "disabled" in refused.text
    assert provider.asked.count("/token") == 2


def test_a_visit_counts_once_in_time_and_in_its_own_browser(
    portal_site: Any, provider: OidcProvider
) -> None:
    with portal_site.browser() as http, portal_site.browser() as other:
        back = visit(http)
        other.get(WITH)
        foreign = other.get(back)
        assert foreign.status_code == 403
        assert "not begun in this browser" in foreign.text
        assert http.get(back).status_code == 403  # The foreign try has ended it.
        back = visit(http)
        assert http.get(back).status_code == 303
        again = http.get(back)
        assert again.status_code == 403
        back = visit(http)
        with portal_site.database.transaction() as tx:
            tx.execute(oidc_visit.update().values(expires_at=tx.now - timedelta(seconds=1)))
        assert http.get(back).status_code == 403
        assert http.get(BACK).status_code == 403
    assert provider.asked.count("/token") == 1


def test_two_tabs_may_be_away_at_once(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser() as http:
        first, second = visit(http), visit(http)
        assert http.get(first).status_code == 303
        assert http.get(second).status_code == 303
    assert provider.asked.count("/token") == 2


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("claims", {"nonce": "another"}, "another visit"),
    ("claims", {"nonce": None}, "another visit"),
    ("claims", {"aud": "another"}, "another client"),
    ("claims", {"aud": [CLIENT, "another"]}, "another client"),
    ("claims", {"azp": "another"}, "another client"),
    ("claims", {"iss": "https://evil.example"}, "another provider"),
    ("claims", {"exp": 1_000_000}, "has expired"),
    ("claims", {"exp": "soon"}, "has expired"),
    ("claims", {"iat": 99_999_999_999}, "in the future"),
    ("claims", {"sub": ""}, "names nobody"),
    ("header", {"alg": "none"}, "not signed in a way that is safe"),
    ("header", {"alg": "HS256"}, "not signed in a way that is safe"),
    ("header", {"kid": "nobody's"}, "does not show"),
    ("refusal", {"error": "access_denied", "error_description": "You <b>may</b> not"}, "&lt;b&gt;"),
    ("refusal", {"error": "x", "iss": "y"}, "it answers"),
    ("refusal", {"code": "made-up"}, "The code is no good"),
    ("refusal", {"code": "x", "iss": "https://evil.example"}, "another provider has answered"),
]


@pytest.mark.parametrize(("what", "wrong", "words"), WRONG, ids=[f"{w[0]} {w[1]}" for w in WRONG])
def test_a_bad_word_is_refused(
    portal_site: Any, provider: OidcProvider, what: str, wrong: dict[str, Any], words: str
) -> None:
    setattr(provider, what, wrong)
    with portal_site.browser() as http:
        refused = come_back(http)
        assert refused.status_code == 403
        assert words in refused.text
        assert http.get("/").headers["location"].startswith("/sign-in")


def test_a_foreign_signature_is_refused(portal_site: Any, provider: OidcProvider) -> None:
    provider.signing = RSAKey.generate_key(2048, {"kid": "first"}, private=True)
    with portal_site.browser() as http:
        refused = come_back(http)
        assert refused.status_code == 403
        assert "signature does not hold" in refused.text


def test_new_keys_of_a_provider_are_fetched(portal_site: Any, provider: OidcProvider) -> None:
    with portal_site.browser() as http:
        assert come_back(http).status_code == 303
        assert come_back(http).status_code == 303
        assert provider.asked.count("/keys") == 1
        provider.rotate("second")
        assert come_back(http).status_code == 303
        assert provider.asked.count("/keys") == 2


def test_names_are_asked_for_where_the_token_has_none(
    portal_site: Any, provider: OidcProvider
) -> None:
    provider.user, provider.more = {"sub": "s-9"}, {"preferred_username": "zoe"}
    with portal_site.browser() as http:
        assert come_back(http).status_code == 303
        assert "Signed in as zoe" in http.get("/projects").text
        provider.more = {"sub": "s-10"}
        refused = come_back(http)
        assert refused.status_code == 403
        assert "two people" in refused.text


def test_a_provider_that_is_away_or_another_one_is_told(
    portal_site: Any, provider: OidcProvider
) -> None:
    chosen = portal_site.house.settings.oidc
    chosen["away"] = replace(chosen["lab"], issuer="http://127.0.0.1:9")
    chosen["slash"] = replace(chosen["lab"], issuer=provider.issuer + "/")
    with portal_site.browser() as http:
        away = http.get("/sign-in/with/away")
        assert away.status_code == 503
        assert "cannot be reached" in away.text
        other = http.get("/sign-in/with/slash")
        assert other.status_code == 503
        assert "it is another one" in other.text
        assert http.get("/sign-in/with/nowhere").status_code == 404
        assert http.get("/sign-in/back/nowhere").status_code == 404


def test_at_the_name_localhost_one_goes_by_the_servers_own(
    portal_site: Any, provider: OidcProvider
) -> None:
    host = {"Host": "localhost:" + portal_site.url.rpartition(":")[2]}
    with portal_site.browser("viewer") as http:
        there = http.get(WITH + "?next=/projects", headers=host).headers["location"]
        assert there == f"{portal_site.url}{WITH}?next=%2Fprojects"
        told = http.get(PATH + "/link/lab", headers=host)
        assert told.status_code == 409
        assert portal_site.url + PATH in told.text
    assert provider.asked == []


def test_linked_accounts_are_listed_and_unlinked_by_programs(
    portal_site: Any, provider: OidcProvider
) -> None:
    with portal_site.browser("editor") as http:
        come_back(http, PATH + "/link/lab")
    token = {"Authorization": f"Bearer {portal_site.token('editor')}"}
    path = portal_site.url + "/api/v1/me/identities"
    found = httpx.get(path, headers=token).json()["items"]
    assert [(one["provider"], one["shown"]) for one in found] == [("lab", "ann")]
    assert provider.issuer not in str(found)
    assert httpx.delete(f"{path}/{found[0]['id']}", headers=token).status_code == 409
    other = {"Authorization": f"Bearer {portal_site.token('viewer')}"}
    assert httpx.delete(f"{path}/{found[0]['id']}", headers=other).status_code == 404


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("Ann", 1, "ann"),
        ("ann@uni.example", 2, "ann-2"),
        ("...", 1, "user"),
        ("", 3, "user-3"),
        ("system", 1, "system-user"),
        ("x" * 60, 12, "x" * 37 + "-12"),
        ("山田", 1, "user"),
        ("O'Neil, P.", 1, "o-neil-p"),
    ],
)
def test_names_are_made_good(name: str, number: int, expected: str) -> None:
    assert rules.name_for(Claims("i", "s", name, None), number) == expected


def test_what_goes_along_tells_nothing_of_the_browser() -> None:
    first, second = rules.ask_of("b" * 43, "one"), rules.ask_of("b" * 43, "two")
    made = {first.nonce, first.verifier, second.nonce, second.verifier}
    assert len(made) == 4
    assert all(len(each) == 43 for each in made)
