"""A small OpenID provider on loopback, real to the last signature, and bad on demand."""

import hashlib
import hmac
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import Key, RSAKey

CLIENT, SECRET = "millpond", "s3cret/with:signs"


@cache
def make_key(name: str) -> RSAKey:
    """Make a key to sign with; once for all tests, as it takes most of a second."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"}, private=True)


class OidcProvider:
    """Signs everybody in who comes, as the user that the test has chosen.

    ``claims`` are put into the token last, ``header`` and ``key`` may replace what it is signed
    with, and ``refusal`` makes it send people back with an error.
    """

    def __init__(self) -> None:
        self.issuer = ""
        self.user: dict[str, Any] = {"sub": "s-1", "preferred_username": "ann"}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.refusal: dict[str, str] = {}
        self.signing: Key | None = None
        self.asked: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self.rotate("first")

    def rotate(self, name: str) -> None:
        """Sign with a new key from now on, and show that one alone."""
        self.key: Key = make_key(name)

    def answer(self, path: str, sent: dict[str, str], given: str) -> tuple[int, Any]:
        """Answer a request: what is asked by a page leads back to the client."""
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            names = {
                "authorization_endpoint": "/authorize",
                "token_endpoint": "/token",
                "jwks_uri": "/keys",
                "userinfo_endpoint": "/who",
            }
            return 200, {n: self.issuer + p for n, p in names.items()} | {"issuer": self.issuer}
        if path == "/keys":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        if path == "/who":
            return (200, self.user | self.more) if given == "Bearer opens" else (401, {})
        if path == "/authorize":
            return 303, self._authorize(sent)
        if path == "/token":
            return self._token(sent, given)
        return 404, {}

    def _authorize(self, asked: dict[str, str]) -> str:
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        back = {"state": asked["state"], **(self.refusal or {"code": code})}
        return asked["redirect_uri"] + "?" + urlencode(back)

    def _token(self, sent: dict[str, str], given: str) -> tuple[int, Any]:
        name, _, secret = b64decode(given.removeprefix("Basic ")).decode().partition(":")
        if (unquote(name), unquote(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        asked = self._codes.pop(sent["code"], None)
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked["code_challenge"], asked["redirect_uri"]) != (
            challenge, sent["redirect_uri"]
        ):  # fmt: skip
            return 400, {"error": "invalid_grant", "error_description": "The code is no good."}
        return 200, {"access_token": "opens", "token_type": "Bearer", "id_token": self._sign(asked)}

    def _sign(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "nonce": asked["nonce"], "iat": now}
        claims |= {"exp": now + 300, **self.user, **self.claims}
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        if header["alg"] in ("none", "HS256"):  # By hand: no library signs like that.
            parts = [urlsafe_b64encode(dumps(part).encode()) for part in (header, claims)]
            text = b".".join(part.rstrip(b"=") for part in parts)
            public = self.key.as_pem(private=False)  # As if it were a password.
            signed = hmac.digest(public, text, "sha256") if header["alg"] == "HS256" else b""
            return (text + b"." + urlsafe_b64encode(signed).rstrip(b"=")).decode()
        return jwt.encode(header, claims, self.signing or self.key, algorithms=[header["alg"]])


@contextmanager
def serve_provider() -> Iterator[OidcProvider]:
    """Serve a provider on a free port of loopback."""
    provider = OidcProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._give(parts.path, parts.query)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self._give(self.path, self.rfile.read(length).decode())

        def _give(self, path: str, sent: str) -> None:
            fields = {name: values[-1] for name, values in parse_qs(sent).items()}
            status, body = provider.answer(path, fields, self.headers.get("Authorization", ""))
            written = b"" if isinstance(body, str) else dumps(body).encode()
            self.send_response(status)
            if isinstance(body, str):
                self.send_header("Location", body)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
