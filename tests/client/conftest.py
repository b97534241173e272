"""A small real HTTP server whose answers a test writes down."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, dict[str, str], bytes]


class Script:
    """What the server was asked, and what it answers to each path, one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self._answers: dict[str, list[Answer | Callable[[Any], None]]] = {}

    def say(self, path: str, *answers: Any, status: int = 200, **headers: str) -> None:
        for body in answers:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = {} if isinstance(body, bytes) else {"content-type": "application/json"}
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            self._answers.setdefault(path, []).append((status, {**kind, **named}, raw))

    def do(self, path: str, act: Callable[[Any], None]) -> None:
        self._answers.setdefault(path, []).append(act)

    def next(self, path: str) -> Answer | Callable[[Any], None]:
        left = self._answers.get(path)
        if not left:
            return 404, {}, b"nothing"
        return left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def script() -> Iterator[Script]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            body = self._body()
            path = self.path.partition("?")[0]
            written.asked.append((self.command, self.path, dict(self.headers.items()), body))
            answer = written.next(path)
            if callable(answer):
                answer(self)
                return
            status, headers, raw = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.daemon_threads = False  # Their sockets are closed when the test ends.
    written = Script(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield written
    server.shutdown()
    thread.join()
    server.server_close()
