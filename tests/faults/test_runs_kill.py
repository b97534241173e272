"""Kill a server at every point of a run: it finishes after a restart, each record exactly once."""

import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from millpond.ground.actor import Actor
from millpond.jobs.tables import job
from millpond.people.tables import project, project_member, user_account
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.runs import actions, store
from millpond.storage.folder import FolderStore

HERE = Path(__file__).parent
ANA, POND = Actor("user_ana", "ana"), "prj_pond"
MODULES = (
    "millpond.jobs.pool",
    "millpond.engine.local",
    "millpond.pipelines.runs.tasks",
    "millpond.pipelines.specs.tasks",
    "millpond.pipelines.outputs.collect",
    "millpond.storage.folder",
    "pyarrow.parquet",
    "uv",
    "psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
)


@pytest.fixture(scope="module")
def children():
    sys.path.insert(0, str(HERE))
    try:
        born = __import__("kill_points").Children(HERE / "runs_drive.py", MODULES)
    finally:
        sys.path.remove(str(HERE))
    yield born
    born.close()


def add_people(tx):
    values = {"id": POND, "name": "pond", "description": "", "is_archived": False}
    tx.execute(project.insert().values(**values, made_at=tx.now))
    values = {"id": "user_ana", "name": "ana", "is_admin": False}
    tx.execute(user_account.insert().values(**values, is_disabled=False, made_at=tx.now))
    values = {"project_id": POND, "user_id": "user_ana", "role": "editor"}
    tx.execute(project_member.insert().values(**values, added_at=tx.now))


def check(database, objects, mark):
    """The run of a mark is there once, and so is each record of it."""
    page = database.read(lambda tx: actions.list_runs(tx, ANA, POND, limit=1000))
    found = [run for run in page.items if run.parameters["mark"] == mark]
    assert len(found) == 1
    run = found[0]
    assert run.state == "succeeded", run.reason
    assert run.progress.items_done == run.progress.items_total == 5
    steps = database.read(lambda tx: store.list_steps(tx, run.id))
    assert [(step.state, step.partitions_done) for step in steps] == [
        ("succeeded", 3),
        ("succeeded", 1),
    ]
    tasks = [task for _, task in database.read(lambda tx: store.list_tasks(tx, run.id))]
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {("name", 0): 1, ("name", 1): 1, ("name", 2): 1, ("count", 0): 1}
    assert all(task.state == "done" or "stopped" in task.reason for task in tasks)
    manifest = read_outputs(objects, run.outputs_key)
    names = objects.get(find_output(manifest, b"tables/names.csv").key).decode().split()
    assert names == ["name,mark", *(f"{number},{mark}" for number in range(5))]
    log = sa.table("audit_entry", sa.column("verb"), sa.column("target"))
    query = sa.select(log.c.verb).where(log.c.target == f"run/{run.id}")
    assert Counter(database.read(lambda tx: tx.connection.scalars(query).all())) == {
        "run.started": 1,
        "run.succeeded": 1,
    }


def step_through(database, children, folder, every):
    database.change(add_people)
    url = database.engine.url.render_as_string(hide_password=False)
    objects = FolderStore(folder / "objects", "http://127.0.0.1:1", b"k" * 32)
    facts = {"url": url, "folder": str(folder)}
    children.run(**facts, mark=None, n=None)
    whole = children.run(**facts, mark="whole", n=None)["points"]
    check(database, objects, "whole")
    assert whole >= 4 * 6
    killed = 0
    for n in range(1, whole, every):
        first = children.run(**facts, mark=f"m{n}", n=n)
        killed += first == {"signal": signal.SIGKILL}
        children.run(**facts, mark=f"m{n}", n=None)
        check(database, objects, f"m{n}")
    assert killed >= len(range(1, whole, every)) * 0.7, "waves may be fewer, so points too"
    states = database.read(lambda tx: tx.connection.scalars(sa.select(job.c.state)).all())
    assert set(states) == {"done"}


def test_some_kill_points_leave_every_record_of_a_run_once(database, children, tmp_path):
    step_through(database, children, tmp_path, every=9)


@pytest.mark.slow
def test_every_kill_point_leaves_every_record_of_a_run_once(database, children, tmp_path):
    step_through(database, children, tmp_path, every=1)
