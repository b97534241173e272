"""Listeners that speak TLS, and the door that only those with a certificate come in by."""

import os
import signal
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from millpond.ground.settings import load_settings
from millpond.machines.authority import Authority
from millpond.web.connections import peer_in
from millpond.web.greeting import answer_plain
from millpond.web.serving import Door, listen, serve_app

NOW = datetime.now(UTC)


def make_app():
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> dict[str, str]:
        peer = peer_in(request.scope)
        return {"scheme": request.url.scheme, "peer": peer.name if peer else ""}

    @app.post("/long")
    async def give_back(request: Request) -> Response:
        return Response(await request.body())

    return app


class Served:
    """A process' two listeners: the first one by TLS, the door by mutual TLS."""

    def __init__(self, folder, tls=True, **bounds):
        self.authority = Authority(folder / "keys", NOW)
        self.folder = folder
        self.host = self.identity("host", "mill")
        self.settings = replace(load_settings(None, {}).server, **{"stop_seconds": 1, **bounds})
        self.context = self.host.server_context(require_client=False) if tls else None
        self.first, self.second = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
        self.port, self.door_port = (one.getsockname()[1] for one in (self.first, self.second))

    def identity(self, role, name, now=NOW):
        folder = self.folder / f"{role}-{name}"
        return self.authority.open_identity(folder, role, name, ["127.0.0.1"], now)

    def trusting(self):
        return ssl.create_default_context(cafile=str(self.authority.path))


@contextmanager
def serving(folder, **bounds):
    """Serve on the main thread, which alone gets signals; ask from another."""
    served = Served(folder, **bounds)
    door = Door(make_app(), served.second, served.host.server_context(require_client=True))
    yield served, lambda ask: run(served, door, ask)


def run(served, door, ask):
    found = []

    def work():
        try:
            found.append(ask())
        except Exception as fault:  # noqa: BLE001 - told on the main thread.
            found.append(fault)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    serve_app(
        make_app(),
        served.first,
        ready=lambda: threading.Thread(target=work).start(),
        closing=lambda: None,
        chosen=served.settings,
        context=served.context,
        doors=[door],
    )
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def test_both_listeners_speak_tls_and_the_door_knows_the_caller(tmp_path):
    with serving(tmp_path) as (served, ask_beside):
        node = served.identity("node", "n1")

        def ask():
            with httpx.Client(verify=served.trusting()) as http:
                first = http.get(f"https://127.0.0.1:{served.port}/").json()
                long = http.post(f"https://127.0.0.1:{served.port}/long", content=b"x" * 3_000_000)
            with httpx.Client(verify=node.client_context()) as http:
                door = http.get(f"https://127.0.0.1:{served.door_port}/").json()
                not_named = http.get(f"https://127.0.0.1:{served.port}/").json()
            return first, len(long.content), door, not_named

        first, size, door, not_named = ask_beside(ask)
    assert first == {"scheme": "https", "peer": ""}
    assert size == 3_000_000
    assert door == {"scheme": "https", "peer": "n1"}
    assert not_named["peer"] == "", "only the door asks for a certificate"


@pytest.mark.parametrize("whose", ["none", "foreign", "expired"])
def test_the_door_stays_shut_for_who_has_no_good_certificate(tmp_path, whose):
    with serving(tmp_path) as (served, ask_beside):
        context = served.trusting()
        if whose == "foreign":
            other = Authority(tmp_path / "other", NOW)
            mine = other.open_identity(tmp_path / "o", "node", "n1", [], NOW)
            context.load_cert_chain(mine.certificate, mine.key)
        if whose == "expired":
            mine = served.identity("node", "n1", NOW - timedelta(days=500))
            context.load_cert_chain(mine.certificate, mine.key)

        def ask():
            with httpx.Client(verify=context) as http, pytest.raises(httpx.TransportError):
                http.get(f"https://127.0.0.1:{served.door_port}/")
            return httpx.get(f"https://127.0.0.1:{served.port}/", verify=served.trusting())

        assert ask_beside(ask).status_code == 200


def test_plain_http_at_a_tls_port_is_told_to_come_by_https(tmp_path):
    with serving(tmp_path) as (served, ask_beside):

        def ask():
            url = f"http://127.0.0.1:{served.port}/a?b=c"
            browser = httpx.get(url, headers={"Accept": "text/html,*/*"})
            program = httpx.post(url, content=b"x" * 1_000_000)
            return browser, program

        browser, program = ask_beside(ask)
    assert browser.status_code == 307
    assert browser.headers["location"] == f"https://127.0.0.1:{served.port}/a?b=c"
    assert program.status_code == 400
    assert program.headers["content-type"] == "application/problem+json"
    assert program.json()["next_step"].endswith(f"https://127.0.0.1:{served.port}")


def test_who_never_becomes_secret_is_cut_off_and_the_others_go_on(tmp_path):
    with serving(tmp_path, header_seconds=0.3) as (served, ask_beside):

        def ask():
            said = []
            for begin in (b"", b"\x16\x03\x01", b"GET / HT"):
                with socket.create_connection(("127.0.0.1", served.port), timeout=10) as one:
                    one.sendall(begin)
                    said.append(one.recv(100))
            good = httpx.get(f"https://127.0.0.1:{served.port}/", verify=served.trusting())
            return said, good.status_code

        assert ask_beside(ask) == ([b"", b"", b""], 200)


def test_a_server_stops_though_somebody_keeps_an_idle_connection(tmp_path):
    with (
        serving(tmp_path, stop_seconds=60) as (served, ask_beside),
        httpx.Client(verify=served.trusting()) as kept,
    ):

        def ask():
            status = kept.get(f"https://127.0.0.1:{served.port}/").status_code
            return status, time.monotonic()

        status, asked_at = ask_beside(ask)
        assert status == 200
        assert time.monotonic() - asked_at < 15


def test_a_door_beside_a_plain_server(tmp_path):
    with serving(tmp_path, tls=False) as (served, ask_beside):
        node = served.identity("node", "n2")

        def ask():
            first = httpx.get(f"http://127.0.0.1:{served.port}/").json()
            url = f"https://127.0.0.1:{served.door_port}/"
            return first, httpx.get(url, verify=node.client_context()).json()

        first, door = ask_beside(ask)
    assert first == {"scheme": "http", "peer": ""}
    assert door["peer"] == "n2"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a b\r\nAccept: text/html\r\n\r\n",
        b"GET //evil\x01 HTTP/1.1\r\nHost: here\r\nAccept: text/html\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: here\r\nAccept: text/html\r\n\r\n",
        b"GET /\r\nAccept: text/html\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ],
)
def test_odd_plain_requests_lead_nowhere(head):
    said = answer_plain(head, 8787)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"location:" not in said
