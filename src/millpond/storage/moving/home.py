"""In which store the objects lie that the database knows of.

The database keeps the store's number, and the store holds it under a key of its own: so a store is
known again at any address, and another one is never taken for it. Objects on nodes need no
number: their names are in the database itself.
"""

import json
import logging
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from millpond.ground.errors import BusyError, ConflictError, NotFoundError
from millpond.ground.settings import ObjectsSettings
from millpond.storage.database import Database, Transaction
from millpond.storage.moving.values import Home
from millpond.storage.nodes import store
from millpond.storage.port import ObjectStore

log = logging.getLogger("millpond.storage")

MARKER = "store-id"
"""The key under which a folder or a bucket keeps its number."""

_HOME, _OLD = "objects home", "objects old"


def where_of(chosen: ObjectsSettings, folder: Path) -> str:
    """Say where a store lies, for people.

    Args:
        chosen: its settings.
        folder: of the host, where that is meant.
    """
    if chosen.kind == "folder":
        return str(folder)
    if chosen.kind == "nodes":
        return ""
    prefix = f"/{chosen.prefix.strip('/')}" if chosen.prefix.strip("/") else ""
    return f"{chosen.endpoint or 'Amazon'}, bucket {chosen.bucket}{prefix}"


def find_home(tx: Transaction) -> Home | None:
    """Give the store of this database; None before the first server has noted it."""
    return _read(tx, _HOME)


def find_old(tx: Transaction) -> Home | None:
    """Give the store that the objects were moved from, while its copy is still kept."""
    return _read(tx, _OLD)


def put_home(tx: Transaction, home: Home, old: Home | None = None) -> None:
    """Note the store, and the one that it takes the place of."""
    store.put_fact(tx, _HOME, json.dumps(home.to_json()))
    if old is not None:
        store.put_fact(tx, _OLD, json.dumps(old.to_json()))


def drop_old(tx: Transaction) -> None:
    """Note that no old copy is kept any more."""
    store.drop_fact(tx, _OLD)


def read_marker(objects: ObjectStore) -> str:
    """Give a store's number; empty when it has none.

    Raises:
        BusyError: the store does not answer.
    """
    try:
        return objects.get(MARKER).decode("ascii", "replace").strip()
    except NotFoundError:
        return ""


def make_marker(objects: ObjectStore) -> str:
    """Give a store's number; one that has none gets one."""
    with suppress(ConflictError):  # Another server was faster, or it has one.
        objects.put(MARKER, uuid4().hex.encode())
    return read_marker(objects)


def check_home(
    database: Database, chosen: ObjectsSettings, folder: Path, objects: ObjectStore
) -> Home | None:
    """Refuse a store that does not hold what the database knows; give the home if it is new.

    Args:
        database: migrated.
        chosen: the settings of ``objects``.
        folder: the host's folder.
        objects: the store that was opened.

    Raises:
        ConflictError: the objects lie elsewhere; names where, and what to do.
    """
    known = database.read(find_home)
    where = where_of(chosen, folder)
    try:
        if known is None:
            database.read(lambda tx: _check_unnoted(tx, chosen, folder, objects))
        elif chosen.accept_restored:
            log.warning("The objects are taken from %s %s, as settings say", chosen.kind, where)
        elif _is_home(known, chosen, where, objects):
            return None
        number = "" if chosen.kind == "nodes" else make_marker(objects)
    except BusyError as fault:
        # Health tells of a store that does not answer; what it holds is looked at the next time.
        log.warning("The object store could not be looked at: %s", fault.message)
        return None
    home = Home(chosen.kind, number, where)
    if home == known:
        return None
    database.change(lambda tx: put_home(tx, home))
    return home


def _is_home(known: Home, chosen: ObjectsSettings, where: str, objects: ObjectStore) -> bool:
    """Tell whether a store is the one that is known; False when it takes its place of right.

    Raises:
        ConflictError: it is another.
    """
    if known.kind == "nodes" or chosen.kind == "nodes":
        if known.kind == chosen.kind:
            return True
        # A host's folder goes on being read when the nodes take what is new.
        if known.kind == "folder" and read_marker(objects) == known.id:
            return False
        raise _elsewhere(known, chosen.kind, where)
    try:
        is_same = read_marker(objects) == known.id
    except BusyError as fault:
        if known.where != where:
            raise _elsewhere(known, chosen.kind, where) from fault
        raise
    if not is_same:
        raise _elsewhere(known, chosen.kind, where)
    return True


def _elsewhere(known: Home, kind: str, where: str) -> ConflictError:
    if (known.kind, known.where) == (kind, where):
        return ConflictError(
            f"{known.shown[0].upper()}{known.shown[1:]} is not the one that held this"
            f" installation's objects: its file {MARKER} is missing or another one.",
            next_step="Mount its disk, or bring its objects back from where they are or from your"
            " backup, the file too, and start again. If they are lost for good, start once with"
            " objects.accept_restored.",
        )
    there = Home(kind, "", where)
    return ConflictError(
        f"The settings name {there.shown}, but this installation's objects lie in {known.shown}.",
        next_step=f"Move them with the server stopped: `millpond store move --to {kind}`; or set"
        f' objects.kind = "{known.kind}" again, with the settings that go with it. If the database'
        " was restored from a backup and the settings are right, start once with"
        " objects.accept_restored.",
    )


def _check_unnoted(
    tx: Transaction, chosen: ObjectsSettings, folder: Path, objects: ObjectStore
) -> None:
    """Refuse a change of ``objects.kind`` by hand that came before homes were noted."""
    if chosen.kind != "nodes" and next(iter(store.list_names(tx, "", "", 1)), None) is not None:
        raise _elsewhere(Home("nodes", "", ""), chosen.kind, where_of(chosen, folder))
    lay_in_folder = (folder / "objects").is_dir() and any((folder / "objects").iterdir())
    if chosen.kind == "s3" and lay_in_folder and next(iter(objects.list("")), None) is None:
        raise _elsewhere(Home("folder", "", str(folder)), chosen.kind, where_of(chosen, folder))


def _read(tx: Transaction, name: str) -> Home | None:
    text = store.find_fact(tx, name)
    if text is None:
        return None
    kept = json.loads(text)
    return Home(str(kept["kind"]), str(kept["id"]), str(kept["where"]))
