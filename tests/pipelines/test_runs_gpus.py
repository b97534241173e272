"""Runs whose steps ask for graphics processors, with device files of our own in their place."""

import csv
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from millpond.engine.gpus import GpuPlaces
from millpond.pipelines.outputs.manifests import find_output, read_outputs

GPUS = """
import os, time
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, gpus={gpus}, slots=0.5, memory="128 MiB")
def look(files: Files) -> Table:
    seen = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    for file in files:
        yield {{"name": file.name, "seen": " ".join(seen), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}}

@step
def sum_up(rows: Table) -> Table:
    yield {{"seen": len([name for name in os.listdir("/dev") if name.startswith("nvidia")])}}

@pipeline
def looks(files: Files):
    rows = look(files)
    return {{"rows": rows, "sum": sum_up(rows)}}
"""


@pytest.fixture
def places():
    """Give two cards, where every uid can walk to."""
    root = Path(tempfile.mkdtemp(prefix="gpus-", dir="/tmp"))
    root.chmod(0o755)
    places = GpuPlaces(root / "dev", root / "proc", root / "topology")
    places.devices.mkdir()
    for minor in range(2):
        device = places.devices / f"nvidia{minor}"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.chmod(0o666)
        facts = places.nvidia / f"0000:0{minor}:00.0"
        facts.mkdir(parents=True)
        (facts / "information").write_text(f"Device Minor: \t {minor}\n")
    yield places
    shutil.rmtree(root)


def table(world, run, name):
    manifest = read_outputs(world.objects, run.outputs_key)
    found = find_output(manifest, f"tables/{name}.csv".encode())
    return list(csv.DictReader(io.StringIO(world.objects.get(found.key).decode())))


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device files, as root only can")
def test_each_task_of_a_step_has_its_own_and_other_steps_none(make_world, places):
    world = make_world(gpu_places=places)
    try:
        version = world.push(GPUS.format(gpus=1))
        assert version.state == "ready", version.reason
        assert [step.gpus for step in version.spec.steps] == [1, 0]
        world.push_data("docs", {str(n): str(n) for n in range(4)})
        run = world.run(inputs={"files": "docs"})
        assert run.state == "succeeded", run.reason
        rows = table(world, run, "rows")
        assert {row["visible"] for row in rows} == {"0"}
        assert {row["seen"] for row in rows} <= {"nvidia0", "nvidia1"}
        assert table(world, run, "sum") == [{"seen": "0"}]
        assert world.engine.nodes()[0].free_gpus == 2
    finally:
        world.close()


def test_a_step_that_asks_for_more_than_there_are_fails_and_says_so(world):
    assert world.push(GPUS.format(gpus=16)).state == "ready"
    world.push_data("docs", {"a": "b"})
    run = world.run(inputs={"files": "docs"})
    assert run.state == "failed"
    assert "gpus asks for 16, and the largest node has 0" in run.reason
