"""Fetch the reports of tasks that have ended, all that are there at a time."""

import logging
import queue
import threading
import time
from collections.abc import Mapping

from millpond.engine.cluster.books import Flight, check_report
from millpond.engine.cluster.desk import Desk
from millpond.engine.cluster.wire import read_report
from millpond.engine.values import TaskReport

_log = logging.getLogger(__name__)
_MISSING_SECONDS = 60.0
_JOIN_SECONDS = 10.0


class Collector:
    """A thread that is told of ends and asks the nodes how these were."""

    def __init__(self, desk: Desk) -> None:
        """Begin."""
        self._desk = desk
        self._finished: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._collect, name="cluster-collect", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._finished.put(None)
        self._thread.join(_JOIN_SECONDS)

    def note(self, key: str, status: str = "finished") -> None:
        """Hear that a task has ended, or may have."""
        self._finished.put((key, status))

    def _collect(self) -> None:
        """Fetch the reports of tasks that have ended, all that are there at a time."""
        while (news := self._finished.get()) is not None:
            batch = [news]
            while not self._finished.empty():
                each = self._finished.get()
                if each is None:
                    return
                batch.append(each)
            try:
                self._settle(dict(batch))
            except Exception:  # noqa: BLE001 - as above; they are asked for again.
                _log.exception("reports could not be fetched")

    def _settle(self, batch: Mapping[str, str]) -> None:
        with self._desk.lock:
            flights = [
                self._desk.books.flights[key] for key in batch if key in self._desk.books.flights
            ]
            link = self._desk.link
        by_address: dict[str, list[Flight]] = {}
        for flight in flights:
            if batch[flight.key] == "finished":
                by_address.setdefault(flight.address, []).append(flight)
            elif batch[flight.key] == "error":
                with self._desk.lock:  # Before the next look, so that nothing more is sent there.
                    self._desk.books.drop(flight.address, flight.boot)
                self._desk.lose(flight, "it went down")
        for address, there in by_address.items():
            answer: dict[str, bytes] | None = None
            if link is not None:
                try:
                    answer = link.recall([each.key for each in there], address).get(address)
                except OSError as fault:
                    _log.warning("the node %s did not give its reports: %s", there[0].node, fault)
            if answer is not None:
                for flight in there:
                    self._settle_one(flight, answer.get(flight.key))

    def _settle_one(self, flight: Flight, data: bytes | None) -> None:
        """End a flight by its report; None: the node knows nothing of it, empty: it runs."""
        if data is None:
            if time.monotonic() - flight.since > _MISSING_SECONDS or flight.is_cancelled:
                self._desk.lose(flight, "it knows nothing of it")
            return
        if not data:
            return
        report: TaskReport | None = None
        try:
            report = read_report(data)
            why = check_report(flight, report)
        except ValueError as fault:
            why = str(fault)
        if why or report is None:
            _log.error("the node %s sent a wrong report of %s: %s", flight.node, flight.key, why)
            self._desk.end(flight, "lost", f"The node {flight.node} sent a wrong report: {why}.")
            return
        self._desk.end_with(flight, report)
