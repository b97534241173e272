"""The gateway by itself, spoken to as a sandbox would, byte by byte."""

import socket

import pytest

from millpond.environments.gateway import Gateway


@pytest.fixture
def told():
    return []


@pytest.fixture
def line(tmp_path, told):
    path = tmp_path / "socket"
    with Gateway(path, (), told.append), socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(10)
        connected.connect(str(path))
        yield connected


def test_who_sends_a_body_slowly_sees_the_refusal(line, told):
    line.sendall(b"POST /simple/0/alpha/ HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
    line.settimeout(0.3)
    with pytest.raises(TimeoutError):
        line.recv(1)  # Nobody hangs up before the body has come.
    line.settimeout(10)
    line.sendall(b"x")
    line.sendall(b"y")
    answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 403 ")
    assert answer.endswith(b"Only the package index can be reached from here.\n")
    assert told == [
        "Refused by the gateway: 'POST /simple/0/alpha/ HTTP/1.1' is not the package index"
    ]


def test_a_length_that_is_none_is_passed_over(line):
    line.sendall(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
    assert b"".join(iter(lambda: line.recv(4096), b"")).startswith(b"HTTP/1.0 403 ")
