"""Runs over the SDK: start, follow, cancel."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from millpond.client.decoding import decode
from millpond.client.lake import entry_body
from millpond.client.pipelines import send_code
from millpond.client.progress import OnProgress, ignore
from millpond.client.run_logs import RunLogs
from millpond.client.run_outputs import RunOutputs
from millpond.ground.errors import BusyError
from millpond.pipelines.values import RUN_ENDED, Run, StepRun, Task

_GIVE_UP_SECONDS = 600.0


class RunsRoom(RunLogs, RunOutputs):
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
            body["preset"] = preset
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
            limits: of its one task: slots, gpus, memory_bytes, disk_bytes, seconds; and its grants:
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

    def again(self, run_id: str, *, project: str | None = None, key: str | None = None) -> Run:
        """Start a run of the same code on the same data with the same parameters."""
        path = self._in(project, "runs", run_id, "again")
        return decode(Run, self._transport.make(path, {}, key=key))

    def list(
        self,
        *,
        state: str | Sequence[str] = (),
        pipeline: str = "",
        by: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        text: str = "",
        project: str | None = None,
        most: int | None = 50,
    ) -> list[Run]:
        """List runs, newest first.

        Args:
            state: one or several; any of them counts.
            pipeline: ``NAME`` or ``NAME@N``.
            by: name of who started it.
            since: started then or later.
            until: started before.
            text: stands in its id, its pipeline or ``by``.
            project: the project.
            most: how many at most.
        """
        query = {
            "state": [state] if isinstance(state, str) else [*state],
            "pipeline": pipeline or None,
            "by": by or None,
            "since": since and since.isoformat(),
            "until": until and until.isoformat(),
            "text": text or None,
        }
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
        state: str | None = None,
        project: str | None = None,
        most: int | None = None,
    ) -> Sequence[Task]:
        """List a run's tasks: every try of every partition."""
        path = self._in(project, "runs", run_id, "tasks")
        query = {"step": step, "state": state}
        return list(self._transport.pages(Task, path, query, most))

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
