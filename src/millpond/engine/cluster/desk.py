"""What the engine's threads share: books, connection, and the one way in which a task ends."""

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

from millpond.engine.cluster.books import Books, Flight
from millpond.engine.cluster.link import Link
from millpond.engine.values import Outcome, TaskReport

_log = logging.getLogger(__name__)


FindOver = Callable[[Collection[str]], Collection[str]]
"""Tells which of these tasks are over for good, by key: nobody will ever ask for them."""


def nothing_over(_keys: Collection[str]) -> Collection[str]:
    """Know of none."""
    return ()


class Desk:
    """What the engine's threads share. ``lock`` guards the books; no one is called under it."""

    def __init__(self, books: Books, find_over: FindOver = nothing_over) -> None:
        """Share these books; ``find_over`` is asked about tasks that nodes have unasked."""
        self.books, self.find_over = books, find_over
        self.lock = threading.Lock()
        self.link: Link | None = None

    def lose(self, flight: Flight, why: str) -> None:
        """End a flight as lost."""
        self.end(
            flight, "lost", f"The node {flight.node} was lost while the task was there: {why}."
        )

    def end(self, flight: Flight, outcome: Outcome, reason: str) -> None:
        """End a flight without a report of its node's."""
        report = TaskReport(
            flight.key, outcome, None, reason, datetime.now(UTC), flight.node, isolated=False
        )
        self.end_with(flight, report, is_over=True)

    def end_with(self, flight: Flight, report: TaskReport, *, is_over: bool = False) -> None:
        """Take a flight out of the books and tell its report, once.

        Args:
            flight: the task.
            report: how it ended.
            is_over: whether its node may have it still, and is to stop it when it is there again.
        """
        with self.lock:
            if self.books.flights.get(flight.key) is not flight:
                return
            self.books.end(flight.key, is_over=is_over)
            link = self.link
        if link is not None:
            link.forget(flight.key)
        with flight.lock:
            flight.has_ended = True
            on_done = flight.on_done
        if flight.is_cancelled and report.outcome == "lost":
            why = f"It was cancelled. {report.reason}"
            report = replace(report, outcome="cancelled", reason=why, is_refused=False)
        try:
            on_done(report)
        except Exception:  # noqa: BLE001 - as above.
            _log.exception("the report of task %s was not taken", flight.key)
