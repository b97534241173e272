"""Runs that were there before lists and logs learned to find them."""

import json
import shutil
from pathlib import Path

import sqlalchemy as sa

from millpond.storage import migrate
from millpond.storage.database import Database

MIGRATIONS = Path(migrate.__file__).with_name("migrations")


def chain_before(folder, revision):
    """Give the migrations as they were before one of them."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "versions").glob("*.py"):
        if path.name >= revision:
            path.unlink()
    return folder


def test_runs_from_before_are_found_by_their_pipeline_and_their_tasks_are_numbered(
    database_url, tmp_path
):
    folder = chain_before(tmp_path / "before", "0006")
    database = Database(database_url)
    try:
        migrate.upgrade(database, folder)
        database.change(write_old_rows)
        migrate.upgrade(database)
        with database.reading() as tx:
            runs = tx.rows(sa.text("SELECT id, pipeline FROM run ORDER BY id"))
            tasks = tx.rows(
                sa.text('SELECT step, "partition", attempt FROM task ORDER BY run_id, number')
            )
        assert [tuple(row) for row in runs] == [("run_1", "birds"), ("run_2", "")]
        assert [tuple(row) for row in tasks] == [
            ("zeta", -1, 1), ("zeta", 0, 1), ("zeta", 0, 2), ("zeta", 1, 1), ("alpha", 0, 1),
        ]  # fmt: skip
    finally:
        database.close()


def test_tries_from_before_that_were_lost_with_a_node_are_called_lost(database_url, tmp_path):
    folder = chain_before(tmp_path / "before", "0012")
    database = Database(database_url)
    try:
        migrate.upgrade(database, folder)
        database.change(write_lost_rows)
        migrate.upgrade(database)
        with database.reading() as tx:
            states = tx.rows(sa.text("SELECT state FROM task ORDER BY attempt"))
        assert [row.state for row in states] == ["lost", "failed", "cancelled", "done"]
    finally:
        database.close()


def test_steps_from_before_count_for_the_slots_they_were_compiled_with(database_url, tmp_path):
    folder = chain_before(tmp_path / "before", "0013")
    database = Database(database_url)
    try:
        migrate.upgrade(database, folder)
        database.change(write_steps_of_slots)
        migrate.upgrade(database)
        with database.reading() as tx:
            steps = tx.rows(sa.text("SELECT run_id, name, slots, gpus FROM step_run ORDER BY 1, 2"))
        assert [tuple(row) for row in steps] == [
            ("run_1", "one", 1, 0), ("run_1", "two", 2.5, 0), ("run_2", "main", 4, 0),
        ]  # fmt: skip
    finally:
        database.close()


def steps_of(steps):
    return json.dumps({"steps": steps})


def write_steps_of_slots(tx):
    add = adder(tx)
    steps = [{"name": "one", "slots": 1}, {"name": "two", "slots": 2.5}]
    add("pipeline", id="pip_1", project_id="prj_1", name="birds")
    add("pipeline_version", id="ver_1", pipeline_id="pip_1", number=1, spec=steps_of(steps))
    add("run", id="run_1", what="birds@1", pipeline_version_id="ver_1", spec=None)
    add("run", id="run_2", what="x.py", spec=steps_of([{"name": "main", "slots": 4}]))
    add("step_run", run_id="run_1", name="one", place=0)
    add("step_run", run_id="run_1", name="two", place=1)
    add("step_run", run_id="run_2", name="main", place=0)


def write_lost_rows(tx):
    add = adder(tx)
    add("run", id="run_1", what="plain.py")
    add("step_run", run_id="run_1", name="one", place=0)
    ends = (("failed", "lost"), ("failed", "failed"), ("cancelled", "lost"), ("done", "done"))
    for attempt, (state, outcome) in enumerate(ends, start=1):
        add(
            "task", run_id="run_1", step="one", partition=0, attempt=attempt, number=attempt,
            state=state, outcome=outcome,
        )  # fmt: skip


def adder(tx):
    """Write as the schema was before: what a table lacks of its columns is left out."""
    inspected = sa.inspect(tx.connection)

    def add(table, **given):
        columns = inspected.get_columns(table)
        values = {}
        for column in columns:
            is_text = isinstance(column["type"], sa.String | sa.Text | sa.JSON)
            values[column["name"]] = None if column["nullable"] else "{}" if is_text else 0
            if isinstance(column["type"], sa.Boolean):
                values[column["name"]] = False
        rows = sa.table(table, *(sa.column(name) for name in values))
        tx.execute(rows.insert().values({**values, **given}))

    return add


def write_old_rows(tx):
    add = adder(tx)
    add("pipeline", id="p", project_id="prj", name="birds")
    add("pipeline_version", id="v", pipeline_id="p", number=1)
    add("run", id="run_1", pipeline_version_id="v", what="birds@1")
    add("run", id="run_2", what="plain.py")
    for place, name in enumerate(("zeta", "alpha")):
        add("step_run", run_id="run_1", name=name, place=place)
    for step, partition, attempt in (
        ("alpha", 0, 1), ("zeta", 1, 1), ("zeta", 0, 2), ("zeta", 0, 1), ("zeta", -1, 1),
    ):  # fmt: skip
        add("task", run_id="run_1", step=step, partition=partition, attempt=attempt)
