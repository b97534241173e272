"""The key that seals are signed with: a file outside the database, for its owner alone."""

import base64
import threading
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from millpond.audit.seals import key_id_of
from millpond.ground.errors import ConflictError
from millpond.ground.key_files import read_or_make
from millpond.storage.database import Transaction
from millpond.storage.fingerprints import find_kept, keep

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

    def in_use(self, tx: Transaction) -> "SealKey":
        """Give the key to sign with in this transaction; itself, unless it can be changed."""
        del tx
        return self


class RotatingKey(SealKey):
    """The key of a server, which can be changed while it runs, here or by another server."""

    def __init__(self, folder: Path) -> None:
        """Open the key of a folder, or make one there."""
        self._folder = folder
        self._known: dict[str, SealKey] = {}
        self._placing = threading.Lock()
        self._take(_read(folder / SEAL_KEY_FILE))

    def in_use(self, tx: Transaction) -> SealKey:
        """Give the key that the database knows as the one in use.

        Raises:
            ConflictError: another server has changed it, and its file is not here yet.
        """
        kept = find_kept(tx, SEAL_KEY_FILE)
        wanted = self.key_id if kept is None else kept.fingerprint
        if wanted not in self._known:
            self._look_again(wanted)
        if kept is not None and wanted not in self._known:
            raise ConflictError(
                f"The key of the log was changed to {wanted} by another server.",
                next_step=f"Have an administrator copy {kept.folder}/{SEAL_KEY_FILE} of the"
                f" machine {kept.host} to {self._folder / SEAL_KEY_FILE}, for its owner alone.",
                key_id=wanted,
            )
        return self._known[wanted]

    def change(self, tx: Transaction) -> SealKey:
        """Make a new key and let the database know it; give it.

        Its file is written first and put in place after the commit; ``finish_change`` mends what
        was cut off between.
        """
        new = Ed25519PrivateKey.generate()
        made = SealKey(new)
        read_or_make(_beside(self._folder, made.key_id), lambda: _pem(new))
        keep(tx, self._folder / SEAL_KEY_FILE, made.key_id)

        tx.after_commit(lambda: self._look_again(made.key_id))
        return made

    def _look_again(self, key_id: str) -> None:
        with self._placing:
            finish_change(self._folder, key_id)
            self._take(_read(self._folder / SEAL_KEY_FILE))

    def _take(self, private: Ed25519PrivateKey) -> None:
        super().__init__(private)
        self._known[self.key_id] = SealKey(private)


def open_seal_key(folder: Path) -> RotatingKey:
    """Read the key from ``folder``, or make one there when there is none.

    Raises:
        ConflictError: the file can be read by others, or holds no Ed25519 key.
    """
    return RotatingKey(folder)


def finish_change(folder: Path, key_id: str) -> None:
    """Put the key of this id in the place of the old, which stays beside it under its own id."""
    new, path = _beside(folder, key_id), folder / SEAL_KEY_FILE
    if not new.exists():
        return
    if path.exists():
        path.replace(_beside(folder, SealKey(_read(path)).key_id))
    new.replace(path)


def _beside(folder: Path, key_id: str) -> Path:
    return folder / f"seal-{key_id}.pem"


def _read(path: Path) -> Ed25519PrivateKey:
    text = read_or_make(path, lambda: _pem(Ed25519PrivateKey.generate()))
    try:
        private = serialization.load_pem_private_key(text, password=None)
    except ValueError:
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConflictError(
            f"{path} holds no Ed25519 key.", next_step="Put the file back from your backup."
        )
    return private


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
