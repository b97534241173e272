"""Runs from start to end: real database, real engine, real sandbox."""

import json

from millpond.pipelines.outputs.manifests import find_output, read_outputs

SIZES = '''
from typing import Annotated, Literal, NamedTuple
from millpond import File, Files, Param, Table, pipeline, step

class Report(NamedTuple):
    summary: Table
    plot: File

@step(map=True, files_per_task=3, memory="128 MiB")
def identify(files: Files, least: Annotated[int, Param(ge=0)] = 0) -> Table:
    for file in files:
        print("looking at", ascii(file.name))
        if file.size >= least:
            yield {"path": file.name, "size": file.size, "text": file.read_text()}

@step(memory="128 MiB")
def report(rows: Table, mode: str) -> Report:
    rows = list(rows)
    total = sum(row["size"] for row in rows)
    names = [row["path"] for row in rows]
    return Report([{"total": total, "mode": mode, "names": names}], ("plot.svg", "<svg/>"))

@pipeline
def sizes(files: Files, least: int = 0, mode: Literal["short", "long"] = "long"):
    """Measure files."""
    rows = identify(files, least=least)
    made = report(rows, mode)
    return {"predictions": rows, "summary": made.summary, "plot": made.plot}
'''


def output(world, run, path):
    manifest = read_outputs(world.objects, run.outputs_key)
    return world.objects.get(find_output(manifest, path.encode()).key)


def test_map_and_whole_steps_give_collected_outputs(world):
    version = world.push(SIZES)
    assert version.state == "ready", version.reason
    names = ["a.txt", "b/c.txt", "d\n.txt", b"e\xff.txt", "f.txt", "g.txt", "empty"]
    data = {name: "x" * place for place, name in enumerate(names, 1)}
    world.push_data("docs", {**data, "empty": b""})
    run = world.run(inputs={"files": "docs"}, least=0)
    assert run.state == "succeeded", run.reason
    steps = world.steps(run.id)
    assert steps["identify"].partitions == steps["identify"].partitions_done == 3
    assert run.progress.items_done == run.progress.items_total == 7
    assert run.progress.bytes_done == run.progress.bytes_total == 21
    assert run.isolated
    files = [one.path for one in read_outputs(world.objects, run.outputs_key).files]
    assert {"predictions.csv", "statistics.json", "report.html", "provenance.json"} <= set(files)
    summary = output(world, run, "tables/summary.csv").decode()
    assert "21" in summary
    assert output(world, run, "files/plot/plot.svg") == b"<svg/>"
    provenance = json.loads(output(world, run, "provenance.json"))
    assert provenance
