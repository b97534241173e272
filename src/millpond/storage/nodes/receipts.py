"""Receipts: a node signs what it has flushed; the server checks it with the node's certificate."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from millpond.ground.canonical import canonical_json
from millpond.ground.clock import Clock, SystemClock
from millpond.ground.errors import InvalidError
from millpond.ground.tls import Identity, urn_of
from millpond.storage.nodes.values import Receipt

_PURPOSE = b"millpond-receipt-1\n"
_HASH = ec.ECDSA(hashes.SHA256())


class ReceiptSigner:
    """Signs receipts with the key of a node's certificate."""

    def __init__(self, identity: Identity, node: str, clock: Clock | None = None) -> None:
        """Sign as ``node``, whose certificate and key ``identity`` names."""
        key = serialization.load_pem_private_key(identity.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - our authority's kind.
        self._key = key
        self.node = node
        held = x509.load_pem_x509_certificates(identity.certificate.read_bytes())[0]
        self._certificate = held.public_bytes(serialization.Encoding.PEM).decode()
        self._clock = clock or SystemClock()

    def sign(self, objects: Iterable[tuple[str, int]]) -> Receipt:
        """Sign that this node holds these digests with these sizes."""
        at = int(self._clock.now().timestamp())
        receipt = Receipt(self.node, tuple(objects), at, self._certificate)
        signature = self._key.sign(_signed(receipt), _HASH)
        return replace(receipt, signature=base64.b64encode(signature).decode())


class ReceiptChecker:
    """Checks receipts against the installation's authority."""

    def __init__(
        self,
        authority: Path,
        is_revoked: Callable[[str], bool] = lambda _serial: False,
        clock: Clock | None = None,
    ) -> None:
        """Believe certificates that this authority signed and that are not revoked."""
        self._authorities = x509.load_pem_x509_certificates(authority.read_bytes())
        self._is_revoked = is_revoked
        self._clock = clock or SystemClock()
        self._read = lru_cache(maxsize=256)(self._read_certificate)

    def check(self, receipt: Receipt) -> Receipt:
        """Give the receipt back when the node that it names has signed it.

        Raises:
            InvalidError: it is forged, changed, or its certificate is not good; says why.
        """
        try:
            certificate = self._read(receipt.certificate)
            public = certificate.public_key()
            if not isinstance(public, ec.EllipticCurvePublicKey):
                raise _unsound(receipt, "its certificate's key is of another kind")
            public.verify(base64.b64decode(receipt.signature), _signed(receipt), _HASH)
        except (ValueError, TypeError, InvalidSignature) as fault:
            raise _unsound(receipt, "its signature or its certificate is wrong") from fault
        now = self._clock.now()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise _unsound(receipt, "its certificate has expired")
        if urn_of("node", receipt.node) not in _names(certificate):
            raise _unsound(receipt, "its certificate is another's")
        if self._is_revoked(_serial(certificate)):
            raise _unsound(receipt, "its certificate was revoked")
        return receipt

    def _read_certificate(self, pem: str) -> x509.Certificate:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        for authority in self._authorities:
            if certificate.issuer == authority.subject:
                certificate.verify_directly_issued_by(authority)
                return certificate
        raise ValueError("another authority")


def age_seconds(receipt: Receipt, now: datetime) -> float:
    """Give how long ago a receipt was signed."""
    return now.timestamp() - receipt.at


def _signed(receipt: Receipt) -> bytes:
    return _PURPOSE + canonical_json(receipt.said())


def _names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)


def _serial(certificate: x509.Certificate) -> str:
    text = f"{certificate.serial_number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"


def _unsound(receipt: Receipt, reason: str) -> InvalidError:
    return InvalidError(
        f"A receipt in the name of the node {receipt.node!r} is not good: {reason}.",
        next_step="Nothing was stored. Look at the node with `millpond node doctor`; if nobody"
        " meddled with it, join it again.",
    )
