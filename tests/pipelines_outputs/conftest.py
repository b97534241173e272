import json
from datetime import UTC, datetime, timedelta

import pytest

from millpond.ground.canonical import digest_of_bytes
from millpond.pipelines.values import (
    GatheredOutput,
    PipelineSpec,
    Progress,
    Run,
    RunCollection,
    RunInput,
    StepRun,
    StoredObject,
    Task,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def seconds(number):
    return START + timedelta(seconds=number)


@pytest.fixture
def keep(objects):
    """Put bytes as one part of an output, as a task would have left them."""
    number = 0

    def put(path, data):
        nonlocal number
        number += 1
        key = f"runs/r1/tasks/{number}"
        objects.put(key, data)
        return StoredObject(path, key, len(data), digest_of_bytes(data))

    return put


@pytest.fixture
def keep_rows(keep):
    def put(*rows):
        return keep("rows.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    return put


def build_collection(*outputs, **changes):
    facts = {
        "run": Run(
            id="run_1", project_id="p1", what="filetypes@1", pipeline_version_id="v1",
            state="running", reason="", parameters={"min_score": 0.5},
            inputs=(RunInput("files", "letters", 3, "d" * 64, "files", 12, 3456, "m"),),
            environment="magika@1", lock_digest="l" * 64, code_digest="c" * 64,
            spec_digest="s" * 64, seed=7, progress=Progress(), created_at=START,
            created_by="ada", started_at=seconds(1), isolated=True,
        ),
        "spec": PipelineSpec("filetypes", "Types of files", "Says <what> files hold.", {}, (), (), ()),
        "pipeline": {"address": "filetypes@1"},
        "environment": {"python": "3.11.7", "packages": ["magika==1.0.3"]},
        "machine": {"platform": "Linux", "millpond": "0.1.0"},
        "steps": (
            StepRun("identify", "map", (), "succeeded", "", 2, 2, 3.5, 90 << 20, seconds(1), seconds(3)),
        ),
        "tasks": (Task("identify", 0, 1, "failed", "out of luck"), Task("identify", 0, 2, "done")),
        "outputs": outputs,
        "logs": {},
        "output_prefix": "runs/r1/outputs",
    }  # fmt: skip
    return RunCollection(**{**facts, **changes})


@pytest.fixture
def make_collection():
    return build_collection


@pytest.fixture
def table():
    def make(*parts, name="types"):
        return GatheredOutput(name, "table", "", "identify", parts)

    return make
