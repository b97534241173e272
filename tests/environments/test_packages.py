"""The host's package cache beside a small index on loopback, and environments on nodes by it."""

import hashlib
import io
import json
import os
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uv
from fastapi import FastAPI

from millpond.environments import packages
from millpond.environments.indexes import Index
from millpond.environments.on_nodes import NodeEnvironments, find_interpreter, index_of_host
from millpond.environments.port import name_for_nodes
from millpond.environments.rules import make_lock
from millpond.environments.uv import choose_interpreter
from millpond.ground.errors import BusyError, InvalidError, NotFoundError
from millpond.ground.tls import Identity
from millpond.machines.authority import Authority
from millpond.storage.nodes.serving import DataServer
from millpond.web.serving import listen

FILENAME = "pebble-1.0-py3-none-any.whl"


def make_wheel() -> bytes:
    """Make a wheel of one module."""
    metadata = "Metadata-Version: 2.1\nName: pebble\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "pebble.py": "ROUND = True\n",
        "pebble-1.0.dist-info/METADATA": metadata,
        "pebble-1.0.dist-info/WHEEL": wheel,
    }
    record = "".join(f"{name},,\n" for name in (*files, "pebble-1.0.dist-info/RECORD"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in {**files, "pebble-1.0.dist-info/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return made.getvalue()


WHEEL = make_wheel()
DIGEST = hashlib.sha256(WHEEL).hexdigest()


class LoopbackIndex:
    """A package index of one package; counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.wheel = WHEEL
        self.is_away = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, data, kind = outer.answer(self.path)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def index(self) -> Index:
        return Index(f"http://127.0.0.1:{self._server.server_port}/simple")

    def answer(self, path: str) -> tuple[int, bytes, str]:
        if self.is_away:
            return 500, b"", "text/plain"
        if path == "/simple/pebble/":
            link = f'<a href="/files/{FILENAME}#sha256={DIGEST}">{FILENAME}</a>'
            return 200, link.encode(), "text/html"
        if path == f"/files/{FILENAME}":
            return 200, self.wheel, "application/octet-stream"
        return 404, b"", "text/plain"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def source() -> Iterator[LoopbackIndex]:
    made = LoopbackIndex()
    yield made
    made.close()


@pytest.fixture
def cache(source: LoopbackIndex, tmp_path: Path) -> Iterator[packages.PackageCache]:
    made = packages.PackageCache(tmp_path / "packages", (source.index,), most_bytes=1 << 20)
    yield made
    made.close()


def read(handle: int) -> bytes:
    with open(handle, "rb") as file:
        return file.read()


def test_a_page_and_a_file_are_asked_for_once(
    cache: packages.PackageCache, source: LoopbackIndex
) -> None:
    page = json.loads(json.dumps(cache.page("pebble")))
    assert [file["filename"] for file in page["files"]] == [FILENAME]
    assert page["files"][0]["hashes"] == {"sha256": DIGEST}
    assert read(cache.open("pebble", FILENAME)) == WHEEL
    assert read(cache.open("pebble", FILENAME)) == WHEEL
    assert source.asked == ["/simple/pebble/", f"/files/{FILENAME}"]


def test_what_no_index_has_is_not_found(
    cache: packages.PackageCache, source: LoopbackIndex
) -> None:
    for name in ("granite", "../pebble", "Pebble%2f"):
        with pytest.raises(NotFoundError):
            cache.page(name)
    with pytest.raises(NotFoundError):
        cache.open("pebble", "pebble-2.0-py3-none-any.whl")
    assert source.asked == ["/simple/granite/", "/simple/pebble/"]


def test_while_the_index_is_away_what_was_fetched_is_given(
    source: LoopbackIndex, tmp_path: Path
) -> None:
    folder = tmp_path / "packages"
    first = packages.PackageCache(folder, (source.index,), most_bytes=1 << 20)
    read(first.open("pebble", FILENAME))
    first.close()
    source.is_away = True
    later = packages.PackageCache(folder, (source.index,), most_bytes=1 << 20, page_seconds=0)
    assert read(later.open("pebble", FILENAME)) == WHEEL
    with pytest.raises(BusyError, match="can't be reached"):
        later.page("granite")
    later.close()


def test_names_without_end_fill_no_disk(source: LoopbackIndex, tmp_path: Path) -> None:
    """A node may ask for whatever name comes to its mind."""
    folder = tmp_path / "packages"
    cache = packages.PackageCache(folder, (source.index,), most_bytes=1 << 20, pages_most=10)
    for number in range(40):
        with pytest.raises(NotFoundError):
            cache.page(f"pebble{number}")
    assert len(list((folder / "pages").iterdir())) <= 10
    assert read(cache.open("pebble", FILENAME)) == WHEEL
    cache.close()


def test_other_bytes_than_promised_are_refused(
    cache: packages.PackageCache, source: LoopbackIndex
) -> None:
    source.wheel = WHEEL[:-1] + b"x"
    with pytest.raises(BusyError, match="other bytes than it promised"):
        cache.open("pebble", FILENAME)


@pytest.fixture
def served(cache: packages.PackageCache, tmp_path: Path) -> Iterator[tuple[str, Identity]]:
    """Serve the cache by mutual TLS; give its address and a node's identity."""
    now = datetime.now(UTC)
    authority = Authority(tmp_path / "authority", now)
    host = authority.open_identity(tmp_path / "host", "host", "host", ["127.0.0.1"], now)
    app = FastAPI()
    app.include_router(packages.routes(cache), prefix="/door/v1")
    listening = listen("127.0.0.1", 0)
    server = DataServer(app, host, listening)
    server.start()
    node = authority.open_identity(tmp_path / "node", "node", "owl", ["127.0.0.1"], now)
    yield f"https://127.0.0.1:{listening.getsockname()[1]}/door/v1/packages", node
    server.stop()
    listening.close()


def test_a_part_of_a_file_is_given(served: tuple[str, Identity]) -> None:
    url, node = served
    with httpx.Client(verify=node.client_context()) as client:
        whole = client.get(f"{url}/files/pebble/{FILENAME}")
        assert whole.content == WHEEL
        part = client.get(f"{url}/files/pebble/{FILENAME}", headers={"Range": "bytes=-20"})
        assert (part.status_code, part.content) == (206, WHEEL[-20:])
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/simple/pebble/", verify=False)


def test_a_node_makes_an_environment_from_the_lock_by_the_hosts_cache(
    served: tuple[str, Identity], source: LoopbackIndex, tmp_path: Path
) -> None:
    url, node = served
    version = find_version()
    lock = make_lock(f"pebble==1.0 \\\n    --hash=sha256:{DIGEST}\n", version)
    asked: list[str] = []

    def read_lock(digest: str) -> str:
        asked.append(digest)
        return lock

    folder = tmp_path / "own"
    folder.mkdir()
    made = NodeEnvironments(
        folder / "environments",
        uv=Path(uv.find_uv_bin()),
        variables=index_of_host(url, node, folder),
        read_lock=read_lock,
        open_object=lambda _: iter(()),
    )
    name, python = name_for_nodes(lock)
    assert python == version
    place = Path(made.prepare(name))
    assert (place / "lib" / f"python{version}" / "site-packages" / "pebble.py").is_file()
    assert made.prepare(name) == str(place)
    assert made.prepare(str(tmp_path)) == str(tmp_path)
    assert len(asked) == 1
    assert made.trim(free_least=1.1) == 0, "it was used just now"
    lately = time.time() - 4 * 86_400
    os.utime(f"{place}.lock", (lately, lately))
    assert made.trim(free_least=0.0) == 0, "the disk has room"
    assert made.trim(free_least=1.1) == 1
    assert not place.exists()
    assert made.prepare(name) == str(place)
    assert (place / "lib" / f"python{version}" / "site-packages" / "pebble.py").is_file()
    assert source.asked.count(f"/files/{FILENAME}") == 1


def test_another_lock_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    made = NodeEnvironments(
        tmp_path / "environments",
        uv=Path(uv.find_uv_bin()),
        variables={},
        read_lock=lambda _: make_lock("", find_version()),
        open_object=lambda _: iter(()),
    )
    with pytest.raises(BusyError, match="another lock"):
        made.prepare(f"lock:{'0' * 64}")


def test_a_python_that_is_not_here_is_named_with_what_to_install() -> None:
    assert find_interpreter(find_version()) == choose_interpreter()
    with pytest.raises(InvalidError, match=r"Python 2\.6") as told:
        find_interpreter("2.6")
    assert "apt-get install python2.6" in told.value.next_step


def find_version() -> str:
    """Give the version of the interpreter that these tests run by, such as ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
