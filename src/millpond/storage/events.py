"""Live events: numbered rows that a listener follows, kept for a day.

The number is drawn inside the transaction, so two transactions may commit out of order. A
listener that saw number 8 may therefore still have to be given 7: ``after`` gives only events
older than any that could still be in flight on PostgreSQL (it takes a short lock when
publishing), and SQLite has one writer at a time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from millpond.storage.database import Transaction, UtcTime, metadata

KEPT = timedelta(days=1)
_LOCK = 7_301_001  # An advisory lock of PostgreSQL: keeps the numbers in the order of commits.

live_event = sa.Table(
    "live_event",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("project_id", sa.String(40), nullable=False, index=True),
    sa.Column("topic", sa.String(120), nullable=False, index=True),
    sa.Column("kind", sa.String(80), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class LiveEvent:
    """Something a page or a progress bar wants to know now.

    Attributes:
        number: rises; what a listener sends back as Last-Event-ID.
        project_id: the project whose members may see it.
        topic: what it is about, for example ``run/run_06d1...``.
        kind: past tense, for example ``pipeline.run.queued`` or ``progress``.
        facts: small JSON facts.
        at: when, by the database's clock.
    """

    number: int
    project_id: str
    topic: str
    kind: str
    facts: dict[str, Any]
    at: datetime


def publish(
    tx: Transaction, *, project_id: str, topic: str, kind: str, facts: dict[str, Any] | None = None
) -> None:
    """Tell listeners of something; they hear of it when the transaction commits."""
    pending: list[dict[str, Any]] = tx.kept.setdefault("live_events", [])
    pending.append({"project_id": project_id, "topic": topic, "kind": kind, "facts": facts or {}})
    tx.before_commit("live_events", lambda: _write(tx))


def _write(tx: Transaction) -> None:
    pending: list[dict[str, Any]] = tx.kept.pop("live_events", [])
    if pending:
        if not tx.is_sqlite:
            tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        now = tx.now
        tx.execute(live_event.insert(), [{**entry, "at": now} for entry in pending])
        told: set[tuple[str, str]] = tx.kept.setdefault("live_topics", set())
        told.update((entry["project_id"], entry["topic"]) for entry in pending)


def topics_of(tx: Transaction) -> frozenset[tuple[str, str]]:
    """Give project and topic of each event that a committed transaction has published."""
    return frozenset(tx.kept.get("live_topics", ()))


def after(
    tx: Transaction, number: int, *, project_id: str, topic: str | None = None, limit: int = 500
) -> list[LiveEvent]:
    """Give the events of a project, or of one topic in it, after a number, oldest first."""
    query = (
        sa.select(live_event)
        .where(live_event.c.number > number, live_event.c.project_id == project_id)
        .order_by(live_event.c.number)
        .limit(limit)
    )
    if topic is not None:
        query = query.where(live_event.c.topic == topic)
    return [LiveEvent(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def last_number(tx: Transaction) -> int:
    """Give the number of the newest event, 0 when there is none."""
    return int(tx.scalar(sa.select(sa.func.max(live_event.c.number))) or 0)


def forget_old(tx: Transaction) -> int:
    """Delete events older than a day; give how many."""
    return tx.execute(live_event.delete().where(live_event.c.at < tx.now - KEPT)).rowcount
