"""Open the database and the object store that the settings name."""

import os
from pathlib import Path

from millpond.ground.key_files import read_or_make
from millpond.ground.settings import DatabaseSettings, ObjectsSettings
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore
from millpond.storage.port import ObjectStore
from millpond.storage.s3 import S3Store


def open_database(chosen: DatabaseSettings, data: Path) -> Database:
    """Open the database; without an address, ``millpond.db`` in the data folder."""
    if chosen.url:
        return Database(chosen.url, pool_size=chosen.pool_size)
    path = data / "millpond.db"
    path.touch(mode=0o600)  # The folder may be one that others can look into.
    return Database(f"sqlite:///{path}", pool_size=chosen.pool_size)


def open_objects(chosen: ObjectsSettings, data: Path, url: str) -> ObjectStore:
    """Open the object store; ``url`` is where our own route serves a folder's signed addresses."""
    if chosen.kind == "folder":
        key = read_or_make(data / "keys" / "objects.key", lambda: os.urandom(32))
        folder = Path(chosen.folder).expanduser().absolute() if chosen.folder else data / "objects"
        return FolderStore(folder, url, key)
    return S3Store(
        bucket=chosen.bucket,
        endpoint=chosen.endpoint,
        region=chosen.region,
        access_key_id=chosen.access_key_id,
        secret_access_key=chosen.secret_access_key,
        allow_http=chosen.allow_http,
        prefix=chosen.prefix,
    )
