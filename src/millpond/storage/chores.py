"""A thread that does small things from time to time, each in a transaction of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millpond.storage.database import Database, Transaction

log = logging.getLogger("millpond.storage")


@dataclass(frozen=True)
class Chore:
    """Something small that is to be done again and again.

    Attributes:
        seconds: how often.
        action: what; must be quick.
        at_end: whether to do it once more when the server stops.
    """

    seconds: float
    action: Callable[[Transaction], object]
    at_end: bool = False


class Housekeeper:
    """Does chores until it is stopped; one that fails is logged and comes up again."""

    def __init__(self, database: Database, chores: Sequence[Chore]) -> None:
        """Prepare; nothing happens before ``start``."""
        self._database = database
        self._chores = chores
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the chores that may not wait for the next start."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        for chore in self._chores:
            if chore.at_end:
                self._do(chore)

    def _work(self) -> None:
        due = [time.monotonic() + chore.seconds for chore in self._chores]
        while not self._stopping.wait(max(0.0, min(due) - time.monotonic())):
            for number, chore in enumerate(self._chores):
                if due[number] <= time.monotonic():
                    self._do(chore)
                    due[number] = time.monotonic() + chore.seconds

    def _do(self, chore: Chore) -> None:
        try:
            self._database.change(chore.action)
        except Exception:  # One of the loops that must go on: the next time may succeed.
            log.exception("A chore failed")
