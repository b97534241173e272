"""What the outputs of a run are made of, and what is known of each file among them."""

import base64
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1

PREDICTIONS = "predictions.csv"
STATISTICS = "statistics.json"
REPORT = "report.html"
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class OutputFile:
    """One file of a run's outputs.

    Attributes:
        path: relative path with slashes, as people see it; bytes that are not UTF-8 stand as
            backslash escapes.
        key: where its bytes lie in the object store.
        size: bytes.
        digest: sha256 of the bytes, in hexadecimal.
        path_bytes: base64 of the real bytes of the path, only when they are not UTF-8.
    """

    path: str
    key: str
    size: int
    digest: str
    path_bytes: str | None = None

    @property
    def raw_path(self) -> bytes:
        """The real bytes of the path."""
        if self.path_bytes is None:
            return self.path.encode()
        return base64.b64decode(self.path_bytes, validate=True)


@dataclass(frozen=True)
class OutputManifest:
    """All files of a run's outputs, in the order of the bytes of their paths."""

    files: tuple[OutputFile, ...]

    @property
    def file_count(self) -> int:
        """How many files there are."""
        return len(self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(each.size for each in self.files)


@dataclass(frozen=True)
class StepFacts:
    """What one step did.

    Attributes:
        name: its name.
        state: how it ended.
        tasks: how many partitions it had.
        failed: tries that failed, those included that a later try made good.
        cpu_seconds: of all its tasks.
        wall_seconds: from its start to its end.
        memory_peak_bytes: highest of its tasks; 0 when it could not be measured.
    """

    name: str
    state: str
    tasks: int
    failed: int
    cpu_seconds: float
    wall_seconds: float
    memory_peak_bytes: int = 0


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run besides its outputs; JSON values throughout.

    Attributes:
        run: id, state, who asked for it and when; shown as it is.
        pipeline: name, version, digest, title, description.
        parameters: as the run used them, defaults filled in.
        inputs: one per input: name, address, digest, files, bytes.
        environment: name, version, lock digest, Python, packages as ``name==version``.
        code: digest of the code and what else names it.
        machine: nodes with whether they isolate, operating system, processor.
        times: moments in ISO 8601, and seconds.
        counts: files or rows read, tasks, failures.
        warnings: sentences for people.
    """

    run: dict[str, Any]
    pipeline: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    times: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    steps: tuple[StepFacts, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collected:
    """What ``collect`` wrote.

    Attributes:
        manifest_key: where the output manifest lies.
        manifest_digest: sha256 of its bytes.
        manifest: its files.
        warnings: sentences for people, those of the run included.
    """

    manifest_key: str
    manifest_digest: str
    manifest: OutputManifest
    warnings: tuple[str, ...]
