"""Whose tasks are, by their keys: for the pages of the machines that they run on."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from millpond.machines.running import TaskOwner
from millpond.people.names import project_names
from millpond.pipelines.runs.tables import run
from millpond.storage.database import Transaction

_AT_ONCE = 500
_PARTS = 4


def owners_of(tx: Transaction, keys: Sequence[str]) -> Mapping[str, TaskOwner]:
    """Tell by key whose tasks are; whoever asks may see all projects."""
    parts = {key: key.split("/") for key in keys}
    wanted = {key: each for key, each in parts.items() if len(each) == _PARTS}
    runs = _find_runs(tx, list(dict.fromkeys(each[0] for each in wanted.values())))
    names = project_names(tx, (row.project_id for row in runs.values()))
    return {
        key: TaskOwner(
            project=names.get(row.project_id, row.project_id),
            run=row.id,
            what=row.what,
            step=step,
            partition=int(partition),
            user=row.created_by,
        )
        for key, (run_id, step, partition, _) in wanted.items()
        if (row := runs.get(run_id)) is not None and partition.lstrip("-").isdecimal()
    }


def _find_runs(tx: Transaction, ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    columns = (run.c.id, run.c.project_id, run.c.what, run.c.created_by)
    found: dict[str, sa.Row[Any]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        query = sa.select(*columns).where(run.c.id.in_(ids[start : start + _AT_ONCE]))
        found |= {row.id: row for row in tx.rows(query)}
    return found
