"""Open the key of seals, once it is certain that it is the database's."""

from pathlib import Path

from millpond.audit import seals, store
from millpond.audit.actions import note, payload_of
from millpond.audit.keys import SEAL_KEY_FILE, RotatingKey, SealKey, finish_change, open_seal_key
from millpond.ground.actor import SYSTEM
from millpond.storage.database import Database, Transaction
from millpond.storage.fingerprints import KeyFile, find_kept, open_key_file


def open_own_key(database: Database, folder: Path, *, accept_new: bool = False) -> RotatingKey:
    """Open the key of a folder, if it is the one that the database's log is sealed with.

    Raises:
        ConflictError: it is missing, or another one, or others can read the file.
    """
    kept = database.read(lambda tx: find_kept(tx, SEAL_KEY_FILE))
    if kept is not None:
        finish_change(folder, kept.fingerprint)  # Of a change that a crash has cut off.
    file = KeyFile(
        folder / SEAL_KEY_FILE,
        read=lambda: open_seal_key(folder),
        fingerprint_of=lambda key: key.key_id,
        fits=_fits,
        on_replaced=_note_replaced,
    )
    return open_key_file(database, file, accept_new=accept_new)


def _fits(tx: Transaction, key: SealKey | None) -> bool:
    newest = store.newest_seal(tx)
    if newest is None:
        return True
    return key is not None and seals.is_signed(payload_of(newest), newest.signature, key.public_key)


def _note_replaced(tx: Transaction, fingerprint: str) -> None:
    note(tx, SYSTEM, "log.key.replaced", f"key/{fingerprint}", after=fingerprint)
