"""Lock and build from source in the sandbox: what a package's own code does, it does there."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from millpond.engine.port import OnDone, OnProgress
from millpond.engine.values import Entry, Grants, Limits, TaskReport, TaskSpec, log_key
from millpond.environments.built import LOCK_BYTES_MOST, Wheel, bad_lock, join_wheels, read_pins
from millpond.environments.gateway import Gateway
from millpond.environments.indexes import find_indexes, find_strategy
from millpond.environments.logs import LOG_BYTES_MOST
from millpond.environments.port import Builder, OnLine
from millpond.environments.rules import (
    clean_requirements,
    explain_failure,
    make_lock,
    mask_secrets,
)
from millpond.environments.values import SourceOrder
from millpond.ground.errors import BusyError, Fault, InvalidError, NotFoundError
from millpond.jobs.port import Lease, LeaseLostError, StoppingError
from millpond.storage.port import ObjectStore

_INSIDE = Path(__file__).with_name("inside.py")
_TICK_SECONDS = 0.3
_MEMORY, _DISK, _PROCESSES, _FILES = 2 << 30, 8 << 30, 512, 400_000
_LOCK, _WHEELS = "lock.txt", "wheels/"
_LINES_TOLD = 12
_PREFIX = ".gateway-"


class Dispatcher(Protocol):
    """Hands tasks to an engine, fairly by share."""

    def submit(self, task: TaskSpec, share: str, on_progress: OnProgress, on_done: OnDone) -> None:
        """Take a task; ``on_done`` is called exactly once."""
        ...

    def cancel(self, key: str) -> None:
        """End a task, waiting or running; unknown keys are passed over."""
        ...


class SandboxedSources:
    """Builds wheels in sandboxes of this machine and keeps them as objects. Safe to share."""

    def __init__(
        self,
        root: Path,
        *,
        builder: Builder,
        dispatcher: Dispatcher,
        objects: ObjectStore,
        uv: Path,
        environment: Mapping[str, str],
        is_isolated: Callable[[], bool],
        seconds: float = 1800.0,
        caps: Limits | None = None,
    ) -> None:
        """Prepare to build.

        Args:
            root: folder of this server alone for what a sandbox is shown while it builds.
            builder: makes the empty environment in which back ends run.
            dispatcher: runs the builds.
            objects: where wheels are kept.
            uv: the program.
            environment: variables that name the package index; they stay on this side.
            is_isolated: whether tasks run in a sandbox here; without one nothing is built.
            seconds: the longest time of one build.
            caps: what any one task may use here, when that is less than a build takes.
        """
        self._root, self._builder, self._dispatcher = root, builder, dispatcher
        self._objects, self._uv, self._environment = objects, uv, environment
        self._is_isolated = is_isolated
        most = caps or Limits(disk_bytes=_DISK, processes=_PROCESSES, seconds=seconds)
        self._limits = Limits(
            memory_bytes=min(_MEMORY, most.memory_bytes),
            disk_bytes=min(_DISK, most.disk_bytes),
            processes=min(_PROCESSES, most.processes),
            seconds=min(seconds, most.seconds),
            log_bytes=min(LOG_BYTES_MOST, most.log_bytes),
            files=_FILES,
        )
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)  # A killed server left it.

    def lock(self, order: SourceOrder, lease: Lease, on_line: OnLine) -> str:
        """Lock and build; give the lock, which names the wheels that were built.

        Raises:
            InvalidError: there is no sandbox, or a package can't be had or built; says why.
            BusyError: the index can't be reached, or the sandbox was lost.
            LeaseLostError: the job has passed to another.
            StoppingError: this server is stopping.
        """
        indexes = find_indexes(self._environment)
        self._check(has_index=bool(indexes))
        place = self._builder.ensure(make_lock("", self._builder.python_version), lambda _: None)
        attempt = f"{order.version_id}/{lease.job.id}-{lease.fence}"
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._root) as closed:
            folder = Path(closed, "gateway")  # Only its outer folder keeps other accounts out.
            self._lay_out(folder, order, len(indexes))
            task = TaskSpec(
                key=f"source/{attempt}",
                user_id=order.user_id,
                project_id=order.project_id,
                environment=str(place.path),
                entry=Entry(command=("python", "-I", "/task/gateway/inside.py")),
                output_prefix=f"projects/{order.project_id}/environments/{attempt}/built",
                grants=Grants(gateway=str(folder)),
                limits=self._limits,
                fork=False,
            )
            on_line(f"Building from source, in the sandbox: {', '.join(order.names)}")
            with Gateway(folder / "socket", indexes, on_line) as gateway:
                report, last = self._run(task, lease, on_line)
        return self._read(report, order, gateway.fault, last)

    def _check(self, *, has_index: bool) -> None:
        reason = ""
        if not self._is_isolated():
            reason = "this server has no sandbox to build them in"
        elif self._environment.get("UV_OFFLINE", "") not in ("", "0", "false"):
            reason = "this server may not ask the package index"
        elif not has_index:
            reason = "this server's uv is set up with no package index on the web"
        if reason:
            raise InvalidError(
                f"Packages can't be built from source: {reason}.",
                next_step="Use versions that have wheels; `millpond doctor` tells of the sandbox.",
                faults=[Fault("build_from_source", reason)],
            )

    def _lay_out(self, folder: Path, order: SourceOrder, indexes: int) -> None:
        """Write what the sandbox is shown; readable to its uid, which is not ours."""
        folder.mkdir()
        facts = {
            "requirements": clean_requirements(order.requirements),
            "names": order.names,
            "indexes": indexes,
            "python": self._builder.python_version,
            "strategy": find_strategy(self._environment),
        }
        (folder / "order.json").write_text(json.dumps(facts))
        shutil.copyfile(_INSIDE, folder / "inside.py")
        try:
            os.link(self._uv, folder / "uv")
        except OSError:  # On another file system, or not ours.
            shutil.copyfile(self._uv, folder / "uv")
            (folder / "uv").chmod(0o755)
        for each in (folder / "order.json", folder / "inside.py"):
            each.chmod(0o644)
        folder.chmod(0o755)

    def _run(self, task: TaskSpec, lease: Lease, on_line: OnLine) -> tuple[TaskReport, str]:
        """Run the task to its end; its log goes on to the version's. Give its last lines too."""
        ended = threading.Event()
        reports: list[TaskReport] = []

        def done(report: TaskReport) -> None:
            reports.append(report)
            ended.set()

        log = _TaskLog(self._objects, task.output_prefix, on_line)
        share = f"{task.project_id}/{task.user_id}"
        self._dispatcher.submit(task, share, lambda _: None, done)
        while not ended.wait(_TICK_SECONDS):
            log.follow()
            if lease.lost() or lease.stopping():
                self._dispatcher.cancel(task.key)
                ended.wait(5)
                raise LeaseLostError if lease.lost() else StoppingError
        log.follow()
        return reports[0], log.end()

    def _read(self, report: TaskReport, order: SourceOrder, fault: str, last: str) -> str:
        """Make the lock of what the sandbox left, or say what went wrong."""
        result = report.result if isinstance(report.result, dict) else {}
        is_ok = report.outcome == "done" and result.get("ok") is True
        if is_ok:
            wheels = {
                each.path.removeprefix(_WHEELS): Wheel(
                    each.path.removeprefix(_WHEELS), each.key, each.digest
                )
                for each in report.outputs
                if each.path.startswith(_WHEELS)
            }
            text = self._read_lock(report)
            body = join_wheels(read_pins(text), order.names, wheels)
            return make_lock(body, self._builder.python_version)
        if report.outcome == "cancelled":
            raise StoppingError
        if fault or report.outcome == "lost":
            raise BusyError(
                f"The package index can't be reached: {mask_secrets(fault)}."
                if fault
                else f"The build was lost: {report.reason}",
                next_step="Check the network and the index that uv is set up with on the server.",
                retry_after_seconds=30.0,
            )
        said = str(result.get("reason") or "")
        if report.outcome != "done":
            said = f"The build from source was ended. {report.reason}\n{last}"
        reason = explain_failure(said)
        if not reason.startswith("There is no package"):
            reason = mask_secrets(said).strip()[-2000:]  # A back end says last what went wrong.
        raise InvalidError(
            reason,
            next_step="Mend the requirements and make a new version.",
            faults=[Fault("build_from_source", reason)],
        )

    def _read_lock(self, report: TaskReport) -> str:
        found = [each for each in report.outputs if each.path == _LOCK]
        if not found or found[0].size > LOCK_BYTES_MOST:
            raise bad_lock("it is too long" if found else "there is none")
        return self._objects.get(found[0].key).decode("utf-8", "replace")


class _TaskLog:
    """Brings a running task's log over, line by line."""

    def __init__(self, objects: ObjectStore, prefix: str, on_line: OnLine) -> None:
        self._objects, self._prefix, self._on_line = objects, prefix, on_line
        self._number, self._rest = 0, b""
        self._last: list[str] = []

    def follow(self) -> None:
        """Take what has come since."""
        with suppress(NotFoundError):
            while True:
                data = self._objects.get(log_key(self._prefix, self._number))
                self._number += 1
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._tell(line)

    def end(self) -> str:
        """Take the line that has no end; give the last lines."""
        if self._rest:
            self._tell(self._rest)
        return "\n".join(self._last)

    def _tell(self, line: bytes) -> None:
        text = mask_secrets(line.decode("utf-8", "replace"))
        self._last = [*self._last, text][-_LINES_TOLD:]
        self._on_line(text)
