"""Connections within bounds, and callers behind a proxy; over real sockets."""

import asyncio
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from millpond.client.process import start_server
from millpond.ground.errors import InvalidError
from millpond.ground.settings import load_settings
from millpond.web.connections import Bounds, protocol_within
from millpond.web.proxies import BehindProxies
from millpond.web.serving import listen

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def serving(**bounds):
    app = FastAPI()
    held = threading.Event()

    @app.get("/")
    def answer() -> str:
        return "here"

    @app.get("/held")
    def hold() -> str:
        return str(held.wait(20))

    protocol = protocol_within(
        Bounds(**{"connections": 50, "idle_seconds": 20, "header_seconds": 20, **bounds})
    )
    with listen("127.0.0.1", 0) as taken:
        config = uvicorn.Config(app, log_config=None, lifespan="off", http=protocol)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([taken])))
        thread.start()
        try:
            yield taken.getsockname(), held
        finally:
            held.set()
            server.should_exit = server.force_exit = True
            thread.join(20)


def connect(address):
    made = socket.create_connection(address, timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def ask(connection):
    connection.sendall(ASK)
    found = connection.recv(65536)
    while found and b"\r\n\r\n" not in found:
        found += connection.recv(65536)
    return found


def seconds_until_closed(connection, send=b""):
    """Wait until the other end hangs up, sending a byte now and then."""
    begin = time.monotonic()
    connection.settimeout(0.1)
    for place in range(200):
        try:
            if send:
                connection.sendall(send[place % len(send) :][:1])
            if connection.recv(65536) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        pytest.fail("it was never closed")
    return time.monotonic() - begin


def test_one_connection_too_many_is_told_so_and_the_others_go_on():
    with serving(connections=8) as (address, _), ExitStack() as stack:
        kept = [stack.enter_context(connect(address)) for _ in range(8)]
        assert all(b"200 OK" in ask(one) for one in kept)
        with connect(address) as refused:
            said = ask(refused)
            assert b"503 Service Unavailable" in said
            assert b"retry-after: 5" in said
            assert b"connection: close" in said
            assert b"application/problem+json" in said
            assert b"server.connections" in said + refused.recv(65536)
        assert b"200 OK" in ask(kept[0])
        kept.pop().close()
        for _ in range(100):
            with connect(address) as again:
                if b"200 OK" in ask(again):
                    return
        pytest.fail("no place became free")


def test_far_too_many_connections_are_cut_off():
    with serving(connections=1) as (address, _), ExitStack() as stack:
        many = [stack.enter_context(connect(address)) for _ in range(80)]
        assert seconds_until_closed(many[-1]) < 5


def test_an_idle_connection_is_closed_and_a_busy_one_is_not():
    with serving(idle_seconds=0.3, header_seconds=0.3) as (address, held):
        with connect(address) as idle:
            assert b"200 OK" in ask(idle)
            assert seconds_until_closed(idle) < 5
        with connect(address) as busy:
            busy.sendall(ASK.replace(b"/ ", b"/held "))
            busy.settimeout(1.0)  # Longer than both bounds.
            with pytest.raises(TimeoutError):
                busy.recv(1)
            held.set()
            busy.settimeout(10)
            assert b"200 OK" in busy.recv(65536)


@pytest.mark.parametrize("begin", [b"", ASK], ids=["at first", "after a request"])
def test_headers_that_come_byte_by_byte_are_not_waited_for(begin):
    with serving(header_seconds=0.5) as (address, _), connect(address) as slow:
        if begin:
            assert b"200 OK" in ask(slow)
        slow_line = b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100
        assert 0.3 < seconds_until_closed(slow, slow_line) < 5


def test_who_says_nothing_at_all_is_not_waited_for():
    with serving(header_seconds=0.3) as (address, _), connect(address) as silent:
        assert seconds_until_closed(silent) < 5


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("10.0.0.9", [], "10.0.0.9"),
        ("10.0.0.9", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.9", ["1.1.1.1", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.9", ["1.1.1.1", "192.0.2.7", "10.0.0.8"], "192.0.2.7"),
        ("10.0.0.9", ["10.0.0.7", "10.0.0.8"], "10.0.0.7"),
        ("192.0.2.1", ["1.1.1.1"], "192.0.2.1"),
        ("10.0.0.9", ["1.1.1.1", "nonsense"], "10.0.0.9"),
        ("10.0.0.9", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.9", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.9", ["192.0.2.7"], "192.0.2.7"),
        ("fd00::1", ["192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_right_most_address_that_is_no_proxy_calls(peer, forwarded, caller):
    assert BehindProxies(FastAPI(), "10.0.0.0/8, fd00::1").caller_of(peer, forwarded) == caller


def test_wrong_proxies_are_named():
    with pytest.raises(InvalidError) as caught:
        load_settings(None, {"MILLPOND_SERVER_TRUSTED_PROXIES": "10.0.0.1, my-proxy,10.0.0.1/8"})
    assert [fault.field for fault in caught.value.faults] == ["server.trusted_proxies"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
def test_callers_behind_a_trusted_proxy_have_their_own_sign_in_limit(tmp_path, trusted):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
    environ |= {
        "MILLPOND_SERVER_TRUSTED_PROXIES": trusted,
        "MILLPOND_PEOPLE_ARGON2_MEMORY_KIB": "8192",
        "MILLPOND_PEOPLE_ARGON2_PASSES": "1",
    }
    server = start_server(
        tmp_path / "data", host="127.0.0.1", port=0, log=tmp_path / "log", environ=environ
    )
    try:
        url = server.wait_ready().url

        def sign_in(caller):
            body = {"name": "ana", "password": "a wrong password"}
            headers = {"X-Forwarded-For": f"203.0.113.99, {caller}"}
            return httpx.post(f"{url}/api/v1/sessions", json=body, headers=headers).status_code

        assert [sign_in("192.0.2.1") for _ in range(9)] == [401] * 8 + [429]
        assert sign_in("192.0.2.2") == (401 if trusted else 429)
        local = httpx.post(f"{url}/api/v1/sessions/challenge", headers={"X-Forwarded-For": "::1"})
        assert local.status_code == 403, "who came through a proxy is never local"
    finally:
        assert server.stop() == 0
