"""What allows a caller to do one thing on one node: signed by the server, checked by the node.

Nodes hold only the public half of the key, so a node cannot make tokens for the others.
"""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from millpond.ground.canonical import canonical_json
from millpond.ground.clock import Clock, SystemClock
from millpond.ground.errors import NotAllowedError
from millpond.ground.key_files import read_or_make

ANY = "*"
SCHEME = "Millpond"
KEY_FILE = "node-tokens.key"

_PURPOSE = b"millpond-node-token-1\n"
_SKEW_SECONDS = 60  # A node whose clock is further off is refused at the door.
_PARTS = 2


@dataclass(frozen=True)
class Token:
    """One thing that is allowed.

    Attributes:
        method: PUT, GET, DELETE, PUSH, CHECK or INVENTORY.
        digest: of which object; ``*`` for any.
        size_most: most bytes of an object, or of a batch.
        node: on which node.
        expires: until when, seconds since 1970.
        epoch: what the server believes the node to remember.
    """

    method: str
    digest: str
    size_most: int
    node: str
    expires: int
    epoch: int = 0


class TokenSigner:
    """Signs tokens; only the server has one."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Sign with this key."""
        self._key = key

    @property
    def public(self) -> str:
        """The public half, which every node is given when it joins."""
        return _encode(self._key.public_key().public_bytes_raw())

    def sign(self, token: Token) -> str:
        """Write a token as text."""
        said = canonical_json(asdict(token))
        return f"{_encode(said)}.{_encode(self._key.sign(_PURPOSE + said))}"


def open_signer(keys: Path) -> TokenSigner:
    """Read the key in the folder of keys; make it, once, when it is not there."""
    raw = read_or_make(keys / KEY_FILE, lambda: Ed25519PrivateKey.generate().private_bytes_raw())
    return TokenSigner(Ed25519PrivateKey.from_private_bytes(raw))


class TokenChecker:
    """Checks tokens on the node that they are for."""

    def __init__(self, public: str, node: str, clock: Clock | None = None) -> None:
        """Believe the key whose public half this is; ``node`` is this node's own name."""
        self._public = Ed25519PublicKey.from_public_bytes(_decode(public))
        self._node = node
        self._clock = clock or SystemClock()

    def check(self, text: str, method: str, digest: str = ANY) -> Token:
        """Give the token when it allows ``method`` on ``digest`` here and now.

        Raises:
            NotAllowedError: it does not; says why.
        """
        token = self.check_any(text, method)
        if token.digest not in (ANY, digest):
            raise _refused("it is for another object")
        return token

    def check_any(self, text: str, method: str) -> Token:
        """Give the token when it allows ``method`` here and now, on whichever object it names.

        Raises:
            NotAllowedError: it does not; says why.
        """
        token = self._read(text)
        if token.node != self._node:
            raise _refused(f"it is for the node {token.node!r}, and this is {self._node!r}")
        if token.method != method:
            raise _refused(f"it allows {token.method}, not {method}")
        if self._clock.now().timestamp() >= token.expires + _SKEW_SECONDS:
            raise _refused("it has expired")
        return token

    def _read(self, text: str) -> Token:
        parts = text.removeprefix(f"{SCHEME} ").split(".")
        if len(parts) != _PARTS:
            raise _refused("it is none")
        try:
            said, signature = _decode(parts[0]), _decode(parts[1])
            self._public.verify(signature, _PURPOSE + said)
            return Token(**json.loads(said))
        except (ValueError, TypeError, InvalidSignature) as fault:
            raise _refused("its signature is wrong") from fault


def header(token: str) -> dict[str, str]:
    """Give the header that carries a token."""
    return {"Authorization": f"{SCHEME} {token}"}


def _refused(reason: str) -> NotAllowedError:
    return NotAllowedError(
        f"The node refuses the token: {reason}.",
        next_step="Ask the server for a new one; if it goes on, compare the clocks of the host and"
        " of the node, and join the node again.",
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
