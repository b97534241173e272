"""All statements about people and projects."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from millpond.people.tables import project, project_member, project_secret, user_account
from millpond.people.values import Member, Project, ProjectFilter, Secret
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


def list_projects(
    tx: Transaction, user_id: str, asked: ProjectFilter, *, after: str, limit: int
) -> list[Project]:
    """Give projects in the order of their names, with a user's role where there is one."""
    mine = (project_member.c.project_id == project.c.id) & (project_member.c.user_id == user_id)
    query = (
        sa.select(project, project_member.c.role)
        .join(project_member, mine, isouter=asked.is_all)
        .where(project.c.name > after)
        .order_by(project.c.name)
        .limit(limit)
    )
    if asked.text:
        searched = (project.c.name, project.c.description)
        query = query.where(
            sa.or_(*(column.icontains(asked.text, autoescape=True) for column in searched))
        )
    if asked.is_archived is not None:
        query = query.where(project.c.is_archived.is_(asked.is_archived))
    return [_project(row) for row in tx.rows(query)]


def names_of(tx: Transaction, project_ids: Sequence[str]) -> dict[str, str]:
    """Give the names of projects by their ids."""
    query = sa.select(project.c.id, project.c.name).where(project.c.id.in_(project_ids))
    return {row.id: row.name for row in tx.rows(query)}


def is_free(tx: Transaction, name: str) -> bool:
    """Tell whether no project has this name."""
    return tx.one(sa.select(project.c.id).where(project.c.name == name)) is None


def add_project(tx: Transaction, made: Project) -> bool:
    """Write a new project; tell whether the name was free."""
    if not is_free(tx, made.name):
        return False
    values = {name: value for name, value in vars(made).items() if name != "role"}
    tx.execute(project.insert().values(**values))
    return True


def change_project(tx: Transaction, project_id: str, **values: Any) -> None:
    """Change columns of a project."""
    tx.execute(project.update().where(project.c.id == project_id).values(**values))


def lock_project(tx: Transaction, project_id: str) -> None:
    """Let one transaction at a time change a project's members."""
    tx.one(sa.select(project.c.id).where(project.c.id == project_id).with_for_update())


# Members ---------------------------------------------------------------------------------------


def list_members(tx: Transaction, project_id: str, *, after: str, limit: int) -> list[Member]:
    """Give a project's members in the order of their names."""
    query = (
        sa.select(user_account.c.name, project_member.c.role, project_member.c.added_at)
        .join(project_member, project_member.c.user_id == user_account.c.id)
        .where(project_member.c.project_id == project_id, user_account.c.name > after)
        .order_by(user_account.c.name)
        .limit(limit)
    )
    return [Member(row.name, row.role, row.added_at) for row in tx.rows(query)]


def member(tx: Transaction, project_id: str, user_id: str) -> Member:
    """Give a member of a project."""
    query = (
        sa.select(user_account.c.name, project_member.c.role, project_member.c.added_at)
        .join(project_member, project_member.c.user_id == user_account.c.id)
        .where(project_member.c.project_id == project_id, user_account.c.id == user_id)
    )
    row = tx.rows(query)[0]
    return Member(row.name, row.role, row.added_at)


def find_user_id(tx: Transaction, name: str) -> str | None:
    """Give the id of the user with this name."""
    found = tx.scalar(sa.select(user_account.c.id).where(user_account.c.name == name))
    return None if found is None else str(found)


def role_of(tx: Transaction, project_id: str, user_id: str) -> str | None:
    """Give a user's role in a project."""
    query = sa.select(project_member.c.role).where(
        project_member.c.project_id == project_id, project_member.c.user_id == user_id
    )
    found = tx.scalar(query)
    return None if found is None else str(found)


def roles_of(tx: Transaction, user_id: str, project_ids: Sequence[str]) -> dict[str, str]:
    """Give a user's roles in those of these projects that they are a member of."""
    query = sa.select(project_member.c.project_id, project_member.c.role).where(
        project_member.c.user_id == user_id, project_member.c.project_id.in_(project_ids)
    )
    return {row.project_id: row.role for row in tx.rows(query)}


def set_role(tx: Transaction, project_id: str, user_id: str, role: str) -> None:
    """Give a user a role in a project, or another one."""
    member = (project_member.c.project_id == project_id) & (project_member.c.user_id == user_id)
    if not tx.execute(project_member.update().where(member).values(role=role)).rowcount:
        values = {"project_id": project_id, "user_id": user_id, "role": role, "added_at": tx.now}
        tx.execute(project_member.insert().values(**values))


def remove_member(tx: Transaction, project_id: str, user_id: str) -> None:
    """Take a user's role in a project away."""
    member = (project_member.c.project_id == project_id) & (project_member.c.user_id == user_id)
    tx.execute(project_member.delete().where(member))


def count_owners(tx: Transaction, project_id: str) -> int:
    """Tell how many owners a project has."""
    query = sa.select(sa.func.count()).where(
        project_member.c.project_id == project_id, project_member.c.role == "owner"
    )
    return int(tx.scalar(query))


# Secrets ---------------------------------------------------------------------------------------


def list_secrets(tx: Transaction, project_id: str, *, after: str, limit: int) -> list[Secret]:
    """Give the names of a project's secrets, in their order."""
    column = project_secret.c
    query = (
        sa.select(column.name, column.made_at, column.changed_at, column.changed_by)
        .where(column.project_id == project_id, column.name > after)
        .order_by(column.name)
        .limit(limit)
    )
    return [Secret(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def set_secret(tx: Transaction, project_id: str, name: str, sealed: bytes, by: str) -> Secret:
    """Keep an encrypted secret, in place of the one before if there is one."""
    column = project_secret.c
    here = (column.project_id == project_id) & (column.name == name)
    changed = {"sealed": sealed, "changed_at": tx.now, "changed_by": by}
    if not tx.execute(project_secret.update().where(here).values(**changed)).rowcount:
        place = {"project_id": project_id, "name": name, "made_at": tx.now}
        tx.execute(project_secret.insert().values(**place, **changed))
    made_at = tx.scalar(sa.select(column.made_at).where(here))
    return Secret(name, made_at, tx.now, by)


def remove_secret(tx: Transaction, project_id: str, name: str) -> bool:
    """Forget a secret; tell whether it was there."""
    column = project_secret.c
    here = (column.project_id == project_id) & (column.name == name)
    return bool(tx.execute(project_secret.delete().where(here)).rowcount)


def sealed_secrets(tx: Transaction, project_id: str, names: Sequence[str]) -> dict[str, bytes]:
    """Give encrypted secrets by name, those that there are."""
    column = project_secret.c
    query = sa.select(column.name, column.sealed)
    query = query.where(column.project_id == project_id, column.name.in_(names))
    return {row.name: bytes(row.sealed) for row in tx.rows(query)}


def any_sealed_secret(tx: Transaction) -> tuple[str, str, bytes] | None:
    """Give project, name and content of an encrypted secret, the newest, if there is any."""
    column = project_secret.c
    query = sa.select(column.project_id, column.name, column.sealed)
    row = tx.one(query.order_by(column.changed_at.desc()).limit(1))
    return None if row is None else (row.project_id, row.name, bytes(row.sealed))
