"""Find the data a step asks for, cut it, and write the tasks that the engine is given."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from millpond.engine.values import Entry, Grants, Limits, StagedInput, TaskSpec
from millpond.kit.rows import suffix_of
from millpond.lake.manifests import read_manifest
from millpond.lake.values import object_key
from millpond.pipelines.runs.graph import task_key
from millpond.pipelines.runs.rules import cut_files, cut_rows
from millpond.pipelines.runs.values import SPLITTING, DataFaultError, Loaded, Part, TaskOutputs, Try
from millpond.pipelines.values import StepSpec, StoredObject
from millpond.storage.port import ObjectStore

_SHOWN, _ROWS_MOST = 5, 1 << 50
Done = Mapping[int, TaskOutputs]
"""Outputs of a step by partition."""


class Staging:
    """Resolves a run's data and writes its tasks; keeps input manifests it has read."""

    def __init__(
        self, objects: ObjectStore, loaded: Loaded, environment: str, code: tuple[StagedInput, ...]
    ) -> None:
        """Serve one run."""
        self._objects, self._loaded = objects, loaded
        self._environment, self._code = environment, code
        self._inputs = {each.name: each for each in loaded.run.inputs}
        self._read: dict[str, list[Part]] = {}
        self._secrets: dict[str, dict[str, str]] = {}

    def resolve(self, argument: Mapping[str, Any], done: Mapping[str, Done]) -> list[Part]:
        """Give the files that a data argument stands for, named as the step will see them.

        Raises:
            DataFaultError: two partitions left files of one name, or a table holds other files.
        """
        several = argument.get("all", [argument])
        parts = [part for each in several for part in self._source(each, done)]
        if argument["kind"] == "table":
            return _number_parts(parts)
        paths = [part.stored.path for part in parts]
        if len(set(paths)) < len(paths):
            twice = sorted({path for path in paths if paths.count(path) > 1})[:_SHOWN]
            raise DataFaultError(
                "Several partitions left files of the same name: "
                + ", ".join(repr(path) for path in twice)
                + ". Name outputs after the input file."
            )
        return parts

    def _source(self, source: Mapping[str, str], done: Mapping[str, Done]) -> Iterable[Part]:
        if "input" in source:
            return self._input(source["input"])
        return output_parts(done.get(source["step"], {}), source["output"])

    def _input(self, name: str) -> list[Part]:
        pinned = self._inputs.get(name)
        if pinned is None:
            return []
        if name not in self._read:
            project_id = self._loaded.run.project_id
            self._read[name] = [
                Part(
                    StoredObject(
                        each.os_path, object_key(project_id, each.digest), each.size, each.digest
                    )
                )
                for each in read_manifest(self._objects, pinned.manifest_key).files
            ]
        return self._read[name]

    def cut(self, step: StepSpec, parts: Sequence[Part], most: int) -> list[int]:
        """Cut what a map step splits into partitions."""
        split = step.split
        assert split is not None  # noqa: S101 - only maps are cut.
        if step.arguments[split.over]["kind"] == "table":
            return cut_rows([part.rows or 0 for part in parts], split.rows, most)
        sizes = [part.stored.size for part in parts]
        return cut_files(sizes, split.files, split.bytes, most)

    def task(
        self,
        step: StepSpec,
        tried: Try,
        over: Sequence[Part],
        items: int,
        rest: Mapping[str, Sequence[Part]],
    ) -> TaskSpec:
        """Write the task of one try.

        Args:
            step: the step.
            tried: which try of which partition.
            over: the files of the argument whose progress is counted.
            items: how many items these hold; 0 when that is not known.
            rest: files of the other data arguments.
        """
        run = self._loaded.run
        name = counted_argument(step)
        staged = {**rest, name: over} if name else dict(rest)
        return TaskSpec(
            key=task_key(run.id, tried),
            user_id=self._loaded.user_id,
            project_id=run.project_id,
            environment=self._environment,
            code=self._code,
            code_digest=run.code_digest,
            preload=_preload(step),
            entry=self._entry(step, tried, name, items, sum(p.stored.size for p in over)),
            inputs=tuple(
                StagedInput(
                    f"{argument}/{part.stored.path}",
                    f"object:{part.stored.key}",
                    part.stored.size,
                    part.stored.digest,
                )
                for argument, parts in staged.items()
                for part in parts
            ),
            output_prefix=task_prefix(run.project_id, run.id, tried),
            grants=Grants(network=step.network, secrets=step.secrets),
            limits=Limits(
                cpu_slots=step.slots,
                gpus=step.gpus,
                memory_bytes=int(step.memory_bytes),
                disk_bytes=int(step.disk_bytes),
                processes=int(step.processes),
                seconds=step.seconds,
            ),
            secrets={name: self._loaded.secrets[name] for name in step.secrets},
            fork=tried.fork,
            seed=seed_of(run.seed, tried),
        )

    def _entry(self, step: StepSpec, tried: Try, name: str, items: int, size: int) -> Entry:
        if tried.partition == SPLITTING:
            assert step.split is not None  # noqa: S101 - only maps are cut.
            split = {"name": step.split.over, "rows": step.split.rows}
            return Entry("millpond.task:split_table", split)
        values = {key: self._argument(each) for key, each in step.arguments.items()}
        if step.kind == "command":
            outputs = [name for name, _ in step.outputs]
            told = {"command": list(step.command), "arguments": values, "outputs": outputs}
            return Entry("millpond.task:run_command", told)
        told = {"entry": step.entry, "arguments": values}
        counted = {"over": name, "items": items, "size": size} if name else {}
        return Entry("millpond.task:run_step", {**told, **counted})

    def _argument(self, argument: Mapping[str, Any]) -> dict[str, Any]:
        if "kind" in argument:
            return {"kind": argument["kind"]}
        if "parameter" in argument:
            return {"value": self._loaded.run.parameters.get(argument["parameter"])}
        return {"value": argument.get("value")}


def _preload(step: StepSpec) -> tuple[str, ...]:
    """Give what is imported once for all tasks that share a warm process: the step's module too."""
    own = step.entry.partition(":")[0]
    return tuple(dict.fromkeys(each for each in ("millpond.task", *step.preload, own) if each))


def data_arguments(step: StepSpec) -> dict[str, Mapping[str, Any]]:
    """Give a step's arguments that are data."""
    return {name: each for name, each in step.arguments.items() if "kind" in each}


def counted_argument(step: StepSpec) -> str:
    """Give the argument whose items are a step's progress: what is split, or its first data."""
    return step.split.over if step.split else next(iter(data_arguments(step)), "")


def task_prefix(project_id: str, run_id: str, tried: Try) -> str:
    """Give the key prefix of what one try leaves."""
    return f"projects/{project_id}/runs/{run_id}/{tried.step}/{tried.partition}/{tried.attempt}"


def seed_of(seed: int, tried: Try) -> int:
    """Give the seed of a partition: the same for each of its tries."""
    return seed ^ zlib.crc32(f"{tried.step}/{tried.partition}".encode())


def output_parts(done: Done, output: str) -> list[Part]:
    """Give an output's files, in the order of the partitions, under the paths the step gave."""
    parts = []
    lead = f"{output}/"
    for partition in sorted(number for number in done if number != SPLITTING):
        parts += task_parts(done[partition], lead, done[partition].rows.get(output))
    return parts


def task_parts(outputs: TaskOutputs, lead: str, runs: Any) -> list[Part]:
    """Give one task's files below a folder, with the rows it says they have."""
    mine = [each for each in outputs.objects if each.path.startswith(lead)]
    counts = list(islice(_counts(runs), len(mine) + 1))  # It may have told of millions of parts.
    known = counts if len(counts) == len(mine) else [None] * len(mine)
    return [
        Part(StoredObject(each.path[len(lead) :], each.key, each.size, each.digest), rows)
        for each, rows in zip(mine, known, strict=True)
    ]


def _counts(runs: Any) -> Iterable[int | None]:
    """Read runs of ``[rows, parts]``: a task's word, so anything else counts as not known."""
    try:
        for rows, parts in runs or ():
            for _ in range(int(parts)):
                yield min(max(int(rows), 0), _ROWS_MOST)
    except (TypeError, ValueError, OverflowError):
        return


def _number_parts(parts: Sequence[Part]) -> list[Part]:
    """Name a table's parts by their order, so that the step reads them in it."""
    wrong = [part.stored.path for part in parts if not suffix_of(part.stored.path)]
    if wrong:
        raise DataFaultError(
            "A table is needed (.csv, .tsv, .jsonl, .parquet), but these files are none: "
            + ", ".join(repr(path) for path in wrong[:_SHOWN])
        )
    numbered = []
    for number, part in enumerate(parts):
        old = part.stored
        packed = ".gz" if old.path.lower().endswith(".gz") else ""
        path = f"{number:08d}{suffix_of(old.path)}{packed}"
        numbered.append(Part(StoredObject(path, old.key, old.size, old.digest), part.rows))
    return numbered
