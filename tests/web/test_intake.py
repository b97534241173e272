"""What is refused at the door, on both databases."""

import asyncio
import re

import httpx
import pytest
from fastapi import APIRouter, Request

from millpond.ground.actor import Actor
from millpond.ground.errors import InvalidError
from millpond.ground.page import decode_cursor, encode_cursor
from millpond.storage import events
from millpond.web.frame import AnyoneIn, CallIn, build_frame, needs, open_route
from millpond.web.hosts import Hosts

JSON = {"Content-Type": "application/json"}


def routes(read):
    router = APIRouter()

    @router.post("/things", status_code=201, **needs("thing.write"))
    def post_thing(call: CallIn, body: dict) -> dict:
        read.append(body)
        return call.make(lambda tx: {"made": str(tx.now)})

    @router.post("/open", **open_route())
    def post_open(call: AnyoneIn, body: dict) -> dict:
        return {"local": read.append(body)}

    @router.get("/events/{topic}", **needs("thing.read"))
    def list_events(call: CallIn, topic: str, kind: str = "") -> list:
        found = events.live_event.c
        query = events.live_event.select().where(found.topic == topic, found.kind == kind)
        return list(call.read(lambda tx: tx.rows(query)))

    @router.put("/raw", **needs("thing.write"))
    async def put_raw(call: CallIn, request: Request) -> dict:
        first = await anext(request.stream())
        return {"first": len(first), "whole": hasattr(request, "_body")}

    return router


@pytest.fixture
def read():
    return []


@pytest.fixture
def ask(database, read):
    def find_actor(tx, token, is_local):
        return Actor("user_ana", "ana", is_local=is_local) if token == "good" else None

    app = build_frame(
        database,
        find_actor,
        body_bytes=1 << 20,
        streams=re.compile("^/raw$"),
        hosts=Hosts(["http://127.0.0.1:8787"], is_any=False),
    )
    app.include_router(routes(read))

    def send(method, path, *, token="good", headers=None, **rest):
        async def go():
            transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8787"
            ) as http:
                given = {"Authorization": f"Bearer {token}"} if token else {}
                return await http.request(
                    method, path, headers={**given, **(headers or {})}, **rest
                )

        return asyncio.run(go())

    return send


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": "x\\u0000"}', "NUL"),
        (b'{"x\\u0000": 1}', "NUL"),
        (b'{"a": ["\\ud800"]}', "half of a character"),
        (b'{"\\udfff": 1}', "half of a character"),
        (b'{"a": NaN}', "a number that is none"),
        (b'{"a": -Infinity}', "a number that is none"),
        (b'{"a": 1e400}', "too large"),
        (b'{"a": 9223372036854775808}', "63 bits"),
        (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", "deeper than 40"),
    ],
)
def test_a_body_that_no_database_keeps_is_refused(ask, read, body, told):
    for path, token in (("/things", "good"), ("/open", None)):
        answer = ask("POST", path, token=token, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert told in answer.json()["detail"]
    assert read == []


def test_a_body_nested_without_an_end_is_refused(ask, read):
    answer = ask("POST", "/things", content=b"[" * 100_000, headers=JSON)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert read == []


def test_a_large_body_is_looked_at_too(ask, read):
    large = {"a": ["x" * 100] * 5000, "b": "\0"}
    assert ask("POST", "/things", json=large).status_code == 422
    del large["b"]
    assert ask("POST", "/things", json=large).status_code == 201


@pytest.mark.parametrize("path", ["/events/a%00b", "/events/a?kind=%00", "/no%00where"])
def test_an_address_with_nul_is_refused(ask, path):
    answer = ask("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_stranger_may_send_little(ask, read):
    large = {"a": "x" * (64 << 10)}
    for token in (None, "bad"):
        answer = ask("POST", "/open", json=large, token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert read == []
    assert ask("POST", "/open", json={"a": "x"}, token=None).status_code == 200
    assert ask("POST", "/open", json=large).status_code == 200


def test_a_key_does_not_bring_a_streamed_body_into_memory(ask):
    async def pieces():
        for _ in range(3):
            yield b"x" * 10

    headers = {**JSON, "Idempotency-Key": "k"}
    answer = ask("PUT", "/raw", content=pieces(), headers=headers)
    assert answer.json() == {"first": 10, "whole": False}


def test_a_key_holds_for_one_body_whatever_kind_of_json_it_is(ask, read):
    headers = {"Content-Type": "application/x+json", "Idempotency-Key": "k"}
    assert ask("POST", "/things", content=b'{"a": 1}', headers=headers).status_code == 201
    assert ask("POST", "/things", content=b'{"a": 2}', headers=headers).status_code == 409


def test_a_page_cannot_make_a_browser_use_this_server(ask, read):
    rebound = ask("POST", "/open", json={}, token=None, headers={"Host": "evil.example:8787"})
    assert (rebound.status_code, rebound.json()["code"]) == (403, "not_allowed")
    crossed = ask("POST", "/open", json={}, token=None, headers={"Origin": "https://evil.example"})
    assert (crossed.status_code, crossed.json()["code"]) == (403, "not_allowed")
    assert read == []


def test_no_redirect_follows_the_host_header(ask):
    assert ask("GET", "/events/", headers={"Host": "192.0.2.9"}).status_code == 404


@pytest.mark.parametrize("part", [2**31, -(2**31), 10**30, "a\0", "\ud800"])
def test_a_cursor_of_what_no_database_takes_is_refused(part):
    with pytest.raises(InvalidError, match="cursor"):
        decode_cursor(encode_cursor([part]), type(part))


def test_a_cursor_nested_deeply_is_refused():
    import base64

    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    with pytest.raises(InvalidError, match="cursor"):
        decode_cursor(deep, int)
