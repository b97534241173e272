"""A sandbox's only way out: pages of the configured package indexes, and the files they link to.

It is no proxy: there are no tunnels, no addresses and nothing is sent out but the name of a
package. It asks the index itself, so the index's password and certificates stay on this side.
"""

import hashlib
import json
import os
import re
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from millpond.environments.indexes import Index, page_url
from millpond.environments.listings import read_page
from millpond.environments.port import OnLine

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE = re.compile(r"/simple/(\d{1,3})/([a-z0-9](?:[a-z0-9._-]{0,200}[a-z0-9])?)/?")
_FILE = re.compile(r"/file/([0-9a-f]{64})/[^/?]{1,300}?(\.metadata)?")
_PASSED = ("content-type", "content-length", "content-range", "accept-ranges", "etag")
_PAGE_BYTES_MOST, _BODY_BYTES_MOST = 128 << 20, 1 << 20
_CONNECTIONS_MOST, _REFUSALS_TOLD, _SECONDS = 128, 20, 60.0
_PIECE = 256 << 10


class Gateway(ThreadingMixIn, UnixStreamServer):
    """Serves one sandbox over a Unix socket; use it with ``with``."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: Path, indexes: tuple[Index, ...], on_line: OnLine) -> None:
        """Listen at ``path``, which everybody who can walk there may use."""
        self._indexes, self._on_line = indexes, on_line
        self._accounts = {urlsplit(each.url).netloc: each.account for each in indexes}
        self._links: dict[str, str] = {}
        self._room = threading.BoundedSemaphore(_CONNECTIONS_MOST)
        self._refusals = 0
        self.fault = ""
        """Why an index could not be reached; empty while all could."""
        self._client = httpx.Client(
            follow_redirects=True, timeout=_SECONDS, verify=ssl.create_default_context()
        )
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:  # A socket's path has room for 107 bytes only.
            super().__init__(f"/proc/self/fd/{folder}/{path.name}", _Handler)
        finally:
            os.close(folder)
        path.chmod(0o666)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many: then hang up."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a connection that broke off: the sandbox's affair."""

    def refuse(self, request: str) -> None:
        """Tell in the log what was asked for and refused."""
        self._refusals += 1
        if self._refusals <= _REFUSALS_TOLD:
            self._on_line(f"Refused by the gateway: {request[:200]!r} is not the package index")

    def find_page(self, path: str) -> str:
        """Give the address that stands behind a page's path; empty when it is none."""
        match = _PAGE.fullmatch(path)
        is_there = match is not None and int(match[1]) < len(self._indexes)
        return page_url(self._indexes[int(match[1])], match[2]) if match and is_there else ""

    def find_file(self, path: str) -> str:
        """Give the address that stands behind a file's path; empty when no page linked to it."""
        match = _FILE.fullmatch(path)
        url = self._links.get(match[1], "") if match else ""
        return f"{url}{match[2] or ''}" if match and url else ""

    def read(self, url: str) -> tuple[int, bytes]:
        """Ask an index for a page and give it as JSON, with links that lead here."""
        with self._client.stream(
            "GET", url, headers={"Accept": _ACCEPT}, auth=self._of(url)
        ) as got:
            if got.status_code != httpx.codes.OK:
                return got.status_code, b""
            data = _read_most(got.iter_bytes(_PIECE))
            page = read_page(data, got.headers.get("content-type", ""), str(got.url))
        for file in page["files"]:
            token = hashlib.sha256(file["url"].encode()).hexdigest()
            self._links[token] = file["url"]
            file["url"] = f"/file/{token}/{file['filename']}"
        return 200, json.dumps(page).encode()

    def open(self, method: str, url: str, wanted: str) -> httpx.Response:
        """Begin to fetch a file, or the part of it that is wanted."""
        headers = {"Accept-Encoding": "identity", **({"Range": wanted} if wanted else {})}
        request = self._client.build_request(method, url, headers=headers)
        return self._client.send(request, stream=True, auth=self._of(url))

    def _of(self, url: str) -> tuple[str, str] | None:
        return self._accounts.get(urlsplit(url).netloc)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()
        self._client.close()


class _Handler(BaseHTTPRequestHandler):
    server: Gateway
    timeout = _SECONDS

    def __getattr__(self, name: str) -> Any:
        """Give what answers a method of HTTP; all but two are refused."""
        if name in ("do_GET", "do_HEAD"):
            return self._answer
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        self.server.refuse(self.requestline)
        length = self.headers.get("content-length", "")
        if length.isdecimal():  # Hung up on, whoever still sends never sees the answer.
            self.rfile.read(min(int(length[:18]), _BODY_BYTES_MOST))
        self._send(403, {}, b"Only the package index can be reached from here.\n")

    def _answer(self) -> None:
        page, file = self.server.find_page(self.path), self.server.find_file(self.path)
        try:
            if page:
                status, data = self.server.read(page)
                self._send(status, {"content-type": _JSON}, data)
            elif file:
                self._pass_on(file)
            else:
                self._refuse()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            self.server.fault = f"{type(fault).__name__}: {fault}"[:500]
            with suppress(OSError):
                self._send(502, {}, b"The package index can't be reached.\n")

    def _pass_on(self, url: str) -> None:
        got = self.server.open(self.command, url, self.headers.get("Range", ""))
        try:
            headers = {name: got.headers[name] for name in _PASSED if name in got.headers}
            self._send(got.status_code, headers)
            if self.command != "HEAD":
                for piece in got.iter_raw(_PIECE):
                    self.wfile.write(piece)
        finally:
            got.close()

    def _send(self, status: int, headers: dict[str, str], data: bytes | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if data is not None:
            self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        if data and self.command != "HEAD":
            self.wfile.write(data)

    def address_string(self) -> str:
        return "sandbox"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by its base.
        """Say nothing on the server's own output: what is refused is told in the build's log."""


def _read_most(pieces: Iterable[bytes]) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > _PAGE_BYTES_MOST:
            raise ValueError("a page of the index is too long")
    return bytes(data)
