"""Decide how inputs are cut, whether a task is tried again, and how far a run is."""

from collections.abc import Sequence
from typing import Literal

Verdict = Literal["again", "give_up"]

_RETRY_SECONDS_MOST = 60.0
_LOST_MOST = 10
_LOST_FIRST = 1.0
_WINDOW_SPARE = 16
_SHARE_LEAST, _ELAPSED_LEAST = 0.01, 1.0


def cut_files(sizes: Sequence[int], files: int, size: int, most: int) -> list[int]:
    """Cut a list of files where a partition is full, by count or by bytes.

    Gives the places of the cuts, both ends included: ``[0, 3, 5]`` is files 0 to 2 and 3 to 4.
    Where that were more than ``most`` partitions, each may hold more.
    """
    return _cut([1] * len(sizes), sizes, files, size, most)


def cut_rows(rows: Sequence[int], wanted: int, most: int) -> list[int]:
    """Cut a table's parts where a partition has its rows; parts stay whole."""
    return _cut(rows, [0] * len(rows), wanted, 1, most)


def _cut(
    counts: Sequence[int], sizes: Sequence[int], count: int, size: int, most: int
) -> list[int]:
    while True:
        cuts, counted, weighed = [0], 0, 0
        for place, (one, weight) in enumerate(zip(counts, sizes, strict=True)):
            is_full = counted + one > count or weighed + weight > size
            if is_full and place > cuts[-1]:
                cuts.append(place)
                counted = weighed = 0
            counted, weighed = counted + one, weighed + weight
        if counts:
            cuts.append(len(counts))
        if len(cuts) - 1 <= most:
            return cuts
        count, size = count * 2, size * 2


def must_split(rows: Sequence[int | None], wanted: int) -> bool:
    """Say whether a table must be cut anew: a part is too long, or its rows are not known."""
    return any(each is None or each > wanted for each in rows)


def judge(outcome: str, *, failed: int, lost: int, retries: int) -> Verdict:
    """Decide what follows a task that is not done.

    Args:
        outcome: the engine's word for how it ended.
        failed: tries of this partition that failed before.
        lost: tries of it that were lost before, with a node or a server.
        retries: how often its step may be tried again.
    """
    if outcome == "cancelled":
        return "give_up"
    if outcome == "lost":
        return "again" if lost < _LOST_MOST else "give_up"
    return "again" if failed < retries else "give_up"


def window_of(least: int, slots: float) -> int:
    """Give how many tasks of one run are handed over at the same time.

    Each slot may have a task and its successor, and some wait beside these, so that no slot is
    idle until the run's driver has heard of an end.
    """
    return max(least, 2 * int(slots) + _WINDOW_SPARE)


def retry_wait(first: float, failed: int) -> float:
    """Give the seconds to wait before the next try, after so many that failed."""
    return float(min(first * 2 ** max(failed - 1, 0), _RETRY_SECONDS_MOST))


def lost_wait(lost: int) -> float:
    """Give the seconds to wait before the next try, after so many that were lost with a node.

    The first one goes elsewhere at once. Whoever is lost again and again waits, ten tries together
    some minutes, so that a cluster in trouble has time to mend.
    """
    return 0.0 if lost <= 1 else float(min(_LOST_FIRST * 2 ** (lost - 2), _RETRY_SECONDS_MOST))


def seconds_left(done: int, before: int, total: int, elapsed: float) -> float | None:
    """Tell how long it will still take, from what this driver saw done since it began.

    Args:
        done: items done.
        before: of these, done when the driver began.
        total: items in all.
        elapsed: seconds since then.
    """
    fresh = done - before
    if total <= 0 or elapsed < _ELAPSED_LEAST or fresh < max(total * _SHARE_LEAST, 1):
        return None
    return round(max(total - done, 0) * elapsed / fresh, 1)
