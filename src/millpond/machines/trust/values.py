"""What is told of how the server is reached, and by what others know it."""

from dataclasses import dataclass
from typing import Literal

Way = Literal["near", "open", "own", "given"]
"""How the server speaks: plainly to this machine alone (near), plainly on a network (open), by TLS
with a certificate of its own authority (own), or by TLS with one that it was given (given)."""


@dataclass(frozen=True)
class AuthorityShown:
    """The installation's own authority, which signs the certificates of its host and its nodes.

    Attributes:
        certificate: its certificate, PEM; anybody may have it.
        fingerprint: SHA-256 of it, upper-case hexadecimal: what people compare.
    """

    certificate: str
    fingerprint: str
