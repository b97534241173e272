"""One task's way through staging, running and taking out, and what is known of it so far."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from millpond.engine import rules, staging
from millpond.engine.logs import LogKeeper, ProgressReader
from millpond.engine.plain import translate
from millpond.engine.port import OnProgress, Transfer
from millpond.engine.sandbox import Shown
from millpond.engine.values import Outcome, TaskReport, TaskSpec
from millpond.engine.warm import Ended, WarmSandbox
from millpond.ground.errors import MillpondError

_FILES_OPEN = 8192
_log = logging.getLogger(__name__)


class Attempt:
    """One task's way through staging, running and taking out, and what is known of it so far."""

    def __init__(
        self,
        task: TaskSpec,
        on_progress: OnProgress,
        transfer: Transfer,
        node: str,
        seen: Callable[[WarmSandbox], Shown | None],
    ) -> None:
        """Prepare to run a task.

        Args:
            task: the task.
            on_progress: hears of its progress.
            transfer: moves its bytes.
            node: name of this node, for the report.
            seen: the paths under which a plain runner sees its folders; None for a sandbox.
        """
        self._task, self._transfer, self._node, self._seen = task, transfer, node, seen
        self._is_isolated = False
        self._started_at = datetime.now(UTC)
        self._needed_fresh = False
        prefix = task.output_prefix
        self._log = LogKeeper(
            lambda number, data: transfer.append_log(prefix, number, data),
            task.limits.log_bytes,
        )
        self._progress = ProgressReader(task.key, on_progress)

    def note_fresh(self) -> None:
        """Say in the log that the task is run once more, in a fresh process."""
        self._needed_fresh = True
        self._log.note("hung or crashed as a fork of a warm process; once more in a fresh one")

    def bring_in(self, sandbox: WarmSandbox) -> None:
        """Bring the inputs in.

        Raises:
            MillpondError: one of them could not be had.
        """
        self._is_isolated = sandbox.is_isolated
        staging.stage_in(self._transfer, f"{sandbox.folder}/in", self._task.inputs)

    def run_in(self, sandbox: WarmSandbox) -> Ended:
        """Run the task to its end, when its inputs are in.

        Raises:
            BrokenError: the sandbox takes no task.
        """
        self._started_at = datetime.now(UTC)
        task, out = self._task, f"{sandbox.folder}/out"
        ended = sandbox.run(
            self._message(sandbox),
            seconds=task.limits.seconds,
            log=self._log,
            progress=self._progress,
            check=lambda: staging.measure(out, task.limits),
        )
        self._progress.flush()
        return ended

    def _message(self, sandbox: WarmSandbox) -> dict[str, Any]:
        task, limits = self._task, self._task.limits
        rlimits = {"FSIZE": limits.disk_bytes, "CORE": 0, "NOFILE": _FILES_OPEN}
        if sandbox.group is None:
            rlimits |= {
                "AS": limits.memory_bytes,
                "CPU": int(limits.seconds * limits.cpu_slots) + 1,
            }
            if limits.gpus:
                del rlimits["AS"]  # CUDA reserves addresses for all memory of all processors.
            rlimits["NPROC"] = limits.processes  # In a sandbox, of its own user namespace.
        message: dict[str, Any] = {
            "op": "run",
            "function": task.entry.function,
            "arguments": dict(task.entry.arguments),
            "command": list(task.entry.command),
            "variables": {**task.variables, **task.secrets},
            "rlimits": rlimits,
            "seed": task.seed,
        }
        seen = self._seen(sandbox)
        return message if seen is None else dict(translate(message, seen))

    def settle(self, sandbox: WarmSandbox, ended: Ended) -> TaskReport:
        """Take the outputs of a good end; give the report."""
        task = self._task
        outcome, reason = rules.tell_end(
            ended.code,
            ended.why,
            ended.reason,
            ended.bill.memory_kills,
            task.limits,
            self._log.last_line(task.secrets.values()),
        )
        taken = staging.Taken([], [])
        if outcome == "done":
            taken = staging.take_out(
                self._transfer, f"{sandbox.folder}/out", task.output_prefix, task.limits
            )
            if taken.fault:
                outcome, reason, taken.outputs = "failed", f"It was refused: {taken.fault}.", []
            elif taken.left_out:
                reason = "Not taken out of its output folder: " + "; ".join(taken.left_out)
        if outcome == "failed":
            reason = rules.tell_full(reason, shutil.disk_usage(f"{sandbox.folder}/out").free)
        if reason and outcome != "done":
            self._log.note(reason)
        report = self.report(outcome, reason)
        return replace(
            report,
            exit_code=ended.code,
            cpu_seconds=ended.bill.cpu_seconds,
            memory_peak_bytes=ended.bill.memory_peak_bytes,
            wall_seconds=ended.wall_seconds,
            outputs=tuple(taken.outputs),
            result=taken.result,
            left_out=tuple(taken.left_out),
        )

    def report(self, outcome: Outcome, reason: str) -> TaskReport:
        """Flush the log and give a report without figures."""
        try:
            self._log.flush()
        except MillpondError as fault:
            outcome, reason = (
                "lost",
                f"Its log could not be kept: {fault.message} {fault.next_step}",
            )
        except Exception as fault:  # noqa: BLE001 - whatever it is, the task's end is told.
            _log.exception("the log of task %s could not be kept", self._task.key)
            told = rules.tell_fault(fault, f"Its log could not be kept: {fault!r}.")
            outcome, reason = "lost", told
        return TaskReport(
            key=self._task.key,
            outcome=outcome,
            exit_code=None,
            reason=reason,
            started_at=self._started_at,
            node=self._node,
            isolated=self._is_isolated,
            log_bytes=self._log.kept_bytes,
            needed_fresh=self._needed_fresh,
        )
