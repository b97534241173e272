"""The key that seals are signed with: a file outside the database, for its owner alone."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from millpond.audit.seals import key_id_of
from millpond.ground.errors import ConflictError
from millpond.ground.key_files import read_or_make

SEAL_KEY_FILE = "seal.pem"


class SealKey:
    """An Ed25519 key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Take the private key; its id follows from the public one."""
        self._private = private
        self.public_key = private.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    def sign(self, data: bytes) -> str:
        """Sign bytes; give the signature in base64."""
        return base64.b64encode(self._private.sign(data)).decode()


def open_seal_key(folder: Path) -> SealKey:
    """Read the key from ``folder``, or make one there when there is none.

    Raises:
        ConflictError: the file can be read by others, or holds no Ed25519 key.
    """
    path = folder / SEAL_KEY_FILE
    text = read_or_make(path, _new_pem)
    try:
        private = serialization.load_pem_private_key(text, password=None)
    except ValueError:
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConflictError(
            f"{path} holds no Ed25519 key.", next_step="Put the file back from your backup."
        )
    return SealKey(private)


def change_seal_key(folder: Path) -> SealKey:
    """Put a new key in the place of the old, which stays beside it under its own id.

    Seals of the old key stay good: its public key is in the database. Restart the server
    afterwards.
    """
    old = open_seal_key(folder)
    path = folder / SEAL_KEY_FILE
    path.rename(folder / f"seal-{old.key_id}.pem")
    return open_seal_key(folder)


def _new_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
