"""Mutual TLS: whose certificate this is, and the contexts that connections are made with.

The installation's own authority signs every certificate. Who somebody is stands in a URI among the
names of the certificate: ``urn:millpond:ROLE:NAME``. Roles are ``host`` (the server and its
scheduler) and ``node`` (a machine that runs tasks). Everything here is the standard library's.
"""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["host", "node"]

HOST_NAME = "host.millpond"
"""A name that every certificate of a host holds, whatever its addresses are."""

_URN = "urn:millpond:"


def node_host_name(name: str) -> str:
    """Give the name that a node's certificate holds, whatever its addresses are."""
    return f"{name}.node.millpond"


def urn_of(role: Role, name: str) -> str:
    """Give the URI that says who somebody is."""
    return f"{_URN}{role}:{name}"


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection, by a certificate that was checked.

    Attributes:
        role: ``host`` or ``node``.
        name: of the node; of the installation for a host.
        serial: the certificate's number, upper-case hexadecimal.
    """

    role: Role
    name: str
    serial: str


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """Read who somebody is from ``SSLSocket.getpeercert()``; None when nothing says so."""
    if not certificate:
        return None
    names: Iterable[tuple[str, str]] = certificate.get("subjectAltName", ())
    for kind, value in names:
        if kind == "URI" and value.startswith(_URN):
            role, _, name = value.removeprefix(_URN).partition(":")
            serial = str(certificate.get("serialNumber", "")).upper()
            if role == "host":
                return Peer("host", name, serial)
            if role == "node":
                return Peer("node", name, serial)
    return None


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and the authority that it trusts; all PEM files.

    Attributes:
        certificate: the certificate, with those between it and the authority if there are any.
        key: its private key.
        authority: certificates that others must be signed by.
    """

    certificate: Path
    key: Path
    authority: Path

    def server_context(self, *, require_client: bool) -> ssl.SSLContext:
        """Make the context of a listener; TLS 1.2 at least."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if require_client:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """Make the context of a caller: it shows its certificate and checks the other's name."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context
