"""The installation's own authority: it signs the certificates of the host and of its nodes.

Keys are on the curve P-256, signatures are ECDSA with SHA-256. Source: RFC 5280 (certificates),
RFC 2986 (requests to be signed).
"""

import ipaddress
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from millpond.ground.errors import Fault, InvalidError
from millpond.ground.tls import HOST_NAME, Identity, Role, node_host_name, urn_of

AUTHORITY_DAYS, LEAF_DAYS = 3650, 397
RENEW_DAYS = 90
"""A certificate with fewer days left is made anew."""

_BACKDATE = timedelta(hours=2)  # A node's clock may run behind; a larger fault is told of.
_MODE = 0o600


@dataclass(frozen=True)
class Issued:
    """A certificate that was signed.

    Attributes:
        pem: the certificate.
        serial: its number, upper-case hexadecimal, as ``ground.tls.Peer`` has it.
        expires_at: UTC.
    """

    pem: bytes
    serial: str
    expires_at: datetime


class Authority:
    """Signs certificates with the key in a folder."""

    def __init__(self, folder: Path, now: datetime) -> None:
        """Read ``authority.key`` and ``authority.crt``; make both, once, when they are not there.

        Args:
            folder: where they lie; only the server's account may look into it.
            now: UTC.
        """
        key_path, self.path = folder / "authority.key", folder / "authority.crt"
        self._key = _read_or_make_key(key_path)
        if not self.path.exists():
            _write(self.path, _sign_self(self._key, now), 0o644)
        self.pem = self.path.read_bytes()
        self._certificate = x509.load_pem_x509_certificate(self.pem)

    @property
    def fingerprint(self) -> str:
        """The authority's SHA-256, upper-case hexadecimal: what people compare and pin."""
        return fingerprint_of(self.pem)

    def sign(
        self, request_pem: bytes, role: Role, name: str, hosts: Iterable[str], now: datetime
    ) -> Issued:
        """Sign a request; of it only the public key counts, never the names it asks for.

        Args:
            request_pem: PEM of a request (PKCS #10) for a P-256 key.
            role: who it is for.
            name: of the node, or of the installation.
            hosts: names and addresses that it is reached by, beside its own of ``ground.tls``.
            now: UTC.

        Raises:
            InvalidError: it is no request, or its signature is wrong, or its key is another kind.
        """
        public = _read_request(request_pem)
        own = node_host_name(name) if role == "node" else HOST_NAME
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(urn_of(role, name)),
            *(_general_name(host) for host in dict.fromkeys((own, *hosts))),
        ]
        expires_at = (now + timedelta(days=LEAF_DAYS)).replace(microsecond=0)
        serial = x509.random_serial_number()
        made = (
            _builder(f"Millpond {role} {name}"[:64], public, now, expires_at)
            .serial_number(serial)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, serial_of(pem), expires_at)

    def open_identity(
        self, folder: Path, role: Role, name: str, hosts: Iterable[str], now: datetime
    ) -> Identity:
        """Give ``ROLE.crt`` and ``ROLE.key`` of a folder; made anew when due or for other hosts."""
        key_path, path = folder / f"{role}.key", folder / f"{role}.crt"
        key, wanted = _read_or_make_key(key_path), tuple(hosts)
        if not path.exists() or self._is_due(path.read_bytes(), key, wanted, now):
            issued = self.sign(make_request(key), role, name, wanted, now)
            _write(path, issued.pem + self.pem, 0o644)
        return Identity(path, key_path, self.path)

    def _is_due(
        self, pem: bytes, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...], now: datetime
    ) -> bool:
        """Tell whether a certificate ends soon, lacks a host, or is not ours or not the key's."""
        try:
            held = x509.load_pem_x509_certificate(pem)
            held.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return True
        if held.not_valid_after_utc - now < timedelta(days=RENEW_DAYS):
            return True
        if held.public_key() != key.public_key():
            return True
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return any(_general_name(host) not in names for host in hosts)


def make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key in a file of mode 0600; make it, once, when it is not there."""
    return _read_or_make_key(path)


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Give the PEM of a request to sign this key; it asks for no names."""
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def fingerprint_of(pem: bytes) -> str:
    """Give a certificate's SHA-256, upper-case hexadecimal."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex().upper()


def serial_of(pem: bytes) -> str:
    """Give a certificate's number as ``getpeercert`` writes it: whole bytes in hexadecimal."""
    number = x509.load_pem_x509_certificate(pem).serial_number
    text = f"{number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"


def _sign_self(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    expires_at = now + timedelta(days=AUTHORITY_DAYS)
    title = f"Millpond authority {os.urandom(4).hex()}"
    builder = _builder(title, key.public_key(), now, expires_at)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        builder.serial_number(x509.random_serial_number())
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _builder(
    title: str, public: ec.EllipticCurvePublicKey, now: datetime, expires_at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]))
        .public_key(public)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(expires_at)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _read_request(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(pem)
        public = request.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise _unsound("its key is not one of the curve P-256")
        public.verify(request.signature, request.tbs_certrequest_bytes, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as fault:
        raise _unsound("it cannot be read, or its signature is wrong") from fault
    return public


def _unsound(reason: str) -> InvalidError:
    return InvalidError(
        f"The request for a certificate is unsound: {reason}.",
        next_step="Join with `millpond node join`, which makes it.",
        faults=[Fault("csr", reason)],
    )


def _general_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def _read_or_make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(path, pem, _MODE)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - we made it.
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    making.replace(path)
