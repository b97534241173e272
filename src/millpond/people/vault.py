"""Secrets at rest: AES-256-GCM under a key file that lies outside the database."""

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM
from millpond.ground.canonical import canonical_json
from millpond.ground.errors import ConflictError
from millpond.ground.key_files import read_or_make
from millpond.people import store
from millpond.people.values import LOCAL_KEY_FILE
from millpond.storage.database import Database, Transaction
from millpond.storage.fingerprints import KeyFile, open_key_file

SECRETS_KEY_FILE = "secrets.key"
_FORM = b"\x01"
_NONCE_BYTES, _KEY_BYTES = 12, 32
_MARK = b"millpond-secrets-key-fingerprint-1\n"


class SecretBox:
    """Seals and opens secrets; each is bound to its project and name."""

    def __init__(self, key: bytes) -> None:
        """Take the 32 bytes of the key."""
        self._cipher = AESGCM(key)

    def seal(self, project_id: str, name: str, value: str) -> bytes:
        """Encrypt a value for one place."""
        nonce = os.urandom(_NONCE_BYTES)
        place = _FORM + _place(project_id, name)
        return _FORM + nonce + self._cipher.encrypt(nonce, value.encode(), place)

    def open(self, project_id: str, name: str, sealed: bytes) -> str:
        """Decrypt a value.

        Raises:
            ConflictError: it was sealed with another key or for another place, or was changed.
        """
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            place = sealed[:1] + _place(project_id, name)
            return self._cipher.decrypt(nonce, text, place).decode()
        except (InvalidTag, ValueError):
            raise ConflictError(
                f"The secret {name} cannot be opened with this installation's key.",
                next_step="Set it again with `millpond secret set`, or put the key file"
                f" {SECRETS_KEY_FILE} back from your backup.",
                secret=name,
            ) from None


def open_own_box(database: Database, folder: Path, *, accept_new: bool = False) -> SecretBox:
    """Open the secrets' key of a folder, if it is the one that the database's secrets need.

    Raises:
        ConflictError: it is missing, or another one, or others can read the file.
    """
    file = KeyFile(
        folder / SECRETS_KEY_FILE,
        read=lambda: _read_key(folder / SECRETS_KEY_FILE),
        fingerprint_of=lambda key: hashlib.sha256(_MARK + key).hexdigest(),
        fits=_fits,
        on_replaced=_note_replaced,
    )
    return SecretBox(open_key_file(database, file, accept_new=accept_new))


def open_local_key(folder: Path) -> bytes:
    """Read the key that proves who runs the server, or make it there."""
    return _read_key(folder / LOCAL_KEY_FILE)


def _fits(tx: Transaction, key: bytes | None) -> bool:
    found = store.any_sealed_secret(tx)
    if found is None:
        return True
    if key is None:
        return False
    try:
        SecretBox(key).open(*found)
    except ConflictError:
        return False
    return True


def _note_replaced(tx: Transaction, fingerprint: str) -> None:
    note(tx, SYSTEM, "secret.key.replaced", f"key/{fingerprint[:16]}", after=fingerprint)


def _read_key(path: Path) -> bytes:
    key = read_or_make(path, lambda: os.urandom(_KEY_BYTES))
    if len(key) != _KEY_BYTES:
        raise ConflictError(
            f"{path} does not hold a key of {_KEY_BYTES} bytes.",
            next_step="Put the file back from your backup.",
        )
    return key


def _place(project_id: str, name: str) -> bytes:
    return canonical_json([project_id, name])
