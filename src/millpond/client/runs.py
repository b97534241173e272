"""Runs over the SDK: start, follow, cancel, take the outputs."""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.client.decoding import decode
from millpond.client.downloading import Wanted, fetch_files
from millpond.client.events import follow
from millpond.client.lake import entry_body, path_query
from millpond.client.pipelines import send_code
from millpond.client.progress import OnProgress, ignore
from millpond.client.room import Room
from millpond.ground.address import parse_address
from millpond.ground.errors import BusyError, NotFoundError
from millpond.lake.values import FileEntry
from millpond.pipelines.presets.values import Preset
from millpond.pipelines.values import RUN_ENDED, Run, StepRun, Task

_LOOK_SECONDS = 0.4
_LOOK_ANYWAY_SECONDS = 5.0
_GIVE_UP_SECONDS = 600.0


@dataclass(frozen=True)
class LogText:
    """A piece of a run's log.

    Attributes:
        text: whole lines as the steps wrote them.
        next: what to ask for next (``after``).
        is_complete: whether nothing more will come.
    """

    text: str
    next: str | int
    is_complete: bool


class RunsRoom(Room):
    """A project's runs."""

    def start(
        self,
        pipeline: str,
        inputs: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        project: str | None = None,
        key: str | None = None,
    ) -> Run:
        """Start a run of a pipeline.

        Args:
            pipeline: its address, ``NAME`` or ``NAME@N``.
            inputs: dataset addresses by the pipeline's names of its inputs.
            parameters: values by name; defaults stand in for the rest.
            preset: the name of a preset that fills what is not given here.
            project: the project it runs in.
            key: an idempotency key, to start the same run only once.

        Raises:
            InvalidError: something does not fit the pipeline's form; every fault is named.
        """
        body: dict[str, Any] = {
            "pipeline": pipeline,
            "inputs": dict(inputs or {}),
            "parameters": dict(parameters or {}),
        }
        if preset:
            name = parse_address(pipeline).name
            path = self._in(project, "pipelines", name, "presets", preset)
            kept = self._transport.read(Preset, path)
            body["inputs"] = {**kept.inputs, **body["inputs"]}
            body["parameters"] = {**kept.parameters, **body["parameters"]}
        return decode(Run, self._transport.make(self._in(project, "runs"), body, key=key))

    def start_program(
        self,
        program: str | Path,
        inputs: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        code: str | Path | None = None,
        environment: str | None = None,
        limits: Mapping[str, Any] | None = None,
        project: str | None = None,
        on_progress: OnProgress = ignore,
    ) -> Run:
        """Run any program, undecorated: a Python, R or shell script.

        Args:
            program: the script.
            inputs: dataset addresses by name; each becomes a folder.
            parameters: written to the file that MILLPOND_PARAMETERS names.
            code: a folder that holds the script, to send all of it; else the script alone.
            environment: address of an environment; plain Python when left out.
            limits: of its one task: slots, memory_bytes, disk_bytes, seconds; and its grants:
                network, secrets.
            project: the project it runs in.
            on_progress: told how far sending the program is.
        """
        folder = Path(code) if code is not None else Path(program).parent
        source = folder if code is not None else Path(program)
        hashed = send_code(self._transport, self._project(project), source, on_progress)
        body: dict[str, Any] = {
            "program": {
                "entry": os.path.relpath(program, folder),
                "files": [entry_body(one) for one in hashed],
                **(limits or {}),
            },
            "inputs": dict(inputs or {}),
            "parameters": dict(parameters or {}),
        }
        if environment:
            body["environment"] = environment
        return decode(Run, self._transport.make(self._in(project, "runs"), body))

    def list(
        self,
        *,
        state: str | None = None,
        pipeline: str | None = None,
        project: str | None = None,
        most: int | None = 50,
    ) -> list[Run]:
        """List runs, newest first."""
        query = {"state": state, "pipeline": pipeline}
        return list(self._transport.pages(Run, self._in(project, "runs"), query, most))

    def get(self, run_id: str, *, project: str | None = None) -> Run:
        """Show a run."""
        return self._transport.read(Run, self._in(project, "runs", run_id))

    def cancel(self, run_id: str, *, project: str | None = None) -> Run:
        """Cancel a run; its tasks are killed within two seconds."""
        return decode(Run, self._transport.ask(self._in(project, "runs", run_id, "cancel"), {}))

    def steps(self, run_id: str, *, project: str | None = None) -> Sequence[StepRun]:
        """List a run's steps."""
        return list(self._transport.pages(StepRun, self._in(project, "runs", run_id, "steps")))

    def tasks(
        self,
        run_id: str,
        *,
        step: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> Sequence[Task]:
        """List a run's tasks: every try of every partition."""
        path = self._in(project, "runs", run_id, "tasks")
        return list(self._transport.pages(Task, path, {"step": step}, most))

    def log(
        self,
        run_id: str,
        *,
        step: str | None = None,
        partition: int | None = None,
        after: str | int | None = None,
        project: str | None = None,
    ) -> LogText:
        """Read a piece of a run's log, from ``after`` on."""
        query = {"step": step, "partition": partition, "after": after}
        path = self._in(project, "runs", run_id, "log")
        return self._transport.read(LogText, path, query)

    def wait(
        self,
        run_id: str,
        on_change: Callable[[Run], None] = lambda _: None,
        *,
        project: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> Run:
        """Follow a run to its end by live events; outlives a restart of the server."""
        with contextlib.closing(self._signs_of_life(run_id, project, pause)) as signs:
            while True:
                run = self._get_patiently(run_id, project, pause)
                on_change(run)
                if run.state in RUN_ENDED:
                    return run
                next(signs)

    def outputs(self, run_id: str, *, project: str | None = None) -> Sequence[FileEntry]:
        """List the files that a run left."""
        return list(self._transport.pages(FileEntry, self._in(project, "runs", run_id, "outputs")))

    def download(
        self,
        run_id: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress = ignore,
    ) -> Sequence[Path]:
        """Bring a run's outputs into a folder; each is checked against its digest."""
        path = self._in(project, "runs", run_id, "outputs", "content")
        wanted = [
            Wanted(entry.raw_path, path, path_query(entry), entry.digest, entry.size)
            for entry in self.outputs(run_id, project=project)
        ]
        return fetch_files(
            self._transport, wanted, Path(target), overwrite=overwrite, on_progress=on_progress
        )

    def download_zip(
        self,
        run_id: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a run's outputs as one zip file."""
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        path = self._in(project, "runs", run_id, "outputs", "archive")
        wanted = [Wanted(raw_name, path, {}, None, None)]
        fetch_files(self._transport, wanted, target.parent, overwrite=overwrite)
        return target

    def _get_patiently(
        self, run_id: str, project: str | None, pause: Callable[[float], None]
    ) -> Run:
        end = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                return self.get(run_id, project=project)
            except BusyError as fault:
                if time.monotonic() > end:
                    raise
                pause(max(1.0, fault.retry_after_seconds))

    def _signs_of_life(
        self, run_id: str, project: str | None, pause: Callable[[float], None]
    ) -> Generator[None, None, None]:
        """Give a sign whenever the run should be looked at again, for ever."""
        after = ""
        path = self._in(project, "events")
        while True:
            looked = 0.0
            try:
                for event in follow(self._transport, path, f"run/{run_id}", after):
                    after = event.id or after
                    waited = time.monotonic() - looked
                    is_turn = event.kind.startswith("pipeline.run.")
                    if is_turn or waited > (_LOOK_SECONDS if event.kind else _LOOK_ANYWAY_SECONDS):
                        yield
                        looked = time.monotonic()
            except (BusyError, NotFoundError):
                pause(1.0)
            yield
