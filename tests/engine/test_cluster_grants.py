"""Task tokens and read signatures: what was not signed for this very thing is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.engine.cluster import grants
from millpond.engine.cluster.grants import TaskToken
from millpond.ground.errors import NotAllowedError

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
SECRET = b"s" * 32


def make_token(**facts: str) -> TaskToken:
    wanted = {
        "key": "r/s/0/1",
        "node": "n1",
        "prefix": "projects/p/runs/r/s/0/1",
        "project_id": "p",
    }
    return grants.sign_token(SECRET, **{**wanted, **facts}, now=NOW)


def test_a_token_is_good_for_its_node_until_it_runs_out() -> None:
    token = TaskToken.from_json(make_token().to_json())
    grants.check_token(SECRET, token, "n1", NOW)
    with pytest.raises(NotAllowedError, match="given to the node n1, not to n2"):
        grants.check_token(SECRET, token, "n2", NOW)
    late = NOW + timedelta(seconds=grants.TOKEN_SECONDS)
    with pytest.raises(NotAllowedError, match="ran out at 2026-11-21T15:00:00"):
        grants.check_token(SECRET, token, "n1", late)
    with pytest.raises(NotAllowedError, match="signature"):
        grants.check_token(b"t" * 32, token, "n1", NOW)


@given(
    st.sampled_from(
        ["key", "node", "prefix", "project_id", "signature", "expires_at", "log_bytes"]
    ),
    st.text(),
)
def test_no_part_can_be_changed(name: str, text: str) -> None:
    token = make_token()
    is_number = name in ("expires_at", "log_bytes")
    value: str | int = len(text) + token.expires_at + 1 if is_number else text
    changed = replace(token, **{name: value})
    if changed == token:
        return
    with pytest.raises(NotAllowedError):
        grants.check_token(SECRET, changed, changed.node, NOW)


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_two_tokens_are_never_signed_alike(one: list[str], two: list[str]) -> None:
    names = ("key", "node", "prefix", "project_id")
    first, second = (
        replace(make_token(), **dict(zip(names, each, strict=True))) for each in (one, two)
    )
    signed = [grants._sign(SECRET, each).signature for each in (first, second)]
    assert (signed[0] == signed[1]) == (one == two)


def test_an_old_token_is_made_anew_for_its_own_node_only() -> None:
    token = make_token()
    assert grants.renew_token(SECRET, token, "n1", NOW) is None
    later = NOW + timedelta(seconds=grants.TOKEN_SECONDS - grants.RENEW_SECONDS)
    fresh = grants.renew_token(SECRET, token, "n1", later)
    assert fresh is not None
    assert fresh.expires_at == token.expires_at + grants.TOKEN_SECONDS - grants.RENEW_SECONDS
    grants.check_token(SECRET, fresh, "n1", later)
    with pytest.raises(NotAllowedError):
        grants.renew_token(SECRET, token, "n2", later)
    with pytest.raises(NotAllowedError):
        grants.renew_token(SECRET, replace(token, prefix="projects/q"), "n1", later)


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("projects/p/runs/r/s/0/1/answer.txt", True),
        ("projects/p/runs/r/s/0/1.log/00000000", False),
        ("projects/p/runs/r/s/0/1", False),
        ("projects/p/runs/r/s/0/10/answer.txt", False),
        ("projects/p/runs/r/s/0/1/../2/x", False),
        ("projects/p/runs/r/s/0/1//x", False),
        ("projects/q/x", False),
        ("", False),
    ],
)
def test_it_writes_below_its_prefix_only(key: str, may: bool) -> None:
    assert make_token().may_write(key) is may
    is_own_log = key == "projects/p/runs/r/s/0/1.log/00000000"
    assert make_token().may_write(key, is_log=True) is is_own_log


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"key": 1},
        {"expires_at": "1"},
        {"expires_at": True},
        {"log_bytes": None},
        {"log_bytes": 1.5},
        {"prefix": None},
        {"node": "x" * 9999},
    ],
    ids=str,
)
def test_what_is_no_token_is_refused(facts: dict[str, object]) -> None:
    whole = {**make_token().to_json(), **facts} if facts else {}
    with pytest.raises(NotAllowedError, match="cannot be read"):
        TaskToken.from_json(whole)


@given(st.text(), st.text(), st.text(), st.text())
def test_a_task_reads_what_was_signed_for_it(task: str, key: str, other: str, another: str) -> None:
    signature = grants.sign_read(SECRET, task, key)
    assert grants.may_read(SECRET, task, key, signature)
    assert grants.may_read(SECRET, other, another, signature) == ((task, key) == (other, another))
    assert not grants.may_read(SECRET, task, key, another)
