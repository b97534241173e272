"""Read a node's whole data disk from time to time, so that rot is found while there are copies."""

import logging
import secrets
import threading
from dataclasses import dataclass
from itertools import chain, takewhile

from millpond.ground.errors import MillpondError
from millpond.storage.nodes.disk import NodeDisk

log = logging.getLogger("millpond.storage")

_DAY = 86_400.0


@dataclass(frozen=True)
class Scrubbed:
    """What one reading of the disk has found."""

    objects: int
    bad: int


class Scrubber:
    """A thread that hashes every object again within so many days, slowly."""

    def __init__(
        self, disk: NodeDisk, *, days: float = 14.0, least_bytes_per_second: float = 4 << 20
    ) -> None:
        """Read each object of ``disk`` once in ``days``; no slower than is given."""
        self._disk, self._days, self._least = disk, days, least_bytes_per_second
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="millpond-scrub", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the object that is being read."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def work_once(self) -> Scrubbed:
        """Read all objects once; damaged ones are set aside, and their number is told.

        Raises:
            DiskGoneError: the disk is not there.
        """
        # Never all at once: a million objects are too much for a small machine's memory. And not
        # always from the first one: a node that is often started anew would never come far.
        total = sum(each.size for each in self._disk.inventory())
        start = secrets.token_hex(32)
        before = takewhile(lambda each: each.digest <= start, self._disk.inventory())
        # A tenth faster than needed, so that what is new on the way fits in as well.
        speed = max(self._least, 1.1 * total / (self._days * _DAY))
        number = bad = 0
        for each in chain(self._disk.inventory(start), before):
            if self._stopping.wait(each.size / speed):
                break
            number += 1
            if not self._disk.check(each.digest):
                bad += 1
                log.warning("A damaged object was set aside: %s", each.digest)
        return Scrubbed(number, bad)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.work_once()
            except (MillpondError, OSError):
                log.exception("The disk could not be read through")
            # Begins anew when the time for it has come again; a day is little against the whole.
            self._stopping.wait(_DAY)
