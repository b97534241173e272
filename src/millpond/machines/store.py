"""All statements about nodes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.ground.ids import new_id
from millpond.machines.tables import (
    node,
    node_certificate,
    node_event,
    node_token,
    node_work_line,
)
from millpond.machines.values import Certificate, NodeEvent, WorkLine
from millpond.storage.database import Transaction


@dataclass(frozen=True)
class NodeRow:
    """A node as the table has it; what each field means stands in ``tables`` and ``values``."""

    name: str
    stage: str
    is_draining: bool
    told_state: str
    address: str
    version: str
    slots_most: int
    gpus_most: int
    labels: dict[str, str]
    price_per_hour: float
    refused: str
    facts: dict[str, Any]
    meters: dict[str, Any]
    store: dict[str, Any]
    running: list[str]
    serial: str
    machine: dict[str, Any]
    joined_at: datetime
    seen_at: datetime | None
    removed_at: datetime | None
    certificate_expires_at: datetime | None


@dataclass(frozen=True)
class TokenRow:
    """Leave to join, as the table has it."""

    id: str
    made_by: str
    expires_at: datetime
    node: str
    grants: dict[str, Any]
    used_by: str | None
    used_at: datetime | None


_QUERY = sa.select(node, node_certificate.c.expires_at.label("certificate_expires_at")).outerjoin(
    node_certificate, node_certificate.c.serial == node.c.serial
)


# Nodes -------------------------------------------------------------------------------------------


def find(tx: Transaction, name: str, *, lock: bool = False) -> NodeRow | None:
    """Find a node by its name."""
    query = _QUERY.where(node.c.name == name)
    if lock and not tx.is_sqlite:  # SQLite has one writer at a time anyway.
        query = query.with_for_update(of=node)
    row = tx.one(query)
    return None if row is None else NodeRow(**row._mapping)  # noqa: SLF001 - its public name.


def list_by_name(
    tx: Transaction, *, after: str, limit: int, with_removed: bool = False
) -> list[NodeRow]:
    """Give nodes by name."""
    query = _QUERY.where(node.c.name > after).order_by(node.c.name).limit(limit)
    if not with_removed:
        query = query.where(node.c.stage != "removed")
    return [NodeRow(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def list_members(tx: Transaction) -> list[NodeRow]:
    """Give all nodes that have joined and were not removed."""
    query = _QUERY.where(node.c.stage == "joined").order_by(node.c.name)
    return [NodeRow(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def add(tx: Transaction, name: str, values: dict[str, Any]) -> bool:
    """Write a new node; tell whether no other of that name was written a moment ago."""
    return tx.insert_new(node, {"name": name, **values}, node.c.name) is not None


def change_member(tx: Transaction, name: str, values: dict[str, Any]) -> bool:
    """Change columns of a node unless it was removed meanwhile; tell whether it was not."""
    chosen = (node.c.name == name) & (node.c.stage != "removed")
    return bool(tx.execute(node.update().where(chosen).values(**values)).rowcount)


def change(tx: Transaction, name: str, values: dict[str, Any]) -> None:
    """Change columns of a node."""
    tx.execute(node.update().where(node.c.name == name).values(**values))


# Leave to join -----------------------------------------------------------------------------------


def add_token(tx: Transaction, values: dict[str, Any]) -> None:
    """Write new leave to join, and forget what ended a day ago."""
    old = tx.now.timestamp() - 86_400
    ended = datetime.fromtimestamp(old, tx.now.tzinfo)
    tx.execute(node_token.delete().where(node_token.c.expires_at < ended))
    tx.execute(node_token.insert().values(**values))


def find_token(tx: Transaction, digest: str) -> TokenRow | None:
    """Find leave to join by its digest, also when it is good no more."""
    columns = [node_token.c[name] for name in TokenRow.__dataclass_fields__]
    row = tx.one(sa.select(*columns).where(node_token.c.digest == digest))
    return None if row is None else TokenRow(**row._mapping)  # noqa: SLF001 - its public name.


def use_token(tx: Transaction, token_id: str, name: str) -> bool:
    """Use leave to join up; tell whether it was still good, for one transaction alone."""
    chosen = (node_token.c.id == token_id) & node_token.c.used_at.is_(None)
    values = {"used_by": name, "used_at": tx.now}
    return bool(tx.execute(node_token.update().where(chosen).values(**values)).rowcount)


# Certificates ------------------------------------------------------------------------------------


def add_certificate(tx: Transaction, serial: str, name: str, expires_at: datetime) -> None:
    """Write a certificate that was signed now."""
    values = {"serial": serial, "node": name, "issued_at": tx.now, "expires_at": expires_at}
    tx.execute(node_certificate.insert().values(**values, reason=""))


def find_certificate(tx: Transaction, serial: str) -> Certificate | None:
    """Find a certificate by its number."""
    row = tx.one(sa.select(node_certificate).where(node_certificate.c.serial == serial))
    return None if row is None else Certificate(**row._mapping)  # noqa: SLF001 - its public name.


def list_certificates(tx: Transaction, name: str, limit: int = 20) -> list[Certificate]:
    """Give a node's certificates, newest first."""
    query = (
        sa.select(node_certificate)
        .where(node_certificate.c.node == name)
        .order_by(node_certificate.c.issued_at.desc(), node_certificate.c.serial)
        .limit(limit)
    )
    return [Certificate(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def list_good(tx: Transaction, name: str) -> list[Certificate]:
    """Give all certificates of a node that were not revoked and have not ended, newest first."""
    column = node_certificate.c
    query = (
        sa.select(node_certificate)
        .where(column.node == name, column.revoked_at.is_(None), column.expires_at > tx.now)
        .order_by(column.issued_at.desc(), column.serial)
    )
    return [Certificate(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def revoke(tx: Transaction, condition: sa.ColumnElement[bool], reason: str) -> int:
    """Revoke certificates that were not yet; give how many."""
    chosen = condition & node_certificate.c.revoked_at.is_(None)
    values = {"revoked_at": tx.now, "reason": reason}
    return tx.execute(node_certificate.update().where(chosen).values(**values)).rowcount


def of_node(name: str) -> sa.ColumnElement[bool]:
    """Choose all certificates of a node."""
    return node_certificate.c.node == name


def list_revoked(tx: Transaction) -> list[str]:
    """Give the numbers of certificates that were revoked and have not expired, sorted."""
    query = (
        sa.select(node_certificate.c.serial)
        .where(node_certificate.c.revoked_at.is_not(None), node_certificate.c.expires_at > tx.now)
        .order_by(node_certificate.c.serial)
    )
    return [str(row[0]) for row in tx.rows(query)]


# What happened -----------------------------------------------------------------------------------


def add_event(tx: Transaction, name: str, kind: str, text: str) -> None:
    """Write that something happened to a node."""
    values = {"id": new_id("event"), "node": name, "at": tx.now, "kind": kind, "text": text}
    tx.execute(node_event.insert().values(**values))


def list_events(tx: Transaction, name: str, limit: int = 30) -> list[NodeEvent]:
    """Give what happened to a node, newest first."""
    columns = [node_event.c[field] for field in NodeEvent.__dataclass_fields__]
    query = (
        sa.select(*columns)
        .where(node_event.c.node == name)
        .order_by(node_event.c.id.desc())
        .limit(limit)
    )
    return [NodeEvent(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def forget_before(tx: Transaction, moment: datetime) -> None:
    """Forget events and lines of work from before a moment."""
    for table in (node_event, node_work_line):
        tx.execute(table.delete().where(table.c.at < moment))


# What is being done ------------------------------------------------------------------------------


def add_line(tx: Transaction, job_id: str, name: str, state: str, text: str) -> None:
    """Write the next line of a job's work; the caller holds the job's lease."""
    column = node_work_line.c
    last = tx.scalar(sa.select(sa.func.max(column.number)).where(column.job_id == job_id))
    values = {"job_id": job_id, "number": int(last or 0) + 1, "at": tx.now}
    tx.execute(node_work_line.insert().values(**values, name=name, state=state, text=text))


def list_lines(tx: Transaction, job_id: str, after: int, limit: int = 500) -> list[WorkLine]:
    """Give the lines of a job's work after a number, oldest first."""
    columns = [node_work_line.c[field] for field in WorkLine.__dataclass_fields__]
    query = (
        sa.select(*columns)
        .where(node_work_line.c.job_id == job_id, node_work_line.c.number > after)
        .order_by(node_work_line.c.number)
        .limit(limit)
    )
    return [WorkLine(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.
