"""Logs of runs over the SDK: pieces in both directions, search, follow, the whole as a file."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from millpond.client.downloading import Wanted, fetch_files
from millpond.client.events import follow
from millpond.client.room import Room
from millpond.ground.errors import BusyError, NotFoundError
from millpond.pipelines.runs.logs.values import END, LogMatch, LogMatches, LogPart

_LOOK_SECONDS = 0.4
_LOOK_ANYWAY_SECONDS = 5.0
LINES_MOST = 5_000


class RunLogs(Room):
    """What a run's steps have written."""

    def log(
        self,
        run_id: str,
        *,
        step: str | None = None,
        partition: int | None = None,
        after: str | None = None,
        before: str | None = None,
        lines: int | None = None,
        beside: bool = False,
        project: str | None = None,
    ) -> LogPart:
        """Read a piece of a run's log.

        Args:
            run_id: the run.
            step: only of this step.
            partition: only of this partition.
            after: from there on: ``next`` of the answer before; the beginning when left out.
            before: instead, the last ``lines`` before it: ``previous`` of an answer, or ``end``.
            lines: how many, with ``before`` or ``beside``.
            beside: what all running tasks write, side by side; the last lines at first.
            project: the project.
        """
        query = {
            "step": step,
            "partition": partition,
            "after": after,
            "before": before,
            "lines": lines,
            "beside": "true" if beside else None,
        }
        return self._transport.read(LogPart, self._in(project, "runs", run_id, "log"), query)

    def tail_log(
        self,
        run_id: str,
        lines: int,
        *,
        step: str | None = None,
        partition: int | None = None,
        project: str | None = None,
    ) -> LogPart:
        """Read the last lines of a run's log; ``next`` of what it gives leads on from there."""
        before: str | None = END
        end: LogPart | None = None
        texts: list[str] = []
        left = lines
        while before is not None and left > 0:
            part = self.log(
                run_id,
                step=step,
                partition=partition,
                before=before,
                lines=min(left, LINES_MOST),
                project=project,
            )
            end = end or part
            texts.insert(0, part.text)
            left -= part.text.count("\n") or 1
            before = part.previous
        assert end is not None  # noqa: S101 - it was asked for once at least.
        return LogPart("".join(texts), end.next, end.is_complete, before, end.follows)

    def follow_log(
        self,
        run_id: str,
        *,
        step: str | None = None,
        partition: int | None = None,
        after: str | None = None,
        beside: bool = False,
        project: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> Iterator[LogPart]:
        """Give the pieces of a run's log as they are written, until nothing more will come.

        One task after the other, as they began; or, ``beside``, what all running ones write.
        """
        with contextlib.closing(self._signs_of_life(run_id, project, pause)) as signs:
            while True:
                try:
                    part = self.log(
                        run_id,
                        step=step,
                        partition=partition,
                        after=after,
                        beside=beside,
                        project=project,
                    )
                except BusyError as fault:
                    pause(max(1.0, fault.retry_after_seconds))
                    continue
                yield part
                if part.is_complete:
                    return
                if not part.text:
                    next(signs)
                after = part.next

    def search_log(
        self,
        run_id: str,
        text: str,
        *,
        step: str | None = None,
        partition: int | None = None,
        project: str | None = None,
        most: int | None = 1000,
    ) -> Iterator[LogMatch]:
        """Give the lines of a run's log that hold a text, upper and lower case alike."""
        path = self._in(project, "runs", run_id, "log", "search")
        query = {"text": text, "step": step, "partition": partition, "after": None}
        given = 0
        while True:
            found = self._transport.read(LogMatches, path, query)
            for each in found.items:
                if given == most:
                    return
                given += 1
                yield each
            if found.next is None:
                return
            query["after"] = found.next

    def download_log(
        self,
        run_id: str,
        target: str | Path,
        *,
        step: str | None = None,
        partition: int | None = None,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a run's whole log as a text file."""
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        path = self._in(project, "runs", run_id, "log", "text")
        query = {"step": step, "partition": partition}
        wanted = [Wanted(raw_name, path, query, None, None)]
        fetch_files(self._transport, wanted, target.parent, overwrite=overwrite)
        return target

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
