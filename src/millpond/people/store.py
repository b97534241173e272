"""All statements about people and projects."""

import sqlalchemy as sa

from millpond.people.tables import project, project_member
from millpond.people.values import Project
from millpond.storage.database import Transaction


def find_project(
    tx: Transaction, user_id: str, *, name: str | None = None, project_id: str | None = None
) -> Project | None:
    """Find a project by name or id, with the role of a user in it."""
    wanted = project.c.name == name if project_id is None else project.c.id == project_id
    query = (
        sa.select(project, project_member.c.role)
        .outerjoin(
            project_member,
            (project_member.c.project_id == project.c.id) & (project_member.c.user_id == user_id),
        )
        .where(wanted)
    )
    row = tx.one(query)
    return None if row is None else _project(row)


def _project(row: sa.Row[tuple[object, ...]]) -> Project:
    facts = dict(row._mapping)  # noqa: SLF001 - its public name.
    return Project(**{**facts, "role": facts["role"] or ""})
