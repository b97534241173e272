"""A device that holds passkeys, written out: it does what a browser and a security key do."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_PRESENT, _VERIFIED, _ATTESTED = 0x01, 0x04, 0x40


def encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """Holds one passkey, in a browser that shows a page of an origin."""

    origin: str
    id: bytes = b"\x07" * 32
    count: int = 0
    user: bytes = b""
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def make(self, options: dict[str, Any]) -> dict[str, Any]:
        """Do what ``navigator.credentials.create`` does."""
        assert options["authenticatorSelection"]["residentKey"] == "required"
        self.user = decode(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        public = cbor2.dumps(
            {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        )
        known = bytes(16) + len(self.id).to_bytes(2) + self.id + public
        data = self._data(options["rp"]["id"], _ATTESTED) + known
        made = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        said = self._client_data("webauthn.create", options)
        return self._written(said, attestationObject=encode(made))

    def sign(self, options: dict[str, Any]) -> dict[str, Any]:
        """Do what ``navigator.credentials.get`` does."""
        assert not options.get("allowCredentials")
        self.count += 1
        data = self._data(options["rpId"], 0)
        said = self._client_data("webauthn.get", options)
        signed = self.key.sign(data + hashlib.sha256(said).digest(), ec.ECDSA(hashes.SHA256()))
        more = {"signature": encode(signed), "userHandle": encode(self.user)}
        return self._written(said, authenticatorData=encode(data), **more)

    def _data(self, place: str, flags: int) -> bytes:
        flag = bytes([_PRESENT | _VERIFIED | flags])
        return hashlib.sha256(place.encode()).digest() + flag + self.count.to_bytes(4)

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        facts = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        return json.dumps(facts).encode()

    def _written(self, said: bytes, **more: str) -> dict[str, Any]:
        name = encode(self.id)
        response = {"clientDataJSON": encode(said), **more}
        return {"id": name, "rawId": name, "type": "public-key", "response": response}
