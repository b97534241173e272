"""Collect the meters of the host and of the nodes, and write them down every few seconds."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from millpond.ground.errors import InvalidError, MillpondError
from millpond.storage.database import Database
from millpond.watch import actions, rules
from millpond.watch.values import LEVELS, Flat

log = logging.getLogger("millpond.watch")

_SECONDS = LEVELS[0].seconds
_PENDING_MOST = 20_000
_SAID_MOST = 500


@dataclass(frozen=True)
class Newest:
    """A node's newest meters, in memory.

    Attributes:
        at: the monotonic clock when they came.
    """

    at: float
    flat: Flat


class Recorder:
    """Takes samples as they come; one small transaction writes all of five seconds.

    Safe to share between threads.
    """

    def __init__(self, database: Database, sample: Callable[[], Mapping[str, Any]] | None) -> None:
        """Prepare; nothing happens before ``start``.

        Args:
            database: where meters are kept.
            sample: measures the host; None where it is not to be measured.
        """
        self._database, self._sample = database, sample
        self._pending: dict[tuple[str, int], Flat] = {}
        self._newest: dict[str, Newest] = {}
        self._faults: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="meters", daemon=True)

    def note(self, node: str, told: Mapping[str, Any]) -> str:
        """Take a node's word of itself; give why it is not believed, empty when it is.

        Args:
            node: its name, as its certificate says.
            told: what ``machines.meters.Sampler`` gives.
        """
        try:
            flat = rules.read_sample(told)
        except InvalidError as fault:
            with self._lock:
                is_new = node not in self._faults
                self._faults[node] = fault.message[:_SAID_MOST]
            if is_new:
                log.warning("A node's meters were refused", extra={"node": node, "why": str(fault)})
            return fault.message
        begin = rules.begin_of(time.time(), _SECONDS)
        with self._lock:
            self._faults.pop(node, None)
            self._newest[node] = Newest(time.monotonic(), flat)
            if (node, begin) in self._pending or len(self._pending) < _PENDING_MOST:
                self._pending[node, begin] = flat
        return ""

    def faults(self) -> Mapping[str, str]:
        """Give by node why its newest meters were refused."""
        with self._lock:
            return dict(self._faults)

    def newest(self) -> Mapping[str, Flat]:
        """Give the newest meters of each node that told of itself in the last half minute."""
        oldest = time.monotonic() - rules.FRESH.total_seconds()
        with self._lock:
            return {name: each.flat for name, each in self._newest.items() if each.at >= oldest}

    def start(self) -> None:
        """Begin to measure the host and to write."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write what is left."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.write()

    def write(self) -> None:
        """Write what has come; what cannot be written now is tried again the next time."""
        with self._lock:
            taken, self._pending = self._pending, {}
        if not taken:
            return
        try:
            self._database.change(lambda tx: actions.keep(tx, taken))
        except Exception as fault:
            if not isinstance(fault, MillpondError):
                log.exception("Meters could not be written")
            with self._lock:
                self._pending = {**taken, **self._pending}

    def _work(self) -> None:
        while not self._stopping.is_set():
            if self._sample is not None:
                try:
                    self.note(actions.HOST, self._sample())
                except Exception:  # One of the loops that must go on.
                    log.exception("The host could not be measured")
            self.write()
            self._stopping.wait(_SECONDS - time.time() % _SECONDS)
