"""What the engine is given, what it tells, what it gives back."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

Outcome = Literal["done", "failed", "cancelled", "timed_out", "lost"]

RESULT_PATH = ".millpond/result.json"
"""Where a task leaves its small result, within its output folder."""

RESULT_BYTES_MOST = 64 << 10
"""A result is facts, not data: a larger one fails the task."""


@dataclass(frozen=True)
class Grants:
    """What a step was allowed beyond its own folder.

    Attributes:
        network: whether it may use the network.
        secrets: names of the project's secrets that it is given.
        gateway: folder on the node that it sees read-only at /task/gateway; a Unix socket there
            is its only way out. Empty: none. Only in a sandbox.
    """

    network: bool = False
    secrets: tuple[str, ...] = ()
    gateway: str = ""


@dataclass(frozen=True)
class Limits:
    """What one task may use; passing one ends the task with a reason in plain words.

    Attributes:
        cpu_slots: cores it counts for, and is held to where control groups can be written.
        memory_bytes: memory of all its processes, with what they put into /tmp and /dev/shm.
        disk_bytes: bytes on disk below its output folder.
        processes: processes and threads at one time.
        seconds: time from its start to its end.
        gpus: graphics processors.
        log_bytes: how much of its log is kept.
        files: files and folders below its output folder.
    """

    cpu_slots: float = 1
    memory_bytes: int = 2 << 30
    disk_bytes: int = 4 << 30
    processes: int = 128
    seconds: float = 3600
    gpus: int = 0
    log_bytes: int = 4 << 20
    files: int = 100_000


@dataclass(frozen=True)
class StagedInput:
    """One file that a task finds in its input folder, or among its code.

    Attributes:
        path: where, relative; a name that is not UTF-8 comes with surrogate escapes.
        url: where its bytes are, for example ``object:KEY``.
        size: in bytes.
        digest: sha256 of its bytes, in hexadecimal; empty when it is not known.
    """

    path: str
    url: str
    size: int
    digest: str = ""


@dataclass(frozen=True)
class Entry:
    """What to call: either a Python function or a command.

    Attributes:
        function: ``module:function``; empty for a command.
        arguments: keyword arguments of the function, JSON values.
        command: program and arguments, run in the output folder; empty for a function.
    """

    function: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """All that a node needs to run one task: one try of one partition of one step.

    Attributes:
        key: ``run/step/partition/attempt``, the same each time it is planned.
        user_id: whose work it is; never shares a sandbox with another user's.
        project_id: the project; never shares a sandbox with another project's.
        environment: folder of the virtual environment on the node; empty for a plain Python.
        code: the pipeline version's files, mounted read-only at /code.
        code_digest: names that set of files; two tasks with one digest share one folder.
        preload: modules imported once per sandbox, before the tasks that share it.
        entry: what to call.
        inputs: files to be found below /task/in.
        output_prefix: key prefix in the object store of what this attempt publishes.
        grants: network and secrets.
        limits: what it may use.
        variables: environment variables.
        secrets: environment variables that are never written down, shown or logged.
        fork: whether it may be forked from a warm process; else it gets a fresh sandbox.
        seed: seed of the global generators of Python and numpy.
    """

    key: str
    user_id: str
    project_id: str
    entry: Entry
    output_prefix: str
    environment: str = ""
    code: tuple[StagedInput, ...] = ()
    code_digest: str = ""
    preload: tuple[str, ...] = ()
    inputs: tuple[StagedInput, ...] = ()
    grants: Grants = field(default_factory=Grants)
    limits: Limits = field(default_factory=Limits)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    fork: bool = True
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON, secrets included: for an encrypted wire, never for a log."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "TaskSpec":
        """Read back what ``to_json`` gave, also after it went through JSON text."""
        entry, grants = facts["entry"], facts["grants"]
        return cls(
            **{
                **facts,
                "code": tuple(StagedInput(**each) for each in facts["code"]),
                "inputs": tuple(StagedInput(**each) for each in facts["inputs"]),
                "preload": tuple(facts["preload"]),
                "entry": Entry(**{**entry, "command": tuple(entry["command"])}),
                "grants": Grants(**{**grants, "secrets": tuple(grants["secrets"])}),
                "limits": Limits(**facts["limits"]),
            }
        )


@dataclass(frozen=True)
class TaskProgress:
    """How far a task says it is. It is the user's word: bounded, and never acted upon.

    Attributes:
        key: the task's key.
        done: units done, if it said so.
        total: units in all, if it said so.
        message: a line for people, at most 500 characters.
        numbers: measures by name, at most 50.
    """

    key: str
    done: float | None = None
    total: float | None = None
    message: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredOutput:
    """One file that a task left and that now lies in the object store.

    Attributes:
        path: relative to the output folder; surrogate escapes where it is not UTF-8.
        key: where it lies in the object store.
        size: in bytes.
        digest: sha256 of its bytes, in hexadecimal.
    """

    path: str
    key: str
    size: int
    digest: str


@dataclass(frozen=True)
class TaskReport:
    """How a task ended. CPU, memory and outputs are measured from outside, never the task's word.

    Attributes:
        key: the task's key.
        outcome: ``done`` only after its outputs were checked and published.
        exit_code: of its process; negative for a signal; None when it never ran.
        reason: in words for people; empty when it is done and nothing was left out.
        cpu_seconds: user and system time of all its processes.
        memory_peak_bytes: highest memory of all its processes; 0 when it could not be measured.
        wall_seconds: from its start in the sandbox to its end.
        outputs: what was published, in the order of their paths.
        result: the JSON it left at ``.millpond/result.json``.
        log_bytes: how much of its log was kept.
        isolated: whether it ran in a sandbox.
        started_at: when it started, UTC.
        node: name of the node.
        left_out: what lay in the output folder and was not taken, each with its reason.
        needed_fresh: whether it hung or crashed as a fork and was tried again without one: the
            pipeline version had better be run with ``fork=False`` from then on.
        is_refused: whether its node had no room and never began it: it was no try of the task.
    """

    key: str
    outcome: Outcome
    exit_code: int | None
    reason: str
    started_at: datetime
    node: str
    isolated: bool
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    wall_seconds: float = 0.0
    outputs: tuple[StoredOutput, ...] = ()
    result: Any = None
    log_bytes: int = 0
    left_out: tuple[str, ...] = ()
    needed_fresh: bool = False
    is_refused: bool = False


@dataclass(frozen=True)
class NodeInfo:
    """One machine that runs tasks.

    Attributes:
        name: its name.
        slots: cores that tasks may count for.
        free_slots: of these, not taken.
        memory_bytes: memory that tasks may count for.
        isolated: whether tasks run in a sandbox there.
        reason: why not, or what the sandbox cannot hold to; empty when all is well.
        free_memory_bytes: of the memory, not taken.
        gpus: graphics processors.
        free_gpus: of these, not taken.
        is_draining: whether it takes no more tasks.
        paused: why a guard gives it no new tasks now; empty when it may have some.
        labels: words about it.
        is_host: whether it is the server's own machine: tasks with a gateway run only there.
        ordinary_slots: of the slots, those that tasks without a gateway may take; None: all.
        free_ordinary_slots: of these, not taken.
        takes_ahead: whether a task may wait there for the end of another.
    """

    name: str
    slots: float
    free_slots: float
    memory_bytes: int
    isolated: bool
    reason: str
    free_memory_bytes: int = 0
    gpus: int = 0
    free_gpus: int = 0
    is_draining: bool = False
    paused: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    is_host: bool = False
    ordinary_slots: float | None = None
    free_ordinary_slots: float | None = None
    takes_ahead: bool = False


_PLAIN = re.compile(rb"[A-Za-z0-9._/-]")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]{1,200}")
_LONGEST_NAME, _LONGEST_KEY = 200, 700


def output_key(prefix: str, path: str) -> str:
    """Give the object key of an output: readable where it can be, and one key for one path.

    Bytes outside of letters, digits and ``._-`` are written ``=`` and two hexadecimal digits.
    A path too long for a folder on disk goes under its sha256.
    """
    if _PLAIN_PATH.fullmatch(path):  # Most are.
        return f"{prefix.rstrip('/')}/{path}"
    raw = path.encode("utf-8", "surrogateescape")
    name = "".join(chr(c) if _PLAIN.match(bytes((c,))) else f"={c:02x}" for c in raw)
    if len(name) > _LONGEST_KEY or any(len(part) > _LONGEST_NAME for part in name.split("/")):
        name = f"=long/{hashlib.sha256(raw).hexdigest()}"
    return f"{prefix.rstrip('/')}/{name}"


def is_own_output(prefix: str, output: StoredOutput) -> bool:
    """Tell whether an output of a task's prefix lies where its path says, and climbs nowhere."""
    try:
        key = output_key(prefix, output.path)
    except UnicodeEncodeError:  # No name on a disk reads so.
        return False
    return output.key == key and not any(part in ("", ".", "..") for part in output.path.split("/"))


def log_key(prefix: str, sequence: int) -> str:
    """Give the object key of a chunk of a task's log; chunks count up from 0."""
    return f"{prefix.rstrip('/')}.log/{sequence:08d}"
