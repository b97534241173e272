"""Count the objects with too few copies, for those who ask every few seconds."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from millpond.storage.database import Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.values import COPIES

_SECONDS = 60.0


@dataclass(frozen=True)
class Copies:
    """How many objects lack copies, as the health of the store tells it.

    Attributes:
        few: with fewer living copies than two, but one.
        none: without any.
    """

    few: int = 0
    none: int = 0


class CopyCount:
    """Counts at most once a minute: each count reads every digest. Safe to share."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Count what this ledger knows; the clock is one that is never set, in seconds."""
        self._ledger, self._monotonic = ledger, monotonic
        self._known: tuple[float, Copies] | None = None
        self._lock = threading.Lock()

    def look(self, tx: Transaction) -> Copies:
        """Give the count, which may be a minute old."""
        now = self._monotonic()
        with self._lock:
            if self._known is not None and now - self._known[0] < _SECONDS:
                return self._known[1]
            found = Copies(*store.count_few(tx, self._ledger.standing(tx).living, COPIES))
            self._known = (now, found)
            return found
