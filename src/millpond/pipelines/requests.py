"""What may be sent to pipelines and runs."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.lake.requests import FileIn
from millpond.pipelines.values import GPUS_MOST

FILES_MOST = 10_000
NameText = Annotated[str, Field(max_length=80)]


class PipelineIn(BaseModel):
    """A new version: its files, whose contents are in the project already."""

    model_config = ConfigDict(extra="forbid")

    name: NameText | None = None
    files: Annotated[list[FileIn], Field(min_length=1, max_length=FILES_MOST)]


class ProgramIn(BaseModel):
    """A program that runs as it is: a script with what lies beside it, and its limits."""

    model_config = ConfigDict(extra="forbid")

    entry: Annotated[str, Field(min_length=1, max_length=1000)]
    files: Annotated[list[FileIn], Field(min_length=1, max_length=FILES_MOST)]
    slots: Annotated[float, Field(gt=0, le=1024)] = 1
    gpus: Annotated[int, Field(ge=0, le=GPUS_MOST)] = 0
    memory_bytes: Annotated[int, Field(ge=16 << 20)] = 2 << 30
    disk_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    seconds: Annotated[float, Field(gt=0)] = 3600
    network: bool = False
    secrets: list[str] = []


class RunIn(BaseModel):
    """A run of a pipeline, or of a program, on datasets of the project.

    Attributes:
        pipeline: ``NAME`` or ``NAME@N``; leave it out for a program.
        program: leave it out for a pipeline.
        environment: ``NAME`` or ``NAME@N``; a pipeline brings its own.
        inputs: dataset addresses by input name.
        parameters: values by parameter name.
        preset: name of a preset of the pipeline; it fills what is not given here.
    """

    model_config = ConfigDict(extra="forbid")

    pipeline: Annotated[str, Field(max_length=100)] | None = None
    program: ProgramIn | None = None
    environment: Annotated[str, Field(max_length=100)] | None = None
    inputs: Annotated[dict[str, Annotated[str, Field(max_length=100)]], Field(max_length=100)] = {}
    parameters: Annotated[dict[str, Any], Field(max_length=500)] = {}
    preset: NameText | None = None
