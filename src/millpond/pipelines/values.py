"""What a pipeline is made of, what a run went through, and what is gathered of it at the end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from millpond.machines.running import TaskNow

Kind = Literal["files", "file", "table", "model"]
StepKind = Literal["map", "whole", "command"]
VersionState = Literal["compiling", "ready", "failed"]
RunState = Literal[
    "queued", "preparing", "running", "cancelling", "succeeded", "failed", "cancelled"
]
StepState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "skipped"]
TaskState = Literal["waiting", "running", "done", "failed", "lost", "cancelled"]
"""``lost``: its node or its server went down under it; that is no fault of its own."""


FORMAT = 1
"""Version of the specification's own form, in its field ``format``."""

GPUS_MOST = 16
"""A step may ask for so many graphics processors per task; the kit refuses more as well."""

RUN_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
STEP_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})


@dataclass(frozen=True)
class InputSpec:
    """Data that a pipeline asks for."""

    name: str
    kind: Kind
    description: str = ""
    required: bool = True


@dataclass(frozen=True)
class OutputSpec:
    """Data that a pipeline gives.

    Attributes:
        source: where it comes from, ``{"step": NAME, "output": NAME}``.
    """

    name: str
    kind: Kind
    description: str = ""
    source: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitSpec:
    """Up to how much one partition of a map step holds; ``over`` is the argument that is split."""

    over: str
    files: int = 100
    bytes: int = 64 << 20
    rows: int = 10_000


@dataclass(frozen=True)
class StepSpec:
    """One step.

    Attributes:
        name: unique in the pipeline.
        kind: ``map`` and ``whole`` call a function; ``command`` runs a program, and is a map when
            ``split`` is there.
        entry: ``module:function``; empty for a command.
        command: program and arguments; ``{code}`` and ``{NAME}`` of a parameter are filled in.
        needs: steps whose outputs it takes.
        arguments: by name one of ``{"value": JSON}``, ``{"parameter": NAME}``, or data with its
            ``kind``: ``{"input": NAME}``, ``{"step": NAME, "output": NAME}``,
            ``{"all": [data, ...]}`` for several, one after the other.
        outputs: names and kinds of what it leaves, in order.
        split: for a map, how its input is cut.
        slots, memory_bytes, disk_bytes, seconds, processes: limits of one task.
        gpus: whole graphics processors of one task, at most ``GPUS_MOST``.
        retries: how often a failed task is tried again.
        network, secrets: what it is allowed.
        fork: whether its tasks may be forked from a warm process.
        preload: modules imported once for the tasks that share a warm process.
    """

    name: str
    kind: StepKind
    entry: str = ""
    command: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[tuple[str, Kind], ...] = (("result", "files"),)
    split: SplitSpec | None = None
    slots: float = 1
    gpus: int = 0
    memory_bytes: int = 2 << 30
    disk_bytes: int = 4 << 30
    seconds: float = 3600
    processes: int = 128
    retries: int = 0
    network: bool = False
    secrets: tuple[str, ...] = ()
    fork: bool = True
    preload: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineSpec:
    """A compiled pipeline: all that its form and its runs need; JSON, versioned by ``format``.

    Attributes:
        name: the name its author gave it.
        title: first line of its description.
        description: the rest, plain text.
        parameters: JSON Schema of an object: type, minimum, maximum, enum, default, title,
            description, x-unit.
        inputs, outputs, steps: in the author's order; a step comes after those it needs.
        python: version of Python that compiled it.
    """

    name: str
    title: str
    description: str
    parameters: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    steps: tuple[StepSpec, ...]
    python: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON; its digest is ``ground.canonical.digest_of`` of this."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "PipelineSpec":
        """Read back what ``to_json`` gave.

        Raises:
            TypeError, KeyError: it is not a specification of this format.
        """
        return cls(
            **{
                **facts,
                "inputs": tuple(InputSpec(**each) for each in facts["inputs"]),
                "outputs": tuple(OutputSpec(**each) for each in facts["outputs"]),
                "steps": tuple(_step(each) for each in facts["steps"]),
            }
        )


def _step(facts: Mapping[str, Any]) -> StepSpec:
    tuples = {k: tuple(facts.get(k, ())) for k in ("command", "needs", "secrets", "preload")}
    outputs = tuple((name, kind) for name, kind in facts["outputs"])
    split = SplitSpec(**facts["split"]) if facts.get("split") else None
    return StepSpec(**{**facts, **tuples, "outputs": outputs, "split": split})


@dataclass(frozen=True)
class Pipeline:
    """A pipeline with what its newest version says of itself."""

    id: str
    name: str
    newest: int
    state: VersionState
    title: str
    created_at: datetime
    created_by: str
    changed_at: datetime


@dataclass(frozen=True)
class PipelineVersion:
    """One immutable version: code, lock and the specification compiled of them.

    Attributes:
        state: ``compiling`` until it is ready to run or failed.
        reason: why it failed, with file and line where there is one.
        faults: every fault found in the code, each with ``file``, ``line``, ``message``.
        spec: what was compiled; None until ready.
        code_digest: sha256 of the manifest of its files.
        environment: address of its environment version; empty when it needs no package.
        lock_digest: of that environment's lock.
        no_fork: whether a task hung or crashed when forked and not when run alone.
        unchanged: whether a push found this same code already the newest.
    """

    id: str
    pipeline: str
    number: int
    state: VersionState
    reason: str
    faults: tuple[Mapping[str, Any], ...]
    spec: PipelineSpec | None
    spec_digest: str
    code_digest: str
    manifest_key: str
    environment: str
    lock_digest: str
    no_fork: bool
    created_at: datetime
    created_by: str
    unchanged: bool = False

    @property
    def address(self) -> str:
        """Name and number, such as ``filetypes@3``."""
        return f"{self.pipeline}@{self.number}"


@dataclass(frozen=True)
class RunInput:
    """A dataset version that a run pins."""

    name: str
    dataset: str
    number: int
    digest: str
    kind: str
    file_count: int
    size_bytes: int
    manifest_key: str


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        items_done, items_total: files or rows of the map steps planned so far.
        unit: what the items are; ``steps`` where no map step is.
        seconds_left: None until it can be told.
        waits_for: why its tasks can't start now, in words; empty when they can.
    """

    steps_done: int = 0
    steps_total: int = 0
    items_done: int = 0
    items_total: int = 0
    unit: str = "steps"
    bytes_done: int = 0
    bytes_total: int = 0
    seconds_left: float | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class Run:
    """One run of a pipeline version, or of a program, on pinned data.

    Attributes:
        what: address of the pipeline version, or the program's name.
        pipeline_version_id: None for a program.
        reason: why it failed or was cancelled.
        seed: every task's generators are seeded from it.
        environment: address of the environment version; empty for plain Python.
        outputs_key: key of the output manifest; empty until there is one.
        isolated: whether every task so far ran in a sandbox.
    """

    id: str
    project_id: str
    what: str
    pipeline_version_id: str | None
    state: RunState
    reason: str
    parameters: Mapping[str, Any]
    inputs: tuple[RunInput, ...]
    environment: str
    lock_digest: str
    code_digest: str
    spec_digest: str
    seed: int
    progress: Progress
    created_at: datetime
    created_by: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outputs_key: str = ""
    outputs_digest: str = ""
    output_files: int = 0
    output_bytes: int = 0
    cpu_seconds: float = 0.0
    isolated: bool = True


@dataclass(frozen=True)
class StepRun:
    """One step of a run.

    Attributes:
        partitions: tasks planned; 0 until planned.
        cpu_seconds: of all its tasks, failed tries included.
        memory_peak_bytes: of its hungriest task.
    """

    name: str
    kind: StepKind
    needs: tuple[str, ...]
    state: StepState
    reason: str = ""
    partitions: int = 0
    partitions_done: int = 0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Task:
    """One try of one partition of one step; partition -1 cuts a table for the others.

    Attributes:
        log_bytes: how long its log is; -1 while nobody knows.
        started_at: when it began; before its end, when it was given out: it may have waited for a
            slot since.
        now: what it takes at this moment, once it has begun and is measured.
    """

    step: str
    partition: int
    attempt: int
    state: TaskState
    reason: str = ""
    node: str = ""
    isolated: bool = True
    exit_code: int | None = None
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    wall_seconds: float = 0.0
    log_bytes: int = -1
    started_at: datetime | None = None
    ended_at: datetime | None = None
    now: TaskNow | None = None


@dataclass(frozen=True)
class StoredObject:
    """A file in the object store under the path a person gets to see.

    Attributes:
        path: relative; surrogate escapes where it is not UTF-8.
    """

    path: str
    key: str
    size: int
    digest: str


@dataclass(frozen=True)
class GatheredOutput:
    """One output of a pipeline: its parts in the order of the partitions.

    Attributes:
        objects: for a table parts named ``*.jsonl``, ``*.csv``, ``*.tsv`` (also ``.gz``) or
            ``*.parquet``; for the rest files under the paths their step gave them.
    """

    name: str
    kind: Kind
    description: str
    step: str
    objects: tuple[StoredObject, ...]


@dataclass(frozen=True)
class RunCollection:
    """All that a report, a provenance record and the output folder are made of.

    Attributes:
        steps: each with its state, seconds, CPU and memory.
        tasks: every try of every partition.
        logs: by step the key prefixes of its tasks, in order; chunks lie under PREFIX.log/.
        pipeline: facts of the version (address, title, description) or of the program.
        environment: address, lock_digest, python; empty values for plain Python.
        machine: node names, platform, Millpond's version.
        output_prefix: where the published outputs' own objects go.
    """

    run: Run
    spec: PipelineSpec
    pipeline: Mapping[str, Any]
    environment: Mapping[str, Any]
    machine: Mapping[str, Any]
    steps: tuple[StepRun, ...]
    tasks: tuple[Task, ...]
    outputs: tuple[GatheredOutput, ...]
    logs: Mapping[str, tuple[str, ...]]
    output_prefix: str
