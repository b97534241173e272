import asyncio
import contextlib
import json
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from millpond.ground.actor import Actor
from millpond.ground.errors import NotFoundError
from millpond.storage import events
from millpond.web import sse
from millpond.web.frame import build_frame


class Served:
    """The frame behind a real server, with one project and who may listen to it."""

    def __init__(self, database):
        self.allowed = {"ana"}
        self.withdrawn = set()
        self.database = database
        self.asked = 0
        self.hub = sse.EventHub(database, poll_seconds=0.1)
        app = build_frame(
            database,
            lambda tx, token, local: None if token in self.withdrawn else Actor(token, token),
        )
        app.include_router(sse.routes(self.hub, self.open_project))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.socket])))

    def open_project(self, tx, actor, name):
        if name != "pond" or actor.user_id not in self.allowed:
            raise NotFoundError("There is no such project.", next_step="Look.")
        return "project_1"

    def publish(self, kind, topic="run/1", project_id="project_1", **facts):
        self.database.change(
            lambda tx: events.publish(
                tx, project_id=project_id, topic=topic, kind=kind, facts=facts
            )
        )

    def listen(self, who="ana", query="", **headers):
        return Listener(f"{self.url}/projects/pond/events{query}", who, headers)


class Listener:
    def __init__(self, url, who, headers):
        self._stack = contextlib.ExitStack()
        self._headers = {"Authorization": f"Bearer {who}", **headers}
        self._url = url

    def __enter__(self):
        http = self._stack.enter_context(httpx.Client(timeout=10))
        self.answer = self._stack.enter_context(
            http.stream("GET", self._url, headers=self._headers)
        )
        self._lines = self.answer.iter_lines()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def wait_until_listening(self):
        for line in self._lines:
            if line.startswith(":"):
                return
        raise AssertionError("the stream ended")

    def take(self, count):
        found, event = [], {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                event[name] = value
            elif not line and event:
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
                if len(found) == count:
                    return found
        return found


@pytest.fixture
def served(database):
    made = Served(database)
    made.thread.start()
    yield made
    made.server.should_exit = True
    made.server.force_exit = True
    made.thread.join()
    made.socket.close()


def test_events_arrive_as_they_are_committed(served):
    served.publish("old")
    with served.listen() as listener:
        assert listener.answer.headers["content-type"].startswith("text/event-stream")
        listener.wait_until_listening()
        served.publish("queued", step="é\nline")
        served.publish("elsewhere", project_id="project_2")
        served.publish("started", topic="run/2")
        first, second = listener.take(2)
    assert first[1] == "queued"
    assert first[2]["facts"] == {"step": "é\nline"}
    assert first[2]["topic"] == "run/1"
    assert (second[1], second[2]["topic"]) == ("started", "run/2")


def test_a_listener_that_comes_back_misses_nothing(served):
    for number in range(600):
        served.publish("k", n=number)
    with served.listen(query="?after=0") as listener:
        seen = listener.take(10)
    with served.listen(**{"Last-Event-ID": str(seen[-1][0])}) as listener:
        rest = listener.take(590)
        served.publish("k", n=600)
        rest += listener.take(1)
    assert [event[2]["facts"]["n"] for event in seen + rest] == list(range(601))


def test_one_topic_is_followed_alone(served):
    with served.listen(query="?topic=run/2") as listener:
        listener.wait_until_listening()
        served.publish("other")
        served.publish("mine", topic="run/2")
        assert [event[1] for event in listener.take(1)] == ["mine"]


def test_events_of_another_server_are_found_by_asking(served, database):
    with served.listen() as listener:
        listener.wait_until_listening()
        database.watchers.clear()
        served.publish("quiet")
        assert [event[1] for event in listener.take(1)] == ["quiet"]


def test_many_listeners_ask_the_database_once(served):
    reads = []
    read = served.database.read

    def counted(action):
        reads.append(action)
        return read(action)

    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(served.listen()) for _ in range(8)]
        for listener in listeners:
            listener.wait_until_listening()
        served.database.read = counted
        start = time.monotonic()
        for number in range(10):
            served.publish("k", n=number)
        for listener in listeners:
            assert len(listener.take(10)) == 10
        seconds = time.monotonic() - start
        served.database.read = read
    assert len(reads) <= 10 + seconds / 0.1 + 2


def test_strangers_hear_nothing(served):
    with served.listen(who="bo") as listener:
        assert listener.answer.status_code == 404
    assert httpx.get(f"{served.url}/projects/pond/events").status_code == 401
    with served.listen(**{"Last-Event-ID": "x"}) as listener:
        assert listener.answer.status_code == 422


def test_who_loses_the_right_hears_no_more(served, monkeypatch):
    monkeypatch.setattr(sse, "_KEEP_ALIVE_SECONDS", 0.1)
    with served.listen() as listener:
        listener.wait_until_listening()
        served.allowed.clear()
        assert listener.take(1) == []


def test_who_loses_the_right_hears_no_more_however_much_happens(served, monkeypatch):
    with served.listen() as listener:
        listener.wait_until_listening()
        served.publish("heard")
        assert [event[1] for event in listener.take(1)] == ["heard"]
        monkeypatch.setattr(sse, "_KEEP_ALIVE_SECONDS", 0)
        served.allowed.clear()
        served.publish("unheard")
        assert listener.take(1) == []


def test_a_withdrawn_token_hears_no_more(served, monkeypatch):
    monkeypatch.setattr(sse, "_KEEP_ALIVE_SECONDS", 0.1)
    with served.listen() as listener:
        listener.wait_until_listening()
        served.withdrawn.add("ana")
        assert listener.take(1) == []


def test_one_user_follows_so_many_streams_and_no_more(served, monkeypatch):
    monkeypatch.setattr(sse, "_STREAMS_MOST", 2)
    served.allowed.add("bo")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(served.listen()).wait_until_listening()
        with served.listen() as third:
            assert third.answer.status_code == 429
        with served.listen(who="bo") as other:
            other.wait_until_listening()
    end = time.monotonic() + 10
    while served.hub.streams:
        assert time.monotonic() < end
        with served.listen(who="bo") as other:
            other.wait_until_listening()
        served.publish("wake")


def test_closing_the_hub_ends_the_streams(served):
    with served.listen() as listener:
        listener.wait_until_listening()
        served.hub._loop.call_soon_threadsafe(served.hub.close)
        assert listener.take(1) == []
    assert served.hub._feeds == {}
