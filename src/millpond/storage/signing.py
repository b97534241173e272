"""Signed addresses of the folder store: who may fetch or leave one object, and until when."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

_SKEW_SECONDS = 5  # The signer's clock may run a little behind the checker's.


def signature(secret: bytes, method: str, key: str, expires: int) -> str:
    """Sign one method on one key until a moment in seconds since 1970."""
    text = f"millpond-object-1\n{method}\n{expires}\n{key}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def address(base_url: str, secret: bytes, method: str, key: str, expires: int) -> str:
    """Write the address that ``is_allowed`` will accept."""
    query = urlencode({"expires": expires, "signature": signature(secret, method, key, expires)})
    return f"{base_url}/objects/{quote(key)}?{query}"


def is_allowed(
    secret: bytes, method: str, key: str, expires: int, given: str, now_seconds: float
) -> bool:
    """Check a signature; HEAD is allowed where GET is."""
    asked = "GET" if method == "HEAD" else method
    right = signature(secret, asked, key, expires)
    return hmac.compare_digest(right.encode(), given.encode()) and (
        now_seconds < expires + _SKEW_SECONDS
    )


def load_key(path: Path) -> bytes:
    """Read the key's file, mode 0600; make it, once, when it is not there."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()
