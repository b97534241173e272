"""Every operation of the description, with inputs made from it: right ones, wrong ones, odd ones."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
)

from millpond import main
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.settings import load_settings
from millpond.people.accounts import actions as accounts
from millpond.people.actions import add_project, set_member
from millpond.people.values import NOWHERE
from millpond.web.serving import listen, url_of

PROJECT = "birds"
EXAMPLES = {"root": 3, "viewer": 2}
# Ends the session that the others need, or follows events without an end.
LEFT_OUT = {
    "DELETE /api/v1/sessions",
    "DELETE /api/v1/sessions/current",
    "GET /api/v1/projects/{project}/events",
    "DELETE /api/v1/projects/{project}/members/me",  # Afterwards there were nothing to try.
}
CHECKS = [content_type_conformance, response_schema_conformance]
PROBLEM = ("type", "title", "status", "detail", "code", "next_step", "request_id")


@schemathesis.serializer("application/x-tar", "application/offset+octet-stream")
def _as_bytes(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else bytes(getattr(value, "data", str(value).encode()))


@dataclass(frozen=True)
class Site:
    url: str
    schema: Any
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("data")
    chosen = load_settings(
        None,
        {
            "MILLPOND_ENGINE_SLOTS": "1",
            "MILLPOND_PEOPLE_ARGON2_PASSES": "1",
            "MILLPOND_PEOPLE_ARGON2_MEMORY_KIB": "8192",
        },
    )
    with (
        listen("127.0.0.1", 0) as socket,
        main.open_house(chosen, data, url_of(socket)) as house,
    ):
        app = main.build_app(house)
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
        thread.start()
        try:
            schema = schemathesis.openapi.from_dict(app.openapi())
            schema.config.update(base_url=url_of(socket))
            yield Site(url_of(socket), schema, fill(house))
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)


def fill(house: main.House) -> dict[str, str]:
    with house.database.transaction() as tx:
        users = {
            name: accounts.add_user(tx, SYSTEM, name, is_admin=name == "root")
            for name in ("root", "viewer", "spare")
        }
        owner = Actor(users["root"].id, "root", is_admin=True)
        add_project(tx, owner, PROJECT)
        set_member(tx, owner, PROJECT, "viewer", "viewer")
        return {name: accounts.add_session(tx, users[name], "t", NOWHERE).text for name in users}


@pytest.mark.slow
@pytest.mark.parametrize("who", EXAMPLES)
def test_every_operation_answers_as_described_whatever_comes(site: Site, who: str) -> None:
    faults: list[str] = []
    answered: Counter[str] = Counter()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {site.tokens[who]}"
        for result in site.schema.get_all_operations():
            operation = result.ok()
            if operation.label not in LEFT_OUT:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    faults += try_out(operation, mode, session, EXAMPLES[who], answered)
    assert not faults, "\n\n".join(faults)
    assert answered["tries"] > 100
    assert answered["done"] > answered["tries"] / 20, "nearly everything was refused"


def try_out(
    operation: Any,
    mode: GenerationMode,
    session: requests.Session,
    examples: int,
    answered: Counter[str],
) -> list[str]:
    """Send what is made for one operation; give the first answer of each sort that is wrong."""
    faults: dict[str, str] = {}

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if "project" in case.path_parameters:
            case.path_parameters["project"] = PROJECT
        answer = case.call(session=session, timeout=20)
        answered["tries"] += 1
        answered["done"] += answer.status_code < 300
        for fault in wrongs(case, answer):
            told = f"{operation.label} ({mode.value}): {answer.status_code} {fault}"
            faults.setdefault(
                told[:60], f"{told}\n{case.as_curl_command()[:900]}\n{answer.text[:300]}"
            )

    with suppress(Unsatisfiable, SkipTest):  # Nothing wrong can be sent to some.
        send()
    return list(faults.values())


def wrongs(case: Any, answer: Any) -> Iterator[str]:
    kind = answer.headers.get("content-type", [""])[0]
    if answer.status_code >= 500:
        yield "is a defect"
    elif answer.status_code >= 400:
        if kind != "application/problem+json" and case.method != "HEAD":
            yield f"is no problem but {kind}"
        elif case.method != "HEAD" and not set(PROBLEM) <= answer.json().keys():
            yield "lacks parts of a problem"
    else:
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            yield " ".join(str(fault) for fault in group.exceptions)
