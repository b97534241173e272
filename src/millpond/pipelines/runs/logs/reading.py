"""Read a run's log piece by piece: from a place on, or what lies before it, newest first."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from millpond.engine.values import log_key
from millpond.pipelines.runs import store
from millpond.pipelines.runs.logs.values import LogPart, LogPlace
from millpond.pipelines.runs.staging import task_prefix
from millpond.pipelines.runs.values import SPLITTING, Try
from millpond.pipelines.values import RUN_ENDED, Run, Task
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore

TASKS_MOST = 100
LINES_MOST = 5_000
_BYTES_MOST = 256 << 10
_UTF8_MOST = 4
MANY = 1 << 60
"""More lines than any log has."""

Begun = Sequence[tuple[int, Task]]
"""Tasks with their numbers."""


@dataclass(frozen=True)
class Chunk:
    """One object of a task's log."""

    key: str
    number: int
    size: int


@dataclass(frozen=True)
class Scope:
    """Which tasks' logs are wanted."""

    step: str | None = None
    partition: int | None = None


def list_from(tx: Transaction, run: Run, place: LogPlace, scope: Scope) -> Begun:
    """List the tasks whose logs come next, the place's own first."""
    return store.list_begun(
        tx,
        run.id,
        step=scope.step,
        partition=scope.partition,
        first=place.number,
        limit=TASKS_MOST,
    )


def list_before(tx: Transaction, run: Run, place: LogPlace | None, scope: Scope) -> Begun:
    """List the tasks whose logs lie before a place, the newest first.

    Without a place: before the end, which is where the first task that still runs is by now. What
    tasks beside it write comes after it.
    """
    last = None if place is None else place.number
    if place is None and run.state not in RUN_ENDED:
        last = store.first_running(tx, run.id, scope.step, scope.partition)
    return store.list_begun(
        tx,
        run.id,
        step=scope.step,
        partition=scope.partition,
        last=last,
        limit=TASKS_MOST,
        newest_first=True,
    )


def list_chunks(objects: ObjectStore, run: Run, task: Task, first: int = 0) -> Iterator[Chunk]:
    """Give the chunks of a task's log, from a number on."""
    if not task.log_bytes:
        return
    prefix = task_prefix(run.project_id, run.id, Try(task.step, task.partition, task.attempt))
    after = log_key(prefix, first - 1) if first else ""
    for found in objects.list(f"{prefix}.log/", after):
        yield Chunk(found.key, int(found.key.rpartition("/")[2]), found.size)


def read_forward(
    objects: ObjectStore, run: Run, tasks: Begun, place: LogPlace, lines: int = MANY
) -> LogPart:
    """Give the next piece of a log, of so many lines at most.

    The tasks must have been listed before: what has ended by then has all its chunks there.
    """
    pieces, size = list[bytes](), 0
    begin = None
    for number, task in tasks:
        here = place if number == place.number else LogPlace(number)
        begin = begin or here
        for chunk in list_chunks(objects, run, task, here.chunk):
            offset = here.offset if chunk.number == here.chunk else 0
            if size >= _BYTES_MOST:
                held = _cut_character(pieces)
                return _part(pieces, _back(here, held), begin)
            if offset >= chunk.size:
                continue
            if here.is_start_of_task:
                pieces.append(heading(task))
            data = objects.get(chunk.key, offset)
            end = _end_of_lines(data, lines)
            pieces.append(data[:end])
            lines -= data.count(b"\n", 0, end)
            if lines <= 0:
                return _part(pieces, LogPlace(number, chunk.number, offset + end), begin)
            size += len(data)
            here = LogPlace(number, chunk.number, chunk.size)
        place = here
        if task.state == "running":
            held = _cut_character(pieces)
            return _part(pieces, _back(here, held), begin, follows=name_task(task))
        if pieces and not pieces[-1].endswith(b"\n"):
            pieces.append(b"\n")
    is_all = len(tasks) < TASKS_MOST
    if not is_all:
        place = LogPlace(place.number + 1)
    return _part(pieces, place, begin, is_complete=is_all and run.state in RUN_ENDED)


def _end_of_lines(data: bytes, lines: int) -> int:
    """Give where the last of so many lines ends; the end of all where there are fewer."""
    if data.count(b"\n") < lines:
        return len(data)
    end = -1
    for _ in range(lines):
        end = data.find(b"\n", end + 1)
    return end + 1


def _cut_character(pieces: list[bytes]) -> int:
    """Take away a character that is not whole yet, at the end; give its bytes so far."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(pieces[-1][-_UTF8_MOST:] if pieces else b"")
    held = len(decoder.getstate()[0])
    if held:
        pieces[-1] = pieces[-1][:-held]
    return held


def _back(place: LogPlace, length: int) -> LogPlace:
    return LogPlace(place.number, place.chunk, max(place.offset - length, 0))


def _part(
    pieces: Iterable[bytes],
    place: LogPlace,
    begin: LogPlace | None,
    *,
    is_complete: bool = False,
    follows: str = "",
) -> LogPart:
    text = b"".join(pieces).decode("utf-8", "replace")
    is_first = begin is None or (begin.number <= 1 and begin.is_start_of_task)
    return LogPart(text, str(place), is_complete, None if is_first else str(begin), follows)


@dataclass
class _Backward:
    """Gathers lines from the end to the beginning."""

    lines: int
    pieces: list[bytes] = field(default_factory=list)  # The last of the log first.
    found: int = 0
    size: int = 0
    end: LogPlace | None = None
    is_to_end: bool = False
    is_writing: bool = False

    def add(self, data: bytes) -> int | None:
        """Take what lies before all so far; give where the first wanted line begins in it."""
        if not self.pieces:
            held = [data]
            if self.is_writing and self.end is not None:
                self.end = _back(self.end, _cut_character(held))
            data = held[0]
        counted = data.count(b"\n") - (not self.pieces and data.endswith(b"\n"))
        if self.found + counted >= self.lines:
            start = len(data) - (not self.pieces and data.endswith(b"\n"))
            for _ in range(self.lines - self.found):
                start = data.rfind(b"\n", 0, start)
            start += 1
        elif self.size + len(data) >= _BYTES_MOST:
            start = data.find(b"\n") + 1
        else:
            self.found, self.size = self.found + counted, self.size + len(data)
            self.pieces.append(data)
            return None
        self.pieces.append(data[start:])
        return start

    def part(self, run: Run, previous: LogPlace | None, follows: str) -> LogPart:
        text = b"".join(reversed(self.pieces)).decode("utf-8", "replace")
        place = None if previous is None else str(previous)
        is_complete = self.is_to_end and not follows and run.state in RUN_ENDED
        return LogPart(text, str(self.end or LogPlace()), is_complete, place, follows)


def read_backward(
    objects: ObjectStore, run: Run, tasks: Begun, place: LogPlace | None, lines: int
) -> LogPart:
    """Give the last lines before a place, or of all; ``tasks`` come with the newest first."""
    gathered = _Backward(min(max(lines, 1), LINES_MOST), end=place, is_to_end=place is None)
    follows = ""
    for number, task in tasks:
        chunks = list(list_chunks(objects, run, task))
        last = chunks[-1] if chunks and task.state != "running" else None
        if place is not None and number == place.number:
            chunks = [each for each in chunks if _is_before(each, place)]
        elif gathered.end is None:
            gathered.end = LogPlace(number)
            if chunks:
                gathered.end = LogPlace(number, chunks[-1].number, chunks[-1].size)
            gathered.is_writing = task.state == "running"
            follows = name_task(task) if gathered.is_writing else ""
        for chunk in reversed(chunks):
            whole = place is None or (number, chunk.number) != (place.number, place.chunk)
            data = objects.get(chunk.key, 0, None if whole or place is None else place.offset)
            if chunk is last and len(data) == chunk.size and not data.endswith(b"\n"):
                data += b"\n"
            start = gathered.add(data)
            if start is not None and (start or chunk.number):
                return gathered.part(run, LogPlace(number, chunk.number, start), follows)
        if chunks:
            gathered.pieces.append(heading(task))
            gathered.found += 1
            if gathered.found >= gathered.lines:
                before = LogPlace(number) if number > 1 else None
                return gathered.part(run, before, follows)
    more = len(tasks) == TASKS_MOST and tasks[-1][0] > 1
    return gathered.part(run, LogPlace(tasks[-1][0]) if more else None, follows)


def _is_before(chunk: Chunk, place: LogPlace) -> bool:
    return chunk.number < place.chunk or (chunk.number == place.chunk and place.offset > 0)


def name_task(task: Task) -> str:
    """Write which task it is, for people."""
    partition = "splitting" if task.partition == SPLITTING else f"partition {task.partition}"
    again = f", try {task.attempt}" if task.attempt > 1 else ""
    return f"{task.step}, {partition}{again}"


def heading(task: Task) -> bytes:
    """Write the line that stands before a task's log."""
    return f"== {name_task(task)} ==\n".encode()


def stream_log(
    objects: ObjectStore, run: Run, list_page: Callable[[LogPlace], Begun]
) -> Iterator[bytes]:
    """Give a whole log, as far as it is written by now, chunk by chunk.

    ``list_page`` gives the tasks whose logs come from a place on.
    """
    place = LogPlace()
    while tasks := list_page(place):
        for _, task in tasks:
            last = b""
            for chunk in list_chunks(objects, run, task):
                if not last:
                    yield heading(task)
                last = objects.get(chunk.key)
                yield last
            if last and not last.endswith(b"\n"):
                yield b"\n"
        if len(tasks) < TASKS_MOST:
            return
        place = LogPlace(tasks[-1][0] + 1)
