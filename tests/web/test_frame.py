import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from millpond.ground.actor import Actor
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    TooManyError,
)
from millpond.storage import events
from millpond.web import metrics
from millpond.web.frame import AnyoneIn, CallIn, PageIn, build_frame, needs, open_route

ANA = Actor("user_ana", "ana")


@dataclass(frozen=True)
class Thing:
    name: str
    at: datetime


class ThingRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=5)
    size: int = Field(default=0, ge=0)


def find_actor(tx, token, is_local):
    assert tx.scalar(events.live_event.select().limit(1)) is None or True
    if token == "good":
        return Actor("user_ana", "ana", is_local=is_local)
    if token == "other":
        return Actor("user_bo", "bo", is_local=is_local)
    return None


def faults():
    return {
        "missing": NotFoundError("There is no x.", next_step="Look.", name="x"),
        "refused": NotAllowedError("No.", next_step="Ask an owner."),
        "conflict": ConflictError("Taken.", next_step="Another name."),
        "invalid": InvalidError(
            "Two faults.", next_step="Mend.", faults=[Fault("a", "is 1"), Fault("b.c", "is 2")]
        ),
        "many": TooManyError("Slow.", next_step="Wait.", retry_after_seconds=2.2),
        "busy": BusyError("Later.", next_step="Wait.", retry_after_seconds=0.1),
        "defect": RuntimeError("the secret is xyzzy"),
    }


def routes(made):
    router = APIRouter()

    def make_thing(tx, call, name):
        events.publish(tx, project_id="p", topic="t", kind="made", facts={"name": name})
        if name == "bad":
            raise ConflictError("Bad.", next_step="Be good.")
        made.append((name, call.request_id, tx.request_id))
        return Thing(name, tx.now)

    @router.post("/things", status_code=201, response_model=Thing, **needs("thing.write"))
    def post_thing(call: CallIn, body: ThingRequest):
        return call.make(lambda tx: make_thing(tx, call, body.name))

    @router.post("/secrets", status_code=201, response_model=Thing, **needs("thing.write"))
    def post_secret(call: CallIn, body: ThingRequest):
        return call.make(lambda tx: make_thing(tx, call, body.name), keep=False)

    @router.get("/me", **needs("thing.read"))
    def get_me(call: CallIn):
        return {"id": call.actor.user_id, "local": call.actor.is_local}

    @router.get("/anyone", **open_route())
    def get_anyone(call: AnyoneIn):
        return {"id": call.actor.user_id if call.actor else None}

    @router.get("/page", **open_route())
    def get_page(page: PageIn):
        return {"cursor": page.cursor, "limit": page.limit}

    @router.get("/faults/{name}", **open_route())
    def get_fault(name: str):
        raise faults()[name]

    @router.put("/raw", **open_route())
    async def put_raw(request: Request):
        return {"size": sum([len(piece) async for piece in request.stream()])}

    return router


@pytest.fixture
def made():
    return []


@pytest.fixture
def meters():
    return metrics.Meters()


@pytest.fixture
def ask(database, made, meters):
    app = build_frame(
        database, find_actor, body_bytes=1000, streams=re.compile("^/raw$"), meters=meters
    )
    app.include_router(routes(made))

    def may_see(tx, actor):
        if actor.user_id != "user_ana":
            raise NotAllowedError("No.", next_step="Ask.")

    app.include_router(metrics.routes(meters, may_see))
    return Asker(app)


class Asker:
    """Sends requests in process, each from an event loop of its own."""

    def __init__(self, app):
        self.app = app

    def __call__(self, method, path, *, token="good", client="127.0.0.1", headers=None, **rest):
        import asyncio

        async def send():
            transport = httpx.ASGITransport(self.app, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                given = {"Authorization": f"Bearer {token}"} if token else {}
                return await http.request(
                    method, path, headers={**given, **(headers or {})}, **rest
                )

        return asyncio.run(send())


@contextmanager
def caught_logs(caplog):
    with caplog.at_level(logging.INFO, "millpond"):
        yield caplog


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("missing", 404),
        ("refused", 403),
        ("conflict", 409),
        ("invalid", 422),
        ("many", 429),
        ("busy", 503),
    ],
)
def test_a_callers_fault_is_a_problem(ask, name, status):
    answer = ask("GET", f"/faults/{name}")
    fault = faults()[name]
    body = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/problems/{fault.code}"
    assert (body["status"], body["code"]) == (status, fault.code)
    assert (body["detail"], body["next_step"]) == (fault.message, fault.next_step)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]


def test_invalid_lists_every_fault_and_waits_are_told(ask):
    assert ask("GET", "/faults/invalid").json()["faults"] == [
        {"field": "a", "message": "is 1"},
        {"field": "b.c", "message": "is 2"},
    ]
    assert ask("GET", "/faults/many").headers["retry-after"] == "3"
    assert ask("GET", "/faults/busy").headers["retry-after"] == "1"
    assert ask("GET", "/faults/missing").json()["facts"] == {"name": "x"}


def test_a_defect_is_an_incident_whose_trace_is_in_the_log_alone(ask, caplog):
    answer = ask("GET", "/faults/defect")
    body = answer.json()
    assert answer.status_code == 500
    assert body["code"] == "defect"
    assert "xyzzy" not in answer.text
    (record,) = [record for record in caplog.records if record.message == "Defect"]
    assert record.incident == body["incident"]
    assert "the secret is xyzzy" in str(record.exc_info[1])


def test_the_frameworks_own_faults_have_the_same_form(ask):
    answer = ask("POST", "/things", json={"name": "too long", "size": -1, "colour": "red"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid")
    assert [fault["field"] for fault in body["faults"]] == ["name", "size", "colour"]
    broken = ask("POST", "/things", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    assert "not JSON" in broken.json()["faults"][0]["message"]
    assert ask("GET", "/page?limit=0&cursor=").json()["faults"][0]["field"] == "limit"
    lost = ask("GET", "/nowhere")
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    wrong = ask("DELETE", "/things")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert wrong.headers["content-type"] == "application/problem+json"


def test_only_the_authorization_header_signs_in(ask):
    assert ask("GET", "/me").json() == {"id": "user_ana", "local": True}
    for answer in (
        ask("GET", "/me", token="bad"),
        ask("GET", "/me", token=None),
        ask("GET", "/me?token=good&access_token=good", token=None),
        ask("GET", "/me", token=None, headers={"Cookie": "token=good; session=good"}),
        ask("GET", "/me", token=None, headers={"Authorization": "Basic good"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert ask("GET", "/anyone", token=None).json() == {"id": None}
    assert ask("GET", "/anyone").json() == {"id": "user_ana"}


@pytest.mark.parametrize(
    ("client", "headers", "local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.1", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, False),
    ],
)
def test_a_call_is_local_without_a_proxy_only(ask, client, headers, local):
    assert ask("GET", "/me", client=client, headers=headers).json()["local"] is local


def test_the_request_id_is_taken_when_sane_and_reaches_the_transaction(ask, made):
    answer = ask("POST", "/things", json={"name": "a"}, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert made == [("a", "mine-1", "mine-1")]
    for unsound in ("a b", "x" * 65, 'a"b', ""):
        given = ask("GET", "/page", headers={"X-Request-Id": unsound}).headers["x-request-id"]
        assert given.startswith("req_")


def test_every_answer_is_dressed(ask):
    for path in ("/page", "/nowhere", "/faults/defect"):
        headers = ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


def test_a_body_has_a_limit_where_the_route_does_not_stream(ask):
    def pieces():
        for _ in range(10):
            yield b"x" * 200

    async def slowly():
        for piece in pieces():
            yield piece

    as_json = {"Content-Type": "application/json"}
    for content in (b"x" * 2000, slowly()):
        answer = ask("POST", "/things", content=content, headers=as_json)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert answer.json()["facts"] == {"limit_bytes": 1000}
    assert ask("PUT", "/raw", content=slowly()).json() == {"size": 2000}


def test_a_repeated_request_is_answered_as_before(ask, made):
    key = {"Idempotency-Key": "k1"}
    first = ask("POST", "/things", json={"name": "a"}, headers=key)
    again = ask("POST", "/things", json={"name": "a"}, headers=key)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(made) == 1


def test_a_key_is_for_one_request_of_one_caller_at_one_place(ask, made):
    key = {"Idempotency-Key": "k1"}
    ask("POST", "/things", json={"name": "a"}, headers=key)
    other_body = ask("POST", "/things", json={"name": "b"}, headers=key)
    assert (other_body.status_code, other_body.json()["code"]) == (409, "conflict")
    assert ask("POST", "/things", json={"name": "c"}, headers=key, token="other").status_code == 201
    assert ask("POST", "/secrets", json={"name": "d"}, headers=key).status_code == 201
    assert [name for name, *_ in made] == ["a", "c", "d"]


def test_a_refused_request_leaves_its_key_free(ask, made):
    key = {"Idempotency-Key": "k1"}
    assert ask("POST", "/things", json={"name": "bad"}, headers=key).status_code == 409
    assert ask("POST", "/things", json={"name": "good"}, headers=key).status_code == 201
    assert [name for name, *_ in made] == ["good"]


def test_a_secret_answer_is_not_kept(ask, made, database):
    key = {"Idempotency-Key": "k1"}
    assert ask("POST", "/secrets", json={"name": "s3crt"}, headers=key).status_code == 201
    again = ask("POST", "/secrets", json={"name": "s3crt"}, headers=key)
    assert again.status_code == 409
    assert "not kept" in again.json()["detail"]
    from millpond.web.tables import idempotency_key

    with database.reading() as tx:
        assert "s3crt" not in str(tx.rows(idempotency_key.select()))


def test_an_unsound_key_is_refused(ask, made):
    for key in ("a b", "x" * 201):
        answer = ask("POST", "/things", json={"name": "a"}, headers={"Idempotency-Key": key})
        assert answer.status_code == 422
        assert answer.json()["faults"][0]["field"] == "Idempotency-Key"
    assert made == []


def test_keys_are_forgotten_after_a_day(ask, made, database):
    import sqlalchemy as sa

    from millpond.web.tables import idempotency_key

    key = {"Idempotency-Key": "k1"}
    ask("POST", "/things", json={"name": "a"}, headers=key)
    with database.transaction() as tx:
        day = 86_400 * 1_000_000
        tx.execute(
            sa.update(idempotency_key).values(
                at=sa.type_coerce(idempotency_key.c.at, sa.BigInteger) - day - 1
            )
        )
    assert ask("POST", "/things", json={"name": "b"}, headers=key).status_code == 201


def test_the_same_request_sent_twice_at_once_is_done_once(ask, made):
    import threading

    answers = []

    def send():
        answers.append(ask("POST", "/things", json={"name": "a"}, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.text for answer in answers}) == 1
    assert len(made) == 1


def test_pages_have_bounds(ask):
    assert ask("GET", "/page").json() == {"cursor": None, "limit": 50}
    assert ask("GET", "/page?limit=1000&cursor=abc").json() == {"cursor": "abc", "limit": 1000}
    assert ask("GET", "/page?limit=1001").status_code == 422


def test_the_description_holds_permissions_and_problems(ask):
    text = ask("GET", "/api/v1/openapi.json", token=None).json()
    operation = text["paths"]["/things"]["post"]
    assert operation["x-permission"] == "thing.write"
    assert operation["security"] == [{"token": []}]
    assert "4XX" in operation["responses"]
    assert "HTTPValidationError" not in text["components"]["schemas"]
    assert text["components"]["schemas"]["Problem"]["required"]
    assert text["paths"]["/anyone"]["get"]["x-permission"] == "open"


def test_requests_are_counted_by_template_and_logged(ask, caplog):
    with caplog.at_level(logging.INFO, "millpond.web"):
        ask("GET", "/faults/missing", headers={"X-Request-Id": "abc"})
        ask("GET", "/faults/refused")
    text = ask("GET", "/metrics", token=None).text
    line = 'millpond_http_requests_total{method="GET",route="/faults/{name}",status="404"} 1.0'
    assert line in text
    assert "millpond_http_request_seconds_bucket" in text
    (record,) = [record for record in caplog.records if getattr(record, "status", 0) == 404]
    assert record.path == "/faults/missing"


def test_metrics_are_for_this_machine_and_those_who_may_see(ask):
    assert ask("GET", "/metrics", token=None).status_code == 200
    assert ask("GET", "/metrics", token=None, client="192.0.2.1").status_code == 401
    assert ask("GET", "/metrics", token="other", client="192.0.2.1").status_code == 403
    assert ask("GET", "/metrics", client="192.0.2.1").status_code == 200
