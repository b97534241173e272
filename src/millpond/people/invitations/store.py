"""All statements about invitations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.people.invitations.tables import invitation
from millpond.people.invitations.values import Invitation
from millpond.people.tables import project, user_account
from millpond.storage.database import Transaction

_column = invitation.c
_QUERY = (
    sa.select(
        _column.id,
        sa.func.coalesce(project.c.name, "").label("project"),
        _column.role,
        _column.email,
        user_account.c.name.label("made_by"),
        _column.made_at,
        _column.expires_at,
    )
    .join(user_account, user_account.c.id == _column.made_by)
    .outerjoin(project, project.c.id == _column.project_id)
)


@dataclass(frozen=True)
class FoundInvitation:
    """An invitation with the ids that it holds."""

    invitation: Invitation
    project_id: str | None
    made_by: str


def add(tx: Transaction, values: dict[str, Any]) -> Invitation:
    """Write a new invitation."""
    tx.execute(invitation.insert().values(**values))
    [row] = tx.rows(_QUERY.where(_column.id == values["id"]))
    return Invitation(**row._mapping)  # noqa: SLF001 - its public name.


def list_open(
    tx: Transaction, project_id: str | None, *, before: str, limit: int
) -> list[Invitation]:
    """Give invitations that are still good, the newest first; of all without a project."""
    query = _QUERY.where(_is_open(tx.now)).order_by(_column.id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(_column.project_id == project_id)
    if before:
        query = query.where(_column.id < before)
    return [Invitation(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def find_open(tx: Transaction, digest: str) -> FoundInvitation | None:
    """Find a good invitation by the digest of its code."""
    query = _QUERY.add_columns(_column.project_id, _column.made_by.label("maker"))
    row = tx.one(query.where(_is_open(tx.now), _column.digest == digest))
    if row is None:
        return None
    facts = dict(row._mapping)  # noqa: SLF001 - its public name.
    project_id, maker = facts.pop("project_id"), facts.pop("maker")
    return FoundInvitation(Invitation(**facts), project_id, maker)


def use(tx: Transaction, invitation_id: str, user_id: str) -> bool:
    """Use an invitation up; tell whether it was still good, for one transaction alone."""
    chosen = (_column.id == invitation_id) & _is_open(tx.now)
    values = {"used_by": user_id, "used_at": tx.now}
    return bool(tx.execute(invitation.update().where(chosen).values(**values)).rowcount)


def withdraw(tx: Transaction, invitation_id: str, project_id: str | None) -> bool:
    """Withdraw an invitation, of a project or any; tell whether it was there and good."""
    chosen = (_column.id == invitation_id) & _is_open(tx.now)
    if project_id is not None:
        chosen &= _column.project_id == project_id
    changed = invitation.update().where(chosen).values(withdrawn_at=tx.now)
    return bool(tx.execute(changed).rowcount)


def _is_open(now: datetime) -> sa.ColumnElement[bool]:
    return _column.used_at.is_(None) & _column.withdrawn_at.is_(None) & (_column.expires_at > now)
