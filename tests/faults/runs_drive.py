"""A server that drives one run to its end; killed at a point, it is started again."""

import runpy
from pathlib import Path

import kill_points

from millpond.pipelines.runs import actions
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore

CODE = """
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=2, memory="64 MiB")
def name(files: Files, mark: str) -> Table:
    for file in files:
        yield {"name": file.name, "mark": mark}

@step(memory="64 MiB")
def count(names: Table) -> Table:
    return [{"count": sum(1 for _ in names)}]

@pipeline
def named(files: Files, mark: str):
    names = name(files, mark)
    return {"names": names, "count": count(names)}
"""
house = runpy.run_path(str(Path(__file__).parent.parent / "pipelines" / "conftest.py"))
ANA, POND = house["ANA"], house["POND"]


def main(facts):
    """Push the pipeline, or drive the run of a mark; give how many points were passed."""
    folder = Path(facts["folder"])
    database = Database(facts["url"])
    points = kill_points.install(database, facts["n"])
    objects = FolderStore(folder / "objects", "http://127.0.0.1:1", b"k" * 32)
    world = house["World"](database, objects, folder)
    submit = world.dispatcher.submit

    def counted_submit(task, share, on_progress, on_done, **more):
        points.reach()
        submit(task, share, on_progress, on_done, **more)
        points.reach()

    world.dispatcher.submit = counted_submit
    if facts["mark"] is None:
        assert world.push(CODE).state == "ready"
        world.push_data("docs", {str(number): str(number) for number in range(5)})
    else:
        world.wait(find_or_start(world, facts["mark"]))
    world.close()
    database.close()
    return {"points": points.count}


def find_or_start(world, mark):
    page = world.database.read(lambda tx: actions.list_runs(tx, ANA, POND, limit=1000))
    found = [run.id for run in page.items if run.parameters["mark"] == mark]
    return found[0] if found else world.start(inputs={"files": "docs"}, mark=mark).id
