"""Idempotency keys: claimed before the change, settled with its answer, forgotten after a day."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from millpond.storage.database import Transaction
from millpond.web.tables import idempotency_key as table

KEPT = timedelta(days=1)


@dataclass(frozen=True)
class KeptAnswer:
    """What an earlier request with the same key was answered.

    Attributes:
        request_digest: of its method, address and body.
        status: the HTTP status.
        body: the JSON body; None when it was secret and is not kept.
        is_kept: whether the body is kept.
    """

    request_digest: str
    status: int
    body: Any
    is_kept: bool


def claim(tx: Transaction, key_id: str, user_id: str, request_digest: str) -> KeptAnswer | None:
    """Claim a key, or give the answer kept under it.

    On PostgreSQL it waits for another transaction that holds the key.
    """
    tx.execute(table.delete().where(table.c.at < tx.now - KEPT))
    values = {
        "id": key_id,
        "user_id": user_id,
        "request_digest": request_digest,
        "status": 0,
        "is_kept": False,
        "at": tx.now,
    }
    if tx.insert_new(table, values, table.c.id) is not None:
        return None
    row = tx.one(
        sa.select(table.c.request_digest, table.c.status, table.c.body, table.c.is_kept).where(
            table.c.id == key_id
        )
    )
    if row is None:
        return None
    return KeptAnswer(row.request_digest, row.status, row.body, row.is_kept)


def settle(tx: Transaction, key_id: str, status: int, body: Any, *, is_kept: bool) -> None:
    """Keep the answer under the claimed key."""
    kept = body if is_kept else None
    tx.execute(
        table.update().where(table.c.id == key_id).values(status=status, body=kept, is_kept=is_kept)
    )
