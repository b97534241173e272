"""Tables as pandas and Arrow ones, in an environment that holds both."""

import csv
import io

import pytest

from millpond.pipelines.outputs.manifests import find_output, read_outputs

REQUIREMENTS = "pandas==3.1.1\npyarrow==26.0.1\n"
CODE = """
import pandas as pd
import pyarrow
from millpond import Table, pipeline, step

@step(memory="1 GiB")
def doubled(rows: pd.DataFrame) -> Table:
    assert type(rows) is pd.DataFrame
    rows["twice"] = rows["size"].astype("int64") * 2
    return rows

@step(map=True, rows_per_task=2, memory="1 GiB")
def longer(rows: pd.DataFrame, least: int) -> pd.DataFrame:
    assert len(rows) <= 2
    return rows[rows["twice"] >= least].assign(at=pd.Timestamp("2026-05-01T12:00"))

@step(memory="1 GiB")
def counted(rows: pyarrow.Table) -> pyarrow.Table:
    assert type(rows) is pyarrow.Table
    return rows.group_by("kind").aggregate([("twice", "sum")]).sort_by("kind")

@pipeline
def forms(rows: Table, least: int = 4):
    long = longer(doubled(rows), least)
    return {"long": long, "counted": counted(long)}
"""
ROWS = "name,kind,size\n" + "".join(f"f{n},{'odd' if n % 2 else 'even'},{n}\n" for n in range(5))


def table(world, run, name):
    manifest = read_outputs(world.objects, run.outputs_key)
    text = world.objects.get(find_output(manifest, f"tables/{name}.csv".encode()).key).decode()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_steps_take_and_give_data_frames_and_arrow_tables(world):
    version = world.push(CODE, "forms", requirements=REQUIREMENTS, seconds=300)
    assert version.state == "ready", (version.reason, version.faults)
    world.push_data("rows", {"rows.csv": ROWS}, kind="table")
    run = world.run("forms", {"rows": "rows"})
    assert run.state == "succeeded", run.reason
    steps = world.steps(run.id)
    assert steps["longer"].partitions == 3
    long = table(world, run, "long")
    assert [(row["name"], row["twice"]) for row in long] == [("f2", "4"), ("f3", "6"), ("f4", "8")]
    assert all(row["at"].startswith("2026-05-01") for row in long)
    assert table(world, run, "counted") == [
        {"kind": "even", "twice_sum": "12"},
        {"kind": "odd", "twice_sum": "6"},
    ]
