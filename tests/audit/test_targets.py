"""How entries are said to people, and where what they speak of is shown."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from millpond.audit.targets import Targets, say
from millpond.audit.values import Entry

ENTRY = Entry(
    chain="site", number=1, at=datetime(2026, 5, 1, tzinfo=UTC), actor_id="u", actor_name="ann",
    verb="", target="", before_digest=None, after_digest=None, request_id="", previous_hash="",
    hash="",
)  # fmt: skip
TARGETS = Targets({"dataset": "/projects/{project}/datasets/{name}", "user": "/admin/users/{name}"})


@pytest.mark.parametrize(
    ("verb", "target", "said"),
    [
        ("dataset.version.added", "dataset/reviews@3", ("dataset reviews@3", "version added")),
        ("project.added", "project/birds", ("project birds", "added")),
        ("user.password.set", "user/ann", ("user ann", "password set")),
        ("session.started", "token/token_1", ("token_1", "session started")),
        ("odd", "odd", ("odd", "odd")),
    ],
)
def test_an_entry_is_said_in_words(verb: str, target: str, said: tuple[str, str]) -> None:
    assert say(replace(ENTRY, verb=verb, target=target)) == said


@pytest.mark.parametrize(
    ("target", "project", "path"),
    [
        ("dataset/reviews@3", "birds", "/projects/birds/datasets/reviews"),
        ("dataset/a b?x=../c@1", "birds", "/projects/birds/datasets/a%20b%3Fx%3D..%2Fc"),
        ("dataset/reviews@3", "", ""),
        ("user/ann", "", "/admin/users/ann"),
        ("dataset/", "birds", ""),
        ("seal/1", "birds", ""),
        ("", "birds", ""),
    ],
)
def test_a_target_leads_to_its_page(target: str, project: str, path: str) -> None:
    assert TARGETS.path(target, project) == path
