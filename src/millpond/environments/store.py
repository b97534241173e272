"""All SQL of environments."""

from typing import Any

import sqlalchemy as sa

from millpond.environments.tables import environment, environment_version
from millpond.environments.values import Environment, EnvironmentVersion, Package
from millpond.storage.database import Transaction

_version = environment_version
_VERSION_COLUMNS = (
    environment.c.name,
    *(column for column in environment_version.c if column.name not in ("environment_id", "lock")),
)


def claim_name(tx: Transaction, values: dict[str, Any]) -> None:
    """Add an environment without versions unless the project has one of this name already."""
    tx.insert_new(environment, values, environment.c.id)


def find_environment(tx: Transaction, project_id: str, name: str) -> tuple[str, int] | None:
    """Give id and newest number of an environment."""
    row = tx.one(
        sa.select(environment.c.id, environment.c.newest).where(
            environment.c.project_id == project_id, environment.c.name == name
        )
    )
    return None if row is None else (row.id, row.newest)


def take_number(tx: Transaction, environment_id: str, newest: int) -> bool:
    """Make ``newest + 1`` the newest number, if no one was quicker."""
    changed = tx.execute(
        environment.update()
        .where(environment.c.id == environment_id, environment.c.newest == newest)
        .values(newest=newest + 1)
    )
    return changed.rowcount == 1


def add_version(tx: Transaction, values: dict[str, Any]) -> None:
    """Write a version's row."""
    tx.execute(_version.insert().values(**values))


def find_version(
    tx: Transaction, project_id: str, name: str, number: int | None
) -> EnvironmentVersion | None:
    """Give a version; the newest when ``number`` is None."""
    query = _versions(project_id, name).limit(1)
    if number is not None:
        query = query.where(_version.c.number == number)
    row = tx.one(query)
    return None if row is None else _to_version(row)


def list_versions(
    tx: Transaction, project_id: str, name: str, before: int | None, limit: int
) -> list[EnvironmentVersion]:
    """Give versions, newest first."""
    query = _versions(project_id, name).limit(limit)
    if before is not None:
        query = query.where(_version.c.number < before)
    return [_to_version(row) for row in tx.rows(query)]


def find_by_id(tx: Transaction, version_id: str) -> tuple[str, EnvironmentVersion] | None:
    """Give the project's id and the version of this id."""
    row = tx.one(
        sa.select(environment.c.project_id, *_VERSION_COLUMNS)
        .join(environment, environment.c.id == _version.c.environment_id)
        .where(_version.c.id == version_id)
    )
    return None if row is None else (row.project_id, _to_version(row))


def read_lock(tx: Transaction, version_id: str) -> str:
    """Give a version's lock; empty while there is none."""
    return str(tx.scalar(sa.select(_version.c.lock).where(_version.c.id == version_id)) or "")


def find_lock(tx: Transaction, digest: str) -> str:
    """Give the lock of a digest, of whatever project; empty when there is none."""
    query = sa.select(_version.c.lock).where(_version.c.lock_digest == digest).limit(1)
    return str(tx.scalar(query) or "")


def move_state(
    tx: Transaction, version_id: str, allowed: tuple[str, ...], values: dict[str, Any]
) -> bool:
    """Change a version that is in one of the allowed states; say whether it was."""
    changed = tx.execute(
        _version.update()
        .where(_version.c.id == version_id, _version.c.state.in_(allowed))
        .values(**values)
    )
    return changed.rowcount == 1


def list_environments(
    tx: Transaction, project_id: str, after: str, limit: int, name: str | None = None
) -> list[Environment]:
    """Give environments by name, each with the state of its newest version."""
    query = (
        sa.select(
            environment.c.id,
            environment.c.name,
            environment.c.newest,
            _version.c.state,
            environment.c.created_at,
            environment.c.created_by,
        )
        .join(
            _version,
            sa.and_(
                _version.c.environment_id == environment.c.id,
                _version.c.number == environment.c.newest,
            ),
        )
        .where(environment.c.project_id == project_id, environment.c.name > after)
        .order_by(environment.c.name)
        .limit(limit)
    )
    if name is not None:
        query = query.where(environment.c.name == name)
    return [Environment(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def _versions(project_id: str, name: str) -> sa.Select[Any]:
    return (
        sa.select(*_VERSION_COLUMNS)
        .join(environment, environment.c.id == _version.c.environment_id)
        .where(environment.c.project_id == project_id, environment.c.name == name)
        .order_by(_version.c.number.desc())
    )


def _to_version(row: sa.Row[Any]) -> EnvironmentVersion:
    values = dict(row._mapping)  # noqa: SLF001 - its public name.
    values.pop("project_id", None)
    values["build_from_source"] = tuple(values["build_from_source"])
    values["packages"] = tuple(Package(name, version) for name, version in values["packages"])
    return EnvironmentVersion(**values)
