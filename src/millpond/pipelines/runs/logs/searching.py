"""Search a run's log for a plain text; each answer reads no more than a bounded part of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from millpond.pipelines.runs.logs.reading import TASKS_MOST, Begun, list_chunks
from millpond.pipelines.runs.logs.values import LogMatch, LogMatches, LogPlace
from millpond.pipelines.values import Run, Task
from millpond.storage.port import ObjectStore

SEARCHED_MOST = 32 << 20
_LINE_MOST = 1 << 20
_SHOWN_BEFORE, _SHOWN = 120, 400


@dataclass
class _Search:
    needle: str
    limit: int
    items: list[LogMatch] = field(default_factory=list)
    read: int = 0

    @property
    def is_enough(self) -> bool:
        return len(self.items) >= self.limit or self.read >= SEARCHED_MOST

    def hits(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Give start and end of each line that holds the text."""
        if self.needle.isascii():
            lowered, wanted = block.lower(), self.needle.encode()
            at = lowered.find(wanted)
            while at >= 0:
                start = block.rfind(b"\n", 0, at) + 1
                end = block.find(b"\n", at)
                end = len(block) if end < 0 else end
                yield start, end
                at = lowered.find(wanted, end)
            return
        start = 0
        for line in block.split(b"\n"):
            if self.needle in line.decode("utf-8", "replace").casefold():
                yield start, start + len(line)
            start += len(line) + 1


@dataclass
class _Block:
    """Whole lines: the rest of the chunks before, and what a chunk adds to it."""

    rest: bytes
    rest_at: LogPlace
    chunk_at: LogPlace

    def place_of(self, start: int) -> LogPlace:
        if start < len(self.rest):
            return LogPlace(self.rest_at.number, self.rest_at.chunk, self.rest_at.offset + start)
        at = self.chunk_at
        return LogPlace(at.number, at.chunk, at.offset + start - len(self.rest))


def search_log(
    objects: ObjectStore, run: Run, tasks: Begun, place: LogPlace, text: str, limit: int
) -> LogMatches:
    """Give the lines from a place on that hold a text, upper and lower case alike.

    Cost: reads at most 32 MiB and one chunk, whatever is found.
    """
    search = _Search(text.casefold(), limit)
    for number, task in tasks:
        here = place if number == place.number else LogPlace(number)
        stopped = _search_task(objects, run, task, here, search)
        if stopped is not None:
            return LogMatches(search.items, str(stopped), search.read)
    following = None
    if len(tasks) == TASKS_MOST:
        following = str(LogPlace(tasks[-1][0] + 1))
    return LogMatches(search.items, following, search.read)


def _search_task(
    objects: ObjectStore, run: Run, task: Task, here: LogPlace, search: _Search
) -> LogPlace | None:
    """Search one task's log; give the place to go on from, or None when all of it was searched."""
    rest, rest_at = b"", here
    for chunk in list_chunks(objects, run, task, here.chunk):
        at = LogPlace(here.number, chunk.number)
        if chunk.number == here.chunk:
            at = here
        if at.offset >= chunk.size:
            continue
        if search.is_enough:
            return rest_at if rest else at
        data = objects.get(chunk.key, at.offset)
        search.read += len(data)
        if not rest:
            rest_at = at
        block = _Block(rest, rest_at, at)
        whole = rest + data
        cut = whole.rfind(b"\n") + 1
        if len(whole) - cut > _LINE_MOST:  # No line for people: it is searched as far as it came.
            cut = len(whole)
        stopped = _take(search, task, whole[:cut], block)
        if stopped is not None:
            return stopped
        rest_at = block.place_of(cut)
        rest = whole[cut:]
    block = _Block(rest, rest_at, rest_at)
    return _take(search, task, rest, block) if rest else None


def _take(search: _Search, task: Task, lines: bytes, block: _Block) -> LogPlace | None:
    for start, end in search.hits(lines):
        if len(search.items) >= search.limit:
            return block.place_of(start)
        text = lines[start:end].decode("utf-8", "replace")
        search.items.append(
            LogMatch(
                step=task.step,
                partition=task.partition,
                attempt=task.attempt,
                text=_shorten(text, search.needle),
                at=str(block.place_of(start)),
            )
        )
    return None


def _shorten(line: str, needle: str) -> str:
    """Cut a long line down to what stands around the text."""
    if len(line) <= _SHOWN:
        return line
    at = max(line.casefold().find(needle) - _SHOWN_BEFORE, 0)
    before, after = "…" if at else "", "…" if at + _SHOWN < len(line) else ""
    return f"{before}{line[at : at + _SHOWN]}{after}"
