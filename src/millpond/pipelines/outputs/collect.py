"""Gather a run's outputs: one folder, in order, with a report and a record of how it was made."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millpond.ground.canonical import digest_of_bytes
from millpond.ground.errors import ConflictError
from millpond.lake.values import encode_path
from millpond.pipelines.outputs import cells, provenance, report
from millpond.pipelines.outputs.facts import facts_of
from millpond.pipelines.outputs.manifests import encode_outputs
from millpond.pipelines.outputs.rows import Reject, read_rows
from millpond.pipelines.outputs.sheets import DigestedFile, write_table
from millpond.pipelines.outputs.tallies import TableTally
from millpond.pipelines.outputs.values import (
    FORMAT,
    PREDICTIONS,
    PROVENANCE,
    REPORT,
    STATISTICS,
    Collected,
    OutputFile,
    OutputManifest,
    RunFacts,
)
from millpond.pipelines.values import GatheredOutput, RunCollection
from millpond.storage.port import ObjectStore

_REJECTS_KEPT = 10_000


def collect(
    objects: ObjectStore, collection: RunCollection, scratch: Path | None = None
) -> Collected:
    """Write the outputs of a run under its output prefix, and one manifest of them all.

    Files of steps stay where they are; the manifest points at them. Objects are named by their
    content, so collecting again, after a crash half way, meets nothing in its way. ``scratch`` is
    the folder for files while they are written; the system's own when none is given.

    Raises:
        InvalidError: a part of a table is damaged.
        TooLargeError: a table has too many columns, or a packed part is a bomb.
        BusyError: the object store is full or does not answer.

    Cost: reads every table part twice; memory for one batch of rows and a tally per column.
    """
    folder = Path(tempfile.mkdtemp(prefix="millpond-outputs-", dir=scratch))
    try:
        gathering = _Gathering(objects, collection, folder, facts_of(collection))
        return gathering.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Gathering:
    objects: ObjectStore
    collection: RunCollection
    folder: Path
    facts: RunFacts
    files: dict[str, OutputFile] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def run(self) -> Collected:
        self.warnings += self.facts.warnings
        for output in self.collection.outputs:
            if output.kind == "table":
                self._table(output)
            else:
                self._files(output)
        self._logs()
        statistics = self._statistics()
        millpond = str(self.collection.machine.get("millpond", ""))
        listed = list(self.files.values())
        page = report.render(self.facts, statistics, listed, self.warnings, millpond)
        self._keep(REPORT, page.encode())
        record = provenance.describe(self.facts, self.files.values(), millpond)
        self._keep_json(PROVENANCE, record)
        return self._manifest()

    def _table(self, output: GatheredOutput) -> None:
        tally, rejects, total = TableTally(output.name), list[Reject](), 0

        def set_aside(reject: Reject) -> None:
            nonlocal total
            total += 1
            if len(rejects) < _REJECTS_KEPT:
                rejects.append(reject)

        for row in read_rows(self.objects, output.objects, set_aside):
            tally.add(row)
        rows = read_rows(self.objects, output.objects, lambda _: None)
        path = f"tables/{output.name}"
        with self._new(f"{path}.csv") as csv, self._new(f"{path}.parquet") as parquet:
            write_table(rows, tally.schema, csv, parquet)
        facts = tally.facts()
        if total:
            facts["rejected"] = total
            self._rejects(output.name, rejects, total)
        self.tables.append(facts)

    def _rejects(self, name: str, rejects: list[Reject], total: int) -> None:
        path = f"tables/{name}.rejects.csv"
        lines = [cells.csv_line(["part", "line", "reason", "text"])]
        lines += [
            cells.csv_line([each.part, each.line, each.reason, each.text]) for each in rejects
        ]
        self._keep(path, "".join(lines).encode())
        noun = "line is no row" if total == 1 else "lines are no rows"
        self.warnings.append(f"{total:,} {noun} of the table {name} and stand apart in {path}.")

    def _files(self, output: GatheredOutput) -> None:
        twice = 0
        for each in output.objects:
            raw = each.path.encode("utf-8", "surrogateescape")
            path, path_bytes = encode_path(f"files/{output.name}/".encode() + raw)
            twice += path in self.files
            free = _free_path(path, self.files)
            if free != path:
                path, path_bytes = free, None
            self.files[path] = OutputFile(path, each.key, each.size, each.digest, path_bytes)
        if twice:
            self.warnings.append(
                f"{twice:,} files of the output {output.name} had the path of another one and were"
                " given a number; let each task name its files differently."
            )

    def _logs(self) -> None:
        for step, prefixes in self.collection.logs.items():
            with self._new(f"logs/{step}.log") as log:
                for prefix in prefixes:
                    self._one_log(log, prefix, is_only=len(prefixes) == 1)

    def _one_log(self, log: DigestedFile, prefix: str, *, is_only: bool) -> None:
        last, is_first = b"\n", True
        for chunk in self.objects.list(f"{prefix.rstrip('/')}.log/"):
            if is_first and not is_only:
                log.write(f"--- task {'/'.join(prefix.rstrip('/').split('/')[-2:])}\n".encode())
            is_first = False
            for piece in self.objects.stream(chunk.key):
                log.write(piece)
                last = piece[-1:] or last
        if last != b"\n":
            log.write(b"\n")

    def _statistics(self) -> dict[str, Any]:
        statistics = {
            "format": FORMAT,
            "run": self.collection.run.id,
            "counts": self.facts.counts,
            "tables": self.tables,
        }
        self._keep_json(STATISTICS, statistics)
        names = [each["name"] for each in self.tables]
        if names:
            first = "predictions" if "predictions" in names else names[0]
            table = self.files[f"tables/{first}.csv"]
            self.files[PREDICTIONS] = OutputFile(PREDICTIONS, table.key, table.size, table.digest)
        return statistics

    def _manifest(self) -> Collected:
        data = encode_outputs(self.files.values())
        digest = digest_of_bytes(data)
        key = f"{self._prefix}manifests/{digest}"
        self._put(lambda: self.objects.put(key, data))
        files = tuple(sorted(self.files.values(), key=lambda each: each.raw_path))
        return Collected(key, digest, OutputManifest(files), tuple(self.warnings))

    @property
    def _prefix(self) -> str:
        return self.collection.output_prefix.rstrip("/") + "/"

    def _keep_json(self, path: str, value: object) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
        self._keep(path, (cells.printable(text) + "\n").encode())

    def _keep(self, path: str, data: bytes) -> None:
        with self._new(path) as file:
            file.write(data)

    @contextmanager
    def _new(self, path: str) -> Iterator[DigestedFile]:
        """Write a file and, when all went well, put it into the store under its digest."""
        file = DigestedFile(self.folder / f"{len(self.files)}-{digest_of_bytes(path.encode())}")
        try:
            yield file
        finally:
            file.close()
        key = f"{self._prefix}{file.digest}"
        with file.path.open("rb") as source:
            self._put(lambda: self.objects.put(key, source))
        file.path.unlink()
        self.files[path] = OutputFile(path, key, file.size, file.digest)

    def _put(self, put: Callable[[], int]) -> None:
        with suppress(ConflictError):  # The key is the content's digest: it is there already.
            put()


def _free_path(path: str, taken: dict[str, OutputFile]) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    number, free = 1, path
    while free in taken:
        number += 1
        free = f"{folder}{slash}{stem} ({number}){dot}{ending}"
    return free
