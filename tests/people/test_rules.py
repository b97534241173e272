"""Who may do what, and which names and passwords are good."""

from datetime import UTC, datetime, timedelta

import pytest

from millpond.ground.errors import InvalidError
from millpond.people import rules
from millpond.people.rules import Faults

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_each_role_may_do_all_that_the_one_before_may() -> None:
    may = {
        role: {
            p
            for p in rules.PERMISSIONS
            if rules.needs_project(p) and rules.is_allowed_in_role(p, role, is_admin=False)
        }
        for role in rules.ROLES
    }
    assert may["viewer"] < may["editor"] < may["owner"]
    assert "dataset.write" in may["editor"] - may["viewer"]
    assert "member.write" in may["owner"] - may["editor"]


def test_a_stranger_may_do_nothing_and_an_administrator_only_keep_order() -> None:
    for permission in filter(rules.needs_project, rules.PERMISSIONS):
        assert not rules.is_allowed_in_role(permission, "", is_admin=False)
        allowed = permission in rules.ADMIN_IN_PROJECTS
        assert rules.is_allowed_in_role(permission, "", is_admin=True) == allowed
    assert "dataset.read" not in rules.ADMIN_IN_PROJECTS


def test_the_site_belongs_to_administrators() -> None:
    assert not rules.is_allowed_on_site("user.write", is_admin=False)
    assert rules.is_allowed_on_site("user.write", is_admin=True)
    assert rules.is_allowed_on_site("project.create", is_admin=False)


@pytest.mark.parametrize(
    ("permission", "scopes", "is_in"),
    [
        ("run.read", None, True),
        ("run.read", {"run.read"}, True),
        ("run.read", {"run.*"}, True),
        ("run.cancel", {"run.read"}, False),
        ("run.read", set(), False),
        ("profile.read", set(), True),
    ],
)
def test_scopes_narrow(permission: str, scopes: set[str] | None, is_in: bool) -> None:
    assert rules.is_in_scopes(permission, scopes) == is_in


@pytest.mark.parametrize(
    ("wanted", "own", "is_within"),
    [
        (None, None, True),
        ({"run.*"}, None, True),
        (None, {"run.*"}, False),
        ({"run.read"}, {"run.*"}, True),
        ({"run.*"}, {"run.read"}, False),
        ({"run.*"}, {"run.read", "run.cancel"}, True),
    ],
)
def test_a_token_makes_none_that_allows_more(
    wanted: set[str] | None, own: set[str] | None, is_within: bool
) -> None:
    assert rules.are_scopes_within(wanted, own) == is_within


def test_an_archive_can_be_read_and_set_right_but_not_changed() -> None:
    refused = {
        p for p in rules.PERMISSIONS if rules.needs_project(p) and rules.is_refused_in_archive(p)
    }
    assert refused == {
        "dataset.write", "environment.write", "pipeline.write", "pipeline.run", "preset.write", "secret.write",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a", "ann", "ann.b-c_9", "9"])
def test_good_names_are_taken(name: str) -> None:
    assert not rules.faults_of_name("name", name, 40)


@pytest.mark.parametrize(
    "name", ["", "Ann", "-a", "a-", "a/b", "a b", "a@1", "x" * 41, "system", "new", "ä", "a\n"]
)
def test_bad_names_are_refused(name: str) -> None:
    assert rules.faults_of_name("name", name, 40)


@pytest.mark.parametrize("password", ["correct horse", "ann likes 9 lilies", "ünïcödé wörds"])
def test_good_passwords_are_taken(password: str) -> None:
    assert not rules.faults_of_password("ann", password)


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "password123",
        "Password123",
        "ann1234567890",
        "annannannann",
        "a" * 12,
        "x" * 1001,
        "",
    ],
)
def test_bad_passwords_are_refused_without_repeating_them(password: str) -> None:
    faults = rules.faults_of_password("ann", password)
    assert faults
    assert not any(password and password in fault.message for fault in faults)


@pytest.mark.parametrize(
    ("email", "good"),
    [(None, True), ("a@b", True), ("a", False), ("a@b c", False), ("a@" + "b" * 300, False)],
)
def test_addresses_for_mail(email: str | None, good: bool) -> None:
    assert bool(rules.faults_of_email(email)) != good


@pytest.mark.parametrize(
    ("name", "good"),
    [("KEY", True), ("A_1", True), ("key", False), ("1A", False), ("A" * 81, False)],
)
def test_names_of_secrets(name: str, good: bool) -> None:
    assert bool(rules.faults_of_secret_name(name)) != good


def test_scopes_must_name_permissions() -> None:
    faults = rules.faults_of_scopes(["run.read", "run.*", "dog.*", "run.fly", "*"])
    assert [fault.field for fault in faults] == ["scopes.2", "scopes.3", "scopes.4"]
    assert not rules.faults_of_scopes(None)


def test_all_faults_are_told_at_once() -> None:
    faults = rules.faults_of_name("name", "A" * 50, 40) + rules.faults_of_email("x")
    with pytest.raises(InvalidError) as caught:
        rules.refuse("The user", faults)
    assert [fault.field for fault in caught.value.faults] == ["name", "name", "email"]


@pytest.mark.parametrize(
    ("faults", "too_many"),
    [
        (Faults(7, 49, 99), False),
        (Faults(8, 8, 8), True),
        (Faults(0, 50, 0), True),
        (Faults(0, 0, 100), True),
    ],
)
def test_when_tries_are_too_many(faults: Faults, too_many: bool) -> None:
    assert rules.are_too_many(faults) == too_many


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"withdrawn_at": NOON}, "withdrawn"),
        ({"is_disabled": True}, "disabled"),
        ({"expires_at": NOON}, "expired at 2026-05-01 12:00"),
    ],
)
def test_why_a_token_is_refused(changes: dict[str, object], words: str) -> None:
    facts: dict[str, object] = {
        "expires_at": NOON + timedelta(1),
        "withdrawn_at": None,
        "is_disabled": False,
        "now": NOON,
    }
    why = rules.why_refused(**(facts | changes))  # type: ignore[arg-type]
    assert words in why
    assert bool(why) == bool(words)
