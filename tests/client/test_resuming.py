"""A large file that is pushed over a line that breaks: only what is missing is sent again."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from millpond.client.client import Client
from millpond.client.resuming import RESUMED_BYTES
from millpond.ground.errors import BusyError

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
MIB = 1 << 20
SIZE = RESUMED_BYTES + 8 * MIB


class Line:
    """A line to a server: counts what goes up, breaks after so many bytes, perhaps for good."""

    def __init__(self, url: str, breaks_after: int, *, for_good: bool) -> None:
        self.sent = 0
        self._target = (urlsplit(url).hostname, urlsplit(url).port)
        self._left, self._for_good, self._lock = breaks_after, for_good, threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._left <= 0 and self._for_good:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                for one, other, is_up in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._carry, args=(one, other, is_up), daemon=True
                    ).start()

    def _carry(self, one: socket.socket, other: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
                if is_up and self._count(len(data)):
                    break
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _count(self, size: int) -> bool:
        with self._lock:
            self.sent += size
            was, self._left = self._left, self._left - size
            return was > 0 >= self._left


@contextmanager
def line(url: str, breaks_after: int, *, for_good: bool = False) -> Iterator[Line]:
    with closing(Line(url, breaks_after, for_good=for_good)) as opened:
        yield opened


@contextmanager
def client(site: Any, url: str) -> Iterator[Client]:
    with Client(url, site.token("editor"), project="birds", environ={}) as opened:
        yield opened


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def check(client: Client, path: Path, tmp_path: Path) -> None:
    client.datasets.download("large", tmp_path / "back")
    assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    assert client.uploads.list(finished=False) == []


def test_a_push_goes_on_where_the_line_broke(portal_site: Any, large: Path, tmp_path: Path) -> None:
    told = []
    with line(portal_site.url, 10 * MIB) as broken, client(portal_site, broken.url) as far:
        far.datasets.push(large, "large", on_progress=told.append)
        assert SIZE <= broken.sent < SIZE + 4 * MIB
        check(far, large, tmp_path)
    assert told[-1].done == told[-1].total


def test_a_later_push_goes_on_where_the_one_before_was_cut(
    portal_site: Any, large: Path, tmp_path: Path
) -> None:
    broken = line(portal_site.url, 10 * MIB, for_good=True)
    with broken as cut, client(portal_site, cut.url) as far:
        far.transport.patience_seconds = 0.5
        with pytest.raises(BusyError):
            far.datasets.push(large, "large")
    with line(portal_site.url, 10 * SIZE) as whole, client(portal_site, whole.url) as again:
        again.datasets.push(large, "large")
        assert whole.sent < SIZE - 6 * MIB
        check(again, large, tmp_path)
