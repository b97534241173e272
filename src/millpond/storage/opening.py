"""Open the database and the object store that the settings name."""

import os
from collections.abc import Callable
from pathlib import Path

from millpond.ground.canonical import digest_of
from millpond.ground.key_files import read_or_make
from millpond.ground.settings import ClusterSettings, DatabaseSettings, ObjectsSettings
from millpond.ground.tls import Identity
from millpond.storage.claims import ATOMIC, Claims, known_race
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.receipts import ReceiptChecker
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.tokens import open_signer
from millpond.storage.nodes.values import Pace
from millpond.storage.port import ObjectStore
from millpond.storage.s3 import S3Store


def open_database(chosen: DatabaseSettings, data: Path) -> Database:
    """Open the database; without an address, ``millpond.db`` in the data folder."""
    if chosen.url:
        return Database(chosen.url, pool_size=chosen.pool_size)
    path = data / "millpond.db"
    path.touch(mode=0o600)  # The folder may be one that others can look into.
    return Database(f"sqlite:///{path}", pool_size=chosen.pool_size)


def open_objects(
    chosen: ObjectsSettings, data: Path, url: str, database: Database | None = None
) -> ObjectStore:
    """Open a folder or S3; ``url`` is where our own route serves a folder's signed addresses.

    With a database, an S3 service is raced the first time; where several writers can create the
    same key, the database decides from then on.
    """
    if chosen.kind == "folder":
        return _open_folder(chosen, data, url)
    store = S3Store(
        bucket=chosen.bucket,
        endpoint=chosen.endpoint,
        region=chosen.region,
        access_key_id=chosen.access_key_id,
        secret_access_key=chosen.secret_access_key,
        allow_http=chosen.allow_http,
        prefix=chosen.prefix,
    )
    if database is not None:
        service = digest_of([chosen.endpoint, chosen.region, chosen.bucket])[:32]
        store.race = known_race(database, service, store)
        store.claims = None if store.race == ATOMIC else Claims(database)
    return store


def open_nodes(
    chosen: ObjectsSettings,
    cluster: ClusterSettings,
    data: Path,
    url: str,
    *,
    database: Database,
    identity: Identity,
    is_revoked: Callable[[str], bool] = lambda _serial: False,
    is_other_version: Callable[[str], bool] = lambda _node: False,
) -> NodeStore:
    """Open the store on the nodes' data disks; close it at the end.

    Args:
        chosen: settings of the objects; logs lie in the folder that they name.
        cluster: when a node counts as suspect or lost.
        data: folder of all data.
        url: where our own route serves signed addresses.
        database: keeps the names; migrated.
        identity: the host's certificate, by which nodes know it.
        is_revoked: tells whether a node's certificate, by its number, is good no more.
        is_other_version: tells whether a node answers, and is refused for its version.
    """
    ledger = Ledger(
        open_signer(data / "keys"),
        ReceiptChecker(identity.authority, is_revoked),
        pace=Pace(suspect=cluster.suspect_seconds, lost=cluster.lost_seconds),
        allow_one_copy=chosen.allow_one_copy,
        is_other_version=is_other_version,
    )
    if chosen.accept_restored:
        database.change(ledger.confirm)
    return NodeStore(
        database,
        ledger,
        NodeClient(identity),
        _open_folder(chosen, data, url),
        HostCache(data / "objects-cache", chosen.cache_bytes),
    )


def folder_of(chosen: ObjectsSettings, data: Path) -> Path:
    """Give the folder of the host that the settings name."""
    return Path(chosen.folder).expanduser().absolute() if chosen.folder else data / "objects"


def _open_folder(chosen: ObjectsSettings, data: Path, url: str) -> FolderStore:
    key = read_or_make(data / "keys" / "objects.key", lambda: os.urandom(32))
    return FolderStore(folder_of(chosen, data), url, key)
