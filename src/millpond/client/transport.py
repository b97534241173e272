"""Speak HTTP to one server: tokens, errors, retries, idempotency keys and pages."""

import contextlib
import importlib
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from millpond.client.decoding import decode
from millpond.client.faults import UnreachableError, error_from
from millpond.client.trust import Trust, TrustIn, check_fingerprint, explain
from millpond.ground.errors import (
    BusyError,
    InvalidError,
    MillpondError,
    NotFoundError,
    NotSignedInError,
)
from millpond.ground.ids import new_id

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
SignIn = Callable[[str], str]
"""Give a token; told the one that was refused, or an empty text at first."""
Query = Mapping[str, object]
Content = Callable[[], Iterable[bytes] | bytes]

PREFIX = "/api/v1"
_READ_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0
_FAULTS_FROM = 400


def place(*parts: str | int) -> str:
    """Join parts of a path, each escaped, so that a name with a slash stays one part."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


@lru_cache(1)
def load_httpx() -> Any:
    """Load the HTTP library when it is first needed, without its own command line.

    That one brings rich and pygments with it, which is most of the time of a short command.
    """
    unwanted = "httpx._main"
    is_ours = unwanted not in sys.modules
    if is_ours:
        sys.modules[unwanted] = ModuleType(unwanted)
    try:
        return importlib.import_module("httpx")
    finally:
        if is_ours:
            del sys.modules[unwanted]


class Transport:
    """A connection to one server.

    Calls that may be sent twice without harm (GET, PUT of content by its digest, and POST with an
    idempotency key) are sent again, with growing pauses, while the server is busy or away.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8000``.
        token: an API token, or a way to sign in, used at the first call and once more when what
            it gave is refused.
        trust: the authority that must have signed the server's certificate, or a way to find
            it; without, one that this machine knows (or of the file SSL_CERT_FILE).
        patience_seconds: for how long to go on trying once the server has answered before.
        pause: how to wait; tests give their own.
    """

    def __init__(
        self,
        url: str,
        token: str | SignIn | None = None,
        *,
        trust: TrustIn = None,
        patience_seconds: float = 20.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keep the address; the connection is opened at the first call."""
        self.url = url.rstrip("/")
        self._trust = trust
        self._is_pinned = trust is not None
        self.patience_seconds = patience_seconds
        self._sign_in = token if callable(token) else None
        self._token = None if callable(token) else token
        self._pause = pause
        self._http: httpx.Client | None = None
        self._opening = threading.Lock()
        self._has_answered = False

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def get(self, path: str, query: Query | None = None) -> Any:
        """Fetch JSON."""
        return self._call("GET", path, query=query, may_repeat=True)

    def read(self, kind: type[T], path: str, query: Query | None = None) -> T:
        """Fetch JSON and make a value of it."""
        return decode(kind, self.get(path, query))

    def pages(
        self, kind: type[T], path: str, query: Query | None = None, most: int | None = None
    ) -> Iterator[T]:
        """Fetch every item of a paged list, page after page, at most ``most``."""
        asked = dict(query or {})
        asked.setdefault("limit", 500 if most is None else max(1, min(most, 500)))
        given = 0
        while True:
            page = self.get(path, asked)
            for item in page["items"]:
                if most is not None and given >= most:
                    return
                given += 1
                yield decode(kind, item)
            if not page.get("next_cursor"):
                return
            asked["cursor"] = page["next_cursor"]

    def make(self, path: str, body: object = None, *, key: str | None = None) -> Any:
        """Post JSON with an idempotency key, so that a retry makes nothing twice."""
        headers = {"Idempotency-Key": key or new_id("key")}
        return self._call("POST", path, body=body, headers=headers, may_repeat=True)

    def post(self, path: str, body: object = None) -> Any:
        """Post JSON that asks rather than makes; sent once."""
        return self._call("POST", path, body=body)

    def ask(self, path: str, body: object) -> Any:
        """Post a question: JSON that changes nothing, so it may be sent again."""
        return self._call("POST", path, body=body, may_repeat=True)

    def put(self, path: str, body: object = None) -> Any:
        """Put JSON, which says what is to be, so it may be sent again."""
        return self._call("PUT", path, body=body, may_repeat=True)

    def patch(self, path: str, body: object) -> Any:
        """Change some fields."""
        return self._call("PATCH", path, body=body, may_repeat=True)

    def delete(self, path: str, query: Query | None = None) -> Any:
        """Remove; sent once, since a second try would not find it."""
        return self._call("DELETE", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        content: Content,
        headers: Mapping[str, str] | None = None,
        *,
        is_once: bool = False,
    ) -> Any:
        """Send bytes, again where need be unless ``is_once``; each try asks for them anew."""
        return self._call(method, path, content=content, headers=headers, may_repeat=not is_once)

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = _READ_SECONDS,
    ) -> "Iterator[httpx.Response]":
        """Open a response to be read piece by piece; tried once.

        Raises:
            UnreachableError: no answer, or the connection broke while it was read.
        """
        httpx = load_httpx()
        timeout = httpx.Timeout(read_seconds, connect=_CONNECT_SECONDS)
        try:
            with self._client().stream(
                "GET",
                self._address(path),
                params=_known(query),
                headers={**self._headers(), **(headers or {})},
                timeout=timeout,
            ) as response:
                self._has_answered = True
                if response.status_code >= _FAULTS_FROM:
                    response.read()
                    raise _fault(response)
                yield response
        except httpx.TransportError as fault:
            raise self._unreachable(fault) from fault

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        may_repeat: bool = False,
    ) -> Any:
        end = time.monotonic() + self.patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        signed_in_again = False
        while True:
            try:
                return self._once(method, path, query, body, content, headers)
            except NotSignedInError:
                if self._sign_in is None or signed_in_again:
                    raise
                self._token, signed_in_again = self._sign_in(self._token or ""), True
            except BusyError as fault:
                asked = 0.0 if isinstance(fault, UnreachableError) else fault.retry_after_seconds
                wait = max(asked, pause * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret.
                tired = time.monotonic() + wait > end
                if not may_repeat or not self._has_answered or tired:
                    raise
                self._pause(wait)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _once(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: object,
        content: Content | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        httpx = load_httpx()
        try:
            response = self._client().request(
                method,
                self._address(path),
                params=_known(query),
                json=body if content is None and body is not None else None,
                content=content() if content is not None else None,
                headers={**self._headers(), **(headers or {})},
            )
        except httpx.InvalidURL as fault:
            raise _no_address(self.url) from fault
        except httpx.TransportError as fault:
            raise self._unreachable(fault) from fault
        self._has_answered = True
        if response.status_code >= _FAULTS_FROM:
            raise _fault(response)
        if not response.content:
            return None
        if "json" not in response.headers.get("content-type", ""):
            return response.text
        return response.json()

    def _client(self) -> "httpx.Client":
        with self._opening:  # Several threads send and fetch at once.
            if self._http is None:
                trust = self._trust() if callable(self._trust) else self._trust
                self._is_pinned = trust is not None
                self._http = open_http(self.url, trust)
            return self._http

    def _headers(self) -> dict[str, str]:
        if self._token is None and self._sign_in is not None:
            self._token = self._sign_in("")
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _address(self, path: str) -> str:
        return self.url + (path if path.startswith(("/healthz", "/metrics")) else PREFIX + path)

    def _unreachable(self, fault: Exception) -> MillpondError:
        if told := explain(self.url, fault, is_pinned=self._is_pinned):
            return told
        if not self.url.startswith(("http://", "https://")):
            return _no_address(self.url)
        what = "The connection broke" if self._has_answered else "No server answers"
        return UnreachableError(
            f"{what} at {self.url} ({type(fault).__name__}: {fault}).",
            next_step="Start one with `millpond up`, or give the address: millpond login URL.",
        )


def _no_address(url: str) -> InvalidError:
    return InvalidError(
        f"{url[:200]!r} is no address of a server.",
        next_step="Begin it with https:// or http://, such as https://HOST:8787.",
    )


def open_http(url: str, trust: Trust | None) -> "httpx.Client":
    """Open a connection that trusts this authority, or what the machine knows."""
    loaded = load_httpx()
    # A server on this machine is never asked through a proxy of the environment.
    is_near = url.rpartition("://")[2].startswith(("127.", "localhost", "[::1]"))
    verify: Any = False  # Reading the machine's certificates would cost 30 ms.
    if trust is not None:
        verify = trust.context()
    elif not url.startswith("http:"):
        verify = loaded.create_ssl_context()
    made: httpx.Client = loaded.Client(
        timeout=loaded.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
        trust_env=not is_near,
        verify=verify,
    )
    return made


def ask_authority(url: str) -> str:
    """Ask the server at an address for its authority's certificate, PEM, trusting nobody yet.

    Nothing else goes over this connection, and what comes is worth nothing until its fingerprint
    was compared.

    Raises:
        UnreachableError: no answer.
        NotFoundError: the server is none of ours, or an older one.
    """
    httpx = load_httpx()
    address = f"{url.rstrip('/')}{PREFIX}/authority"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        answer = httpx.get(address, verify=context, timeout=_CONNECT_SECONDS)
        answer.raise_for_status()
        return str(answer.json()["certificate"])
    except httpx.TransportError as fault:
        if told := explain(url, fault, is_pinned=False):
            raise told from fault
        raise UnreachableError(
            f"No server answers at {url} ({type(fault).__name__}: {fault}).",
            next_step="Check the address, and that nothing in between holds it back.",
        ) from fault
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as fault:
        raise NotFoundError(
            f"{url} answers, but shows no authority: it is no Millpond server, or an older one.",
            next_step="Check the address, and the version of the server.",
        ) from fault


def fetch_authority(url: str, fingerprint: str) -> Trust:
    """Fetch a server's authority, and trust it if its fingerprint is (or begins as) this one.

    Raises:
        UntrustedError: it has another fingerprint.
        UnreachableError: no answer.
    """
    return check_fingerprint(url, ask_authority(url), fingerprint)


def _known(query: Query | None) -> dict[str, Any]:
    return {key: value for key, value in (query or {}).items() if value is not None}


def _fault(response: "httpx.Response") -> MillpondError:
    try:
        body = response.json()
    except ValueError:
        body = None
    return error_from(response.status_code, body, response.headers.get("retry-after"))
