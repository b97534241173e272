"""Setting up and signing in over HTTP, from this machine and from afar."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from millpond.people import routes as people_routes
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import routes
from millpond.people.passwords import Passwords
from millpond.people.values import local_proof
from millpond.people.vault import SecretBox
from millpond.storage.database import Database
from millpond.web.frame import build_frame

KEY = b"l" * 32
WORDS = "correct horse battery"


class Asker:
    """Sends requests in process, as if from an address."""

    def __init__(self, app: FastAPI, host: str) -> None:
        self.app, self.host = app, host
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, headers: Any = None, json: Any = None) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(self.host, 5000))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                given = {**self.headers, **(headers or {})}
                return await http.request(method, path, headers=given, json=json)

        return asyncio.run(send())

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def delete(self, path: str) -> httpx.Response:
        return self.ask("DELETE", path)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("POST", path, **more)

    def put(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("PUT", path, **more)


@pytest.fixture
def client(database: Database) -> Callable[[str], Asker]:
    app = build_frame(database, accounts.find_actor)
    passwords = Passwords(passes=1, memory_kib=64)
    app.include_router(routes.routes(passwords=passwords, local_key=KEY))
    app.include_router(people_routes.routes(box=SecretBox(b"b" * 32)))
    return lambda host: Asker(app, host)


def local_session(http: Asker, name: str = "ann") -> str:
    challenge = http.post("/sessions/challenge").json()["challenge"]
    proof = local_proof(KEY, challenge, name)
    body = {"challenge": challenge, "name": name, "proof": proof}
    answer = http.post("/sessions/local", json=body)
    assert answer.status_code == 201
    return str(answer.json()["text"])


def test_local_sign_in_is_for_this_machine_alone(client: Callable[[str], Asker]) -> None:
    here, afar = client("127.0.0.1"), client("10.0.0.9")
    assert local_session(here)
    assert afar.post("/sessions/challenge").status_code == 403
    passed_on = {"X-Forwarded-For": "10.0.0.9"}
    assert here.post("/sessions/challenge", headers=passed_on).status_code == 403
    challenge = here.post("/sessions/challenge").json()["challenge"]
    proof = local_proof(KEY, challenge, "")
    body = {"challenge": challenge, "name": "", "proof": proof}
    assert afar.post("/sessions/local", json=body).status_code == 403
    assert here.post("/sessions/local", json=body).status_code == 201
    assert here.post("/sessions/local", json=body).status_code == 401


def test_from_the_setup_code_to_a_secret(
    client: Callable[[str], Asker], database: Database
) -> None:
    http = client("10.0.0.9")
    assert http.get("/setup").json() == {"is_needed": True}
    code = database.change(accounts.make_setup_code)
    body = {"code": code, "name": "ann", "password": WORDS}
    made = http.post("/setup", json=body)
    assert made.status_code == 201
    assert http.post("/setup", json=body).status_code == 409
    http.headers["Authorization"] = f"Bearer {made.json()['text']}"
    assert http.get("/me").json()["user"]["is_admin"]
    key = {"Idempotency-Key": "one"}
    first = http.post("/projects", json={"name": "birds"}, headers=key)
    assert first.json() == http.post("/projects", json={"name": "birds"}, headers=key).json()
    kept = http.put("/projects/birds/secrets/API_KEY", json={"value": "hunter2"})
    assert kept.status_code == 200
    assert "hunter2" not in kept.text + http.get("/projects/birds/secrets").text
    assert http.delete("/sessions/current").status_code == 204
    assert "withdrawn" in http.get("/me").json()["detail"]


def test_a_body_with_other_fields_is_refused(client: Callable[[str], Asker]) -> None:
    http = client("127.0.0.1")
    answer = http.post("/sessions", json={"name": "ann", "password": WORDS, "admin": True})
    assert answer.status_code == 422
    assert WORDS not in answer.text
