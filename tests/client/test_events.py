"""Live events are read as the server writes them, and a run is followed through a restart."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from millpond.client.events import Event, read_events
from millpond.client.runs import RunsRoom
from millpond.client.transport import Transport

RUN = {
    "id": "run_1", "project_id": "p", "what": "x@1", "pipeline_version_id": "v", "reason": "",
    "parameters": {}, "inputs": [], "environment": "", "lock_digest": "", "code_digest": "",
    "spec_digest": "", "seed": 1, "progress": {}, "created_at": "2026-05-01T12:00:00Z",
    "created_by": "ann",
}  # fmt: skip


@pytest.fixture
def transport(script: Any) -> Iterator[Transport]:
    opened = Transport(script.url, patience_seconds=0)
    yield opened
    opened.close()


def test_events_are_read_with_their_places() -> None:
    lines = ["retry: 2000", "", ": nothing new", "", "id: 7", "event: progress",
             'data: {"facts": {"done": 1}}', "", "data: plain", ""]  # fmt: skip
    assert list(read_events(lines)) == [
        Event("", ""),
        Event("7", "progress", {"facts": {"done": 1}}),
        Event("7", "message", {"text": "plain"}),
    ]


def stream(*lines: str) -> Any:
    def act(handler: Any) -> None:
        raw = "".join(line + "\n" for line in lines).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    return act


def test_a_run_is_followed_through_a_restart(script: Any, transport: Transport) -> None:
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "queued"})
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "running"})
    script.say("/api/v1/projects/p/runs/run_1", {"detail": "Starting."}, status=503)
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "running"})
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "succeeded"})
    script.do("/api/v1/projects/p/events", stream("id: 5", "event: progress", "data: {}", ""))
    states: list[str] = []
    pauses: list[float] = []
    ended = RunsRoom(transport, "p").wait(
        "run_1", lambda run: states.append(run.state), pause=pauses.append
    )
    assert ended.state == "succeeded"
    assert states[0] == "queued"
    assert states[-1] == "succeeded"
    follows = [headers for _, path, headers, _ in script.asked if "/events" in path]
    assert "Last-Event-ID" not in follows[0]
    assert follows[1]["Last-Event-ID"] == "5"


def test_without_events_the_run_is_looked_at_again(script: Any, transport: Transport) -> None:
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "running"})
    script.say("/api/v1/projects/p/runs/run_1", {**RUN, "state": "failed"})
    pauses: list[float] = []
    assert RunsRoom(transport, "p").wait("run_1", pause=pauses.append).state == "failed"
    assert pauses == [1.0]


def test_a_run_keeps_its_json_form(script: Any, transport: Transport) -> None:
    script.say("/api/v1/projects/p/runs", {**RUN, "state": "queued"}, status=201)
    made = RunsRoom(transport, "p").start("x", {"files": "d@2"}, {"least": 0.5})
    assert made.id == "run_1"
    assert json.loads(script.asked[0][3]) == {
        "pipeline": "x", "inputs": {"files": "d@2"}, "parameters": {"least": 0.5},
    }  # fmt: skip
