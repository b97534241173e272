"""The SDK's connection: errors come back as they began, and what may be repeated is."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from millpond.client.faults import ServerDefectError, UnreachableError, error_from
from millpond.client.transport import Transport, place
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    NotFoundError,
    NotSignedInError,
    TooManyError,
)


@dataclass(frozen=True)
class Thing:
    name: str
    size: int = 0


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def transport(script: Any, waits: list[float]) -> Iterator[Transport]:
    opened = Transport(script.url, "secret", pause=waits.append)
    yield opened
    opened.close()


def test_a_problem_becomes_the_error_it_began_as() -> None:
    body = {
        "status": 422,
        "detail": "Two faults.",
        "next_step": "Mend them.",
        "code": "invalid",
        "faults": [{"field": "a", "message": "no"}, {"field": "b", "message": "nor"}],
        "facts": {"limit": 3},
        "request_id": "req_1",
    }
    fault = error_from(422, body)
    assert isinstance(fault, InvalidError)
    assert (fault.message, fault.next_step) == ("Two faults.", "Mend them.")
    assert fault.faults == (Fault("a", "no"), Fault("b", "nor"))
    assert fault.facts["limit"] == 3
    assert fault.facts["request_id"] == "req_1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotSignedInError), (404, NotFoundError), (409, ConflictError), (503, BusyError),
     (429, TooManyError), (500, ServerDefectError), (418, ServerDefectError)],
)  # fmt: skip
def test_a_status_without_words_still_says_what_to_do(status: int, kind: type) -> None:
    fault = error_from(status, None, "7")
    assert type(fault) is kind
    assert str(status) in fault.message
    assert fault.next_step


def test_the_wait_comes_from_the_problem_or_the_header() -> None:
    assert error_from(503, None, "7").retry_after_seconds == 7  # type: ignore[attr-defined]
    assert error_from(429, {"retry_after_seconds": 2}).retry_after_seconds == 2  # type: ignore[attr-defined]


def test_the_token_and_an_idempotency_key_are_sent(script: Any, transport: Transport) -> None:
    script.say("/api/v1/things", {"name": "a"})
    transport.make("/things", {"name": "a"})
    _, _, headers, body = script.asked[0]
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Idempotency-Key"].startswith("key_")
    assert body == b'{"name":"a"}'


def test_a_busy_server_is_asked_again_with_the_same_key(
    script: Any, transport: Transport, waits: list[float]
) -> None:
    script.say("/api/v1/healthy", {})
    transport.get("/healthy")
    script.say("/api/v1/things", {"detail": "Busy."}, status=503, retry_after="2")
    script.say("/api/v1/things", {"name": "a"})
    assert transport.make("/things", {}) == {"name": "a"}
    keys = {headers["Idempotency-Key"] for _, path, headers, _ in script.asked if "things" in path}
    assert len(keys) == 1
    assert waits == [2.0]


def test_what_may_not_be_repeated_is_sent_once(
    script: Any, transport: Transport, waits: list[float]
) -> None:
    script.say("/api/v1/things", {"detail": "Busy."}, status=503)
    with pytest.raises(BusyError, match="Busy"):
        transport.delete("/things")
    with pytest.raises(BusyError):
        transport.post("/things", {})
    assert len(script.asked) == 2
    assert waits == []


def test_a_connection_that_breaks_is_made_again(script: Any, transport: Transport) -> None:
    def hang_up(handler: Any) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    script.say("/api/v1/me", {"name": "first"})
    script.do("/api/v1/me", hang_up)
    script.say("/api/v1/me", {"name": "second"})
    assert transport.get("/me") == {"name": "first"}
    assert transport.get("/me") == {"name": "second"}


def test_a_server_that_never_answered_is_not_waited_for(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    transport = Transport(f"http://127.0.0.1:{port}", pause=waits.append)
    with pytest.raises(UnreachableError, match="No server answers") as caught:
        transport.get("/me")
    assert "millpond up" in caught.value.next_step
    assert waits == []
    transport.close()


def test_patience_ends(script: Any) -> None:
    script.say("/api/v1/me", {}, status=200)
    script.say("/api/v1/me", {"detail": "Busy."}, status=503, retry_after="5")
    transport = Transport(script.url, patience_seconds=3)
    transport.get("/me")
    with pytest.raises(BusyError, match=r"Busy\."):
        transport.get("/me")
    transport.close()


def test_a_refused_session_is_made_anew_once(script: Any) -> None:
    asked = []

    def sign_in(refused: str) -> str:
        asked.append(refused)
        return f"token-{len(asked)}"

    script.say("/api/v1/me", {"detail": "Expired."}, status=401)
    script.say("/api/v1/me", {"name": "ann"})
    transport = Transport(script.url, sign_in)
    assert transport.get("/me") == {"name": "ann"}
    assert asked == ["", "token-1"]
    assert script.asked[1][2]["Authorization"] == "Bearer token-2"
    script.say("/api/v1/never", {"detail": "Expired."}, status=401)
    with pytest.raises(NotSignedInError):
        transport.get("/never")
    assert asked == ["", "token-1", "token-2"]
    transport.close()


def test_every_page_is_fetched(script: Any, transport: Transport) -> None:
    script.say("/api/v1/things", {"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "c1"})
    script.say("/api/v1/things", {"items": [{"name": "c"}], "next_cursor": None})
    assert [one.name for one in transport.pages(Thing, "/things")] == ["a", "b", "c"]
    assert "cursor=c1" in script.asked[1][1]


def test_no_more_than_asked_is_given(script: Any, transport: Transport) -> None:
    script.say("/api/v1/things", {"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "c1"})
    assert [one.name for one in transport.pages(Thing, "/things", most=1)] == ["a"]
    assert "limit=1" in script.asked[0][1]


def test_names_with_slashes_stay_one_part() -> None:
    assert place("projects", "a/../b", 3) == "/projects/a%2F..%2Fb/3"


def test_another_servers_answer_is_told_as_such(script: Any, transport: Transport) -> None:
    script.say("/api/v1/thing", {"size": 3})
    with pytest.raises(ServerDefectError, match="'name' is missing"):
        transport.read(Thing, "/thing")
