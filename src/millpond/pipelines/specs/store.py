"""All SQL of pipelines and their versions."""

from typing import Any

import sqlalchemy as sa

from millpond.pipelines.specs.tables import pipeline, pipeline_version
from millpond.pipelines.values import Pipeline, PipelineSpec, PipelineVersion
from millpond.storage.database import Transaction

_version = pipeline_version
_LEFT_OUT = ("pipeline_id", "function", "changed_at")
_COLUMNS = (
    pipeline.c.name.label("pipeline"),
    *(column for column in _version.c if column.name not in _LEFT_OUT),
)


def claim_name(tx: Transaction, values: dict[str, Any]) -> None:
    """Add a pipeline without versions unless the project has one of this name already."""
    tx.insert_new(pipeline, values, pipeline.c.id)


def find_pipeline(tx: Transaction, project_id: str, name: str) -> tuple[str, int] | None:
    """Give id and newest number of a pipeline."""
    row = tx.one(
        sa.select(pipeline.c.id, pipeline.c.newest).where(
            pipeline.c.project_id == project_id, pipeline.c.name == name
        )
    )
    return None if row is None else (row.id, row.newest)


def take_number(tx: Transaction, pipeline_id: str, newest: int) -> bool:
    """Make ``newest + 1`` the newest number, if no one was quicker."""
    changed = tx.execute(
        pipeline.update()
        .where(pipeline.c.id == pipeline_id, pipeline.c.newest == newest)
        .values(newest=newest + 1)
    )
    return changed.rowcount == 1


def add_version(tx: Transaction, values: dict[str, Any]) -> None:
    """Write a version's row."""
    tx.execute(_version.insert().values(**values))


def find_version(
    tx: Transaction, project_id: str, name: str, number: int | None
) -> PipelineVersion | None:
    """Give a version; the newest when ``number`` is None."""
    query = _versions().where(pipeline.c.project_id == project_id, pipeline.c.name == name)
    if number is not None:
        query = query.where(_version.c.number == number)
    row = tx.one(query.order_by(_version.c.number.desc()).limit(1))
    return None if row is None else _to_version(row)


def find_newest_ready(tx: Transaction, project_id: str, name: str) -> PipelineVersion | None:
    """Give the newest version that can run."""
    query = _versions().where(
        pipeline.c.project_id == project_id, pipeline.c.name == name, _version.c.state == "ready"
    )
    row = tx.one(query.order_by(_version.c.number.desc()).limit(1))
    return None if row is None else _to_version(row)


def find_by_id(tx: Transaction, version_id: str) -> tuple[str, PipelineVersion] | None:
    """Give a version with its project's id."""
    query = _versions().add_columns(pipeline.c.project_id).where(_version.c.id == version_id)
    row = tx.one(query)
    return None if row is None else (row.project_id, _to_version(row))


def read_function(tx: Transaction, version_id: str) -> str:
    """Give which function of pipeline.py a version compiles; empty for the only one."""
    return str(tx.scalar(sa.select(_version.c.function).where(_version.c.id == version_id)) or "")


def list_versions(
    tx: Transaction, project_id: str, name: str, before: int | None, limit: int
) -> list[PipelineVersion]:
    """List a pipeline's versions, newest first, from below a number."""
    query = _versions().where(pipeline.c.project_id == project_id, pipeline.c.name == name)
    if before is not None:
        query = query.where(_version.c.number < before)
    rows = tx.rows(query.order_by(_version.c.number.desc()).limit(limit))
    return [_to_version(row) for row in rows]


def list_pipelines(
    tx: Transaction,
    project_id: str,
    after: str,
    limit: int,
    name: str | None = None,
    search: str = "",
) -> list[Pipeline]:
    """List a project's pipelines by name, or the one of a name; ``search`` is a part of it."""
    query = (
        sa.select(
            pipeline.c.id,
            pipeline.c.name,
            pipeline.c.newest,
            _version.c.state,
            _version.c.spec,
            pipeline.c.created_at,
            pipeline.c.created_by,
            _version.c.changed_at,
        )
        .join(
            _version,
            (_version.c.pipeline_id == pipeline.c.id) & (_version.c.number == pipeline.c.newest),
        )
        .where(pipeline.c.project_id == project_id, pipeline.c.name > after)
        .order_by(pipeline.c.name)
        .limit(limit)
    )
    if name is not None:
        query = query.where(pipeline.c.name == name)
    if search:
        query = query.where(pipeline.c.name.contains(search.lower(), autoescape=True))
    made = []
    for row in tx.rows(query):
        facts = dict(row._mapping)  # noqa: SLF001 - its public name.
        title = (facts.pop("spec") or {}).get("title", "")
        made.append(Pipeline(**facts, title=title))
    return made


def move_state(
    tx: Transaction, version_id: str, before: tuple[str, ...], values: dict[str, Any]
) -> bool:
    """Change a version that is in one of these states; say whether it was."""
    changed = tx.execute(
        _version.update()
        .where(_version.c.id == version_id, _version.c.state.in_(before))
        .values(**values, changed_at=tx.now)
    )
    return changed.rowcount == 1


def forbid_fork(tx: Transaction, version_id: str) -> None:
    """Note that tasks of a version must not be forked."""
    tx.execute(_version.update().where(_version.c.id == version_id).values(no_fork=True))


def _versions() -> sa.Select[Any]:
    return sa.select(*_COLUMNS).join(pipeline, pipeline.c.id == _version.c.pipeline_id)


def _to_version(row: sa.Row[Any]) -> PipelineVersion:
    facts = {key: value for key, value in row._mapping.items() if key != "project_id"}  # noqa: SLF001 - its public name.
    spec = facts["spec"]
    facts["spec"] = None if spec is None else PipelineSpec.from_json(spec)
    facts["faults"] = tuple(facts["faults"])
    return PipelineVersion(**facts)
