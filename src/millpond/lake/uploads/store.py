"""All SQL of uploads."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from millpond.lake.uploads.tables import upload, upload_part
from millpond.lake.uploads.values import Part, Upload
from millpond.storage.database import Transaction

_COLUMNS = tuple(column for column in upload.c if column.name not in ("project_id", "user_id"))


def add(tx: Transaction, values: dict[str, Any]) -> None:
    """Write an upload's row."""
    tx.execute(upload.insert().values(**values))


def find(tx: Transaction, project_id: str, user_id: str, upload_id: str) -> Upload | None:
    """Give an upload of this person's that has not expired."""
    row = tx.one(
        sa.select(*_COLUMNS).where(
            upload.c.id == upload_id,
            upload.c.project_id == project_id,
            upload.c.user_id == user_id,
            upload.c.expires_at > tx.now,
        )
    )
    return None if row is None else Upload(**row._mapping)  # noqa: SLF001 - its public name.


def list_own(
    tx: Transaction,
    project_id: str,
    user_id: str,
    *,
    is_finished: bool | None,
    after: str,
    limit: int,
) -> list[Upload]:
    """Give a person's uploads, oldest first."""
    query = (
        sa.select(*_COLUMNS)
        .where(upload.c.project_id == project_id, upload.c.user_id == user_id)
        .where(upload.c.id > after, upload.c.expires_at > tx.now)
        .order_by(upload.c.id)
        .limit(limit)
    )
    if is_finished is not None:
        query = query.where(upload.c.digest.is_not(None) == is_finished)
    return [Upload(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def count_open(tx: Transaction, project_id: str, user_id: str) -> tuple[int, int]:
    """Count a person's unfinished uploads in a project, and the bytes of all that it has."""
    if not tx.is_sqlite:  # Two that begin at once must see each other; SQLite has one writer.
        tx.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"up:{project_id}"}
        )
    is_own = sa.case((upload.c.user_id == user_id, 1), else_=0)
    row = tx.one(
        sa.select(
            sa.func.coalesce(sa.func.sum(is_own), 0).label("own"),
            sa.func.coalesce(sa.func.sum(upload.c.size_bytes), 0).label("size_bytes"),
        ).where(
            upload.c.project_id == project_id,
            upload.c.digest.is_(None),
            upload.c.expires_at > tx.now,
        )
    )
    assert row is not None  # noqa: S101 - a sum has one row.
    return int(row.own), int(row.size_bytes)


def add_part(tx: Transaction, upload_id: str, part: Part, expires_at: datetime) -> bool:
    """Take a part in, if nobody has taken in another at its place."""
    changed = tx.execute(
        upload.update()
        .where(
            upload.c.id == upload_id,
            upload.c.received_bytes == part.start,
            upload.c.digest.is_(None),
        )
        .values(
            received_bytes=part.start + part.size_bytes, changed_at=tx.now, expires_at=expires_at
        )
    )
    if changed.rowcount != 1:
        return False
    tx.execute(upload_part.insert().values(upload_id=upload_id, **vars(part)))
    return True


def list_parts(tx: Transaction, upload_id: str) -> list[Part]:
    """Give the parts in their order."""
    query = (
        sa.select(upload_part.c.start, upload_part.c.size_bytes, upload_part.c.object_key)
        .where(upload_part.c.upload_id == upload_id)
        .order_by(upload_part.c.start)
    )
    return [Part(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def settle(
    tx: Transaction, upload_id: str, size_bytes: int, digest: str, kept_for: timedelta
) -> bool:
    """Write that an upload is whole and forget its parts, if nobody else has."""
    changed = tx.execute(
        upload.update()
        .where(upload.c.id == upload_id, upload.c.digest.is_(None))
        .values(
            digest=digest,
            received_bytes=size_bytes,
            changed_at=tx.now,
            expires_at=tx.now + kept_for,
        )
    )
    tx.execute(upload_part.delete().where(upload_part.c.upload_id == upload_id))
    return changed.rowcount == 1


def remove(tx: Transaction, upload_id: str) -> None:
    """Forget an upload and its parts."""
    tx.execute(upload_part.delete().where(upload_part.c.upload_id == upload_id))
    tx.execute(upload.delete().where(upload.c.id == upload_id))


def remove_expired(tx: Transaction, limit: int) -> list[str]:
    """Forget uploads whose time is over; give the keys of their parts."""
    return _remove_all(tx, sa.select(upload.c.id).where(upload.c.expires_at <= tx.now).limit(limit))


def remove_unfinished(tx: Transaction, project_id: str, user_id: str) -> list[str]:
    """Forget a person's uploads that are not finished; give the keys of their parts."""
    return _remove_all(
        tx,
        sa.select(upload.c.id).where(
            upload.c.project_id == project_id,
            upload.c.user_id == user_id,
            upload.c.digest.is_(None),
        ),
    )


def _remove_all(tx: Transaction, query: sa.Select[tuple[str]]) -> list[str]:
    ids = [row.id for row in tx.rows(query)]
    is_theirs = upload_part.c.upload_id.in_(ids)
    keys = [row.object_key for row in tx.rows(sa.select(upload_part.c.object_key).where(is_theirs))]
    tx.execute(upload_part.delete().where(is_theirs))
    tx.execute(upload.delete().where(upload.c.id.in_(ids)))
    return keys


def list_keys(tx: Transaction) -> set[str]:
    """Give the keys of all parts that belong to an upload."""
    return {row.object_key for row in tx.rows(sa.select(upload_part.c.object_key))}
