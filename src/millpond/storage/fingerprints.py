"""Which key files belong to this database, so that a server with others never starts.

At the first start a fingerprint of each key file is kept in the database, with the machine and the
folder where the file lies. A server whose file is missing or another one is refused before it
makes, seals or encrypts anything.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from millpond.ground.errors import ConflictError
from millpond.storage.database import Database, Transaction
from millpond.storage.tables import key_fingerprint

K = TypeVar("K")


@dataclass(frozen=True)
class KeyFile(Generic[K]):
    """A key file, and how to tell whether it is the right one.

    Attributes:
        path: the file.
        read: read the key from the file, or make it there.
        fingerprint_of: name a key without telling it; at most 64 characters.
        fits: whether a key, None for a file that is missing, goes with what the database holds.
            Asked only of a database that keeps no fingerprint yet.
        on_replaced: write into the log that another key is taken from now on.
    """

    path: Path
    read: Callable[[], K]
    fingerprint_of: Callable[[K], str]
    fits: Callable[[Transaction, K | None], bool]
    on_replaced: Callable[[Transaction, str], None]


@dataclass(frozen=True)
class Kept:
    """What the database knows of a key file.

    Attributes:
        fingerprint: of the key.
        host: the machine where it was taken.
        folder: the folder where it lay there.
    """

    fingerprint: str
    host: str
    folder: str


def find_kept(tx: Transaction, name: str) -> Kept | None:
    """Give what is known of the key file of this name."""
    row = tx.one(sa.select(key_fingerprint).where(key_fingerprint.c.name == name))
    return None if row is None else Kept(row.fingerprint, row.host, row.folder)


def keep(tx: Transaction, path: Path, fingerprint: str) -> None:
    """Keep a key file's fingerprint, in place of the one before if there is one."""
    if not _keep_first(tx, path, fingerprint):
        known = key_fingerprint.c.name == path.name
        tx.execute(key_fingerprint.update().where(known).values(_row(tx, path, fingerprint)))


def _keep_first(tx: Transaction, path: Path, fingerprint: str) -> bool:
    """Keep a fingerprint unless there is one; waits for another server that is keeping its own."""
    row = _row(tx, path, fingerprint)
    return tx.insert_new(key_fingerprint, row, key_fingerprint.c.name) is not None


def _row(tx: Transaction, path: Path, fingerprint: str) -> dict[str, Any]:
    return {
        "name": path.name,
        "fingerprint": fingerprint,
        "host": socket.gethostname(),
        "folder": str(path.parent),
        "kept_at": tx.now,
    }


def open_key_file(database: Database, file: KeyFile[K], *, accept_new: bool = False) -> K:
    """Give the key of a file that belongs to the database; a new database takes what is there.

    Args:
        database: the database, migrated.
        file: the key file.
        accept_new: take the file, or make it, although the database knows another key.

    Raises:
        ConflictError: the file is missing, or holds another key than the database's.
    """
    name = file.path.name
    kept = database.read(lambda tx: find_kept(tx, name))
    if not accept_new and not file.path.exists():
        is_needed = kept is not None or not database.read(lambda tx: file.fits(tx, None))
        if is_needed:
            raise _refused(file.path, kept, "is missing")
    key = file.read()
    fingerprint = file.fingerprint_of(key)

    def check(tx: Transaction) -> None:
        known = find_kept(tx, name)
        if known is None and file.fits(tx, key):
            if _keep_first(tx, file.path, fingerprint):
                return
            known = find_kept(tx, name)
        if known is not None and known.fingerprint == fingerprint:
            return
        if not accept_new:
            raise _refused(file.path, known, "holds another key")
        keep(tx, file.path, fingerprint)
        file.on_replaced(tx, fingerprint)

    if kept is None or kept.fingerprint != fingerprint:
        database.change(check)
    return key


def _refused(path: Path, kept: Kept | None, what: str) -> ConflictError:
    if kept is None:
        source = f"{path.name} of the server that used it before, or of your backup"
    else:
        source = f"{kept.folder}/{path.name} of the machine {kept.host}, or of your backup"
    return ConflictError(
        f"The key file {path} {what}: this database was used with another one"
        + (f" (fingerprint {kept.fingerprint[:16]})." if kept else "."),
        next_step=f"Copy {source}, to {path} (for its owner alone: chmod 600) and start again. If"
        " it is lost for good, the administrator's guide tells how to go on without"
        " (server.accept_new_keys).",
        file=path.name,
    )
