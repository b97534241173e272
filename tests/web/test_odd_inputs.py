"""Odd things sent to the whole server, on both databases: refused, and never a defect."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from millpond import main
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.settings import load_settings
from millpond.people.accounts import actions as accounts
from millpond.people.actions import add_project
from millpond.people.values import NOWHERE

HUGE = 10**30
P = "/projects/birds"


def cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.fixture
def ask(database_url: str, tmp_path: Path) -> Iterator[Any]:
    environ = {"MILLPOND_DATABASE_URL": database_url, "MILLPOND_ENGINE_SLOTS": "1"}
    chosen = load_settings(None, environ)
    with main.open_house(chosen, tmp_path / "data", "http://127.0.0.1:8787") as house:
        app = main.build_app(house)
        with house.database.transaction() as tx:
            user = accounts.add_user(tx, SYSTEM, "root", is_admin=True)
            add_project(tx, Actor(user.id, "root", is_admin=True), "birds")
            token = accounts.add_session(tx, user, "t", NOWHERE).text

        def send(method: str, path: str, **rest: Any) -> httpx.Response:
            async def go() -> httpx.Response:
                transport = httpx.ASGITransport(app)
                base = "http://127.0.0.1:8787/api/v1"
                async with httpx.AsyncClient(transport=transport, base_url=base) as http:
                    headers = {"Authorization": f"Bearer {token}", **rest.pop("headers", {})}
                    return await http.request(method, path, headers=headers, **rest)

            return asyncio.run(go())

        yield send


ASKED = [
    *[f"{P}/runs/r/{what}" for what in ("steps", "tasks", "log", "outputs", "outputs/archive")],
    f"{P}/runs/%00",
    f"{P}/runs/{'x' * 5000}",
    f"{P}/runs?cursor={cursor(HUGE)}",
    f"{P}/runs?cursor={cursor('a' + chr(0))}",
    f"{P}/runs?cursor={cursor(chr(0xD800))}",
    f"{P}/runs?cursor=%C3%A9%C3%A9",
    f"{P}/runs?limit={HUGE}",
    f"{P}/runs/r/log?partition={HUGE}",
    f"{P}/runs/r/log?after={HUGE}.0.0.0",
    f"{P}/runs/r/log?after=1_0.0.0.0",
    f"{P}/runs/r/log?after=0.0.0.-5",
    f"{P}/datasets?cursor={cursor('a' + chr(0))}",
    f"{P}/datasets/d/versions/{HUGE}",
    f"{P}/datasets/d/versions/2147483648",
    f"{P}/datasets/d/versions/4294967296/files",
    f"{P}/datasets/..%2f..%2fetc/versions/1",
    f"{P}/datasets/d/versions/1/content?path=%00",
    f"{P}/datasets/d/versions/1/content?path=a&path_bytes=%25",
    f"{P}/environments/e/versions/{HUGE}/log",
    f"{P}/environments/e/versions/1/log?after={HUGE}",
    f"{P}/pipelines/p/versions/{HUGE}",
    f"{P}/log?cursor={cursor(HUGE)}",
    f"{P}/log?since=2026-01-01T00:00:00",
    f"{P}/events?after={'9' * 19}",
    f"/users?cursor={cursor('a' + chr(0))}",
    "/users/%00",
    "/users/a%2fb",
    f"/jobs?cursor={cursor('a' + chr(0))}",
    "/jobs?kind=%00",
    "/projects/%00",
    f"/projects/{'x' * 5000}",
    "/projects/%F0%9F%90%A6",
]


def fault_of(asked: object, answer: httpx.Response) -> str:
    kind = answer.headers.get("content-type")
    if 400 <= answer.status_code < 500 and kind == "application/problem+json":
        return ""
    return f"{str(asked)[:200]}: {answer.status_code} {kind} {answer.text[:200]}"


def test_odd_questions_are_refused(ask: Any) -> None:
    faults = [fault_of(path, ask("GET", path)) for path in ASKED]
    assert not any(faults), "\n".join(filter(None, faults))


FILE = {"path": "pipeline.py", "digest": "0" * 64, "size": 1}
SCHEDULE = {"kind": "pipelines.run", "cron": "30 2 * * *"}
SENT: list[tuple[str, str, Any]] = [
    ("POST", "/projects", {"name": "a\0"}),
    ("POST", "/projects", {"name": "a" * 61}),
    ("POST", "/projects", {"name": "a", "description": "\0"}),
    ("PATCH", P, {"description": "\0"}),
    ("PUT", f"{P}/members/a%2fb", {"role": "viewer"}),
    ("PUT", f"{P}/secrets/A", {"value": "\0"}),
    ("POST", "/users", {"name": "a", "password": "\0" * 12}),
    ("POST", "/tokens", {"name": "\0"}),
    ("POST", "/tokens", {"name": "a", "expires_at": "2026-01-01T00:00:00"}),
    ("POST", "/sessions", {"name": "\0", "password": "x"}),
    ("POST", f"{P}/datasets/d/versions", {"files": [{**FILE, "size": HUGE}]}),
    ("POST", f"{P}/datasets/d/versions", {"files": [{**FILE, "digest": "../../x"}]}),
    ("POST", f"{P}/objects/missing", {"objects": [{"digest": "0" * 64, "size": HUGE}]}),
    ("POST", f"{P}/pipelines", {"files": [{**FILE, "digest": "../../x"}]}),
    ("POST", f"{P}/pipelines", {"files": [{**FILE, "path_bytes": "%"}]}),
    ("POST", f"{P}/runs", {"program": {"entry": "\0", "files": [FILE]}}),
    ("POST", f"{P}/runs", {"program": {"entry": "a.py", "files": [{**FILE, "digest": "../x"}]}}),
    ("POST", f"{P}/runs", {"pipeline": "p", "parameters": {"a": "\0"}}),
    ("POST", f"{P}/runs", {"pipeline": "p@99999999999"}),
    ("POST", f"{P}/environments", {"name": "e", "requirements": "numpy\0"}),
    ("PUT", "/schedules/a", {**SCHEDULE, "priority": 2**31}),
    ("PUT", "/schedules/a", {**SCHEDULE, "facts": {"a": "\0"}}),
    ("PUT", "/schedules/a", {**SCHEDULE, "time_zone": "../../etc/passwd"}),
    ("PUT", "/schedules/a", {**SCHEDULE, "time_zone": "a" * 5000}),
    ("PUT", "/schedules/a", {**SCHEDULE, "time_zone": ""}),
    ("PUT", "/schedules/a", {**SCHEDULE, "cron": "* * * * * * *"}),
    ("PUT", "/schedules/a", {**SCHEDULE, "cron": "²/3 * * * *"}),
]


def test_odd_things_are_refused(ask: Any) -> None:
    faults = [fault_of(sent, ask(*sent[:2], json=sent[2])) for sent in SENT]
    assert not any(faults), "\n".join(filter(None, faults))


HEADERS = [
    {"Idempotency-Key": "\xe9"},
    {"Idempotency-Key": "a" * 300},
    {"Last-Event-ID": "1" * 19},
    {"Last-Event-ID": "-1"},
    {"Last-Event-ID": "\xb2"},
    {"Authorization": "Bearer \xff\xfe"},
    {"Host": "evil.example"},
]


def test_odd_headers_are_refused(ask: Any) -> None:
    faults = []
    for headers in HEADERS:
        sent = {name: value.encode("latin-1") for name, value in headers.items()}
        faults.append(fault_of(headers, ask("GET", f"{P}/events", headers=sent)))
    assert not any(faults), "\n".join(filter(None, faults))
