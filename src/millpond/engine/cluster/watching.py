"""Keep a connection to the scheduler, for ever, and look what has become of the nodes."""

import logging
import threading
import time
from collections.abc import Callable, Collection

from millpond.engine.cluster.books import read_member
from millpond.engine.cluster.collecting import Collector
from millpond.engine.cluster.desk import Desk
from millpond.engine.cluster.link import Link
from millpond.ground.errors import BusyError, MillpondError
from millpond.ground.tls import Identity

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)
_GONE_SECONDS = 20.0  # Workers end when their scheduler does, so that nothing runs any more.
_DOUBT_SECONDS = 10.0
_JOIN_SECONDS = 15.0


class Watcher:
    """A thread that makes a new connection after each loss, and ends what was lost with a node."""

    def __init__(self, desk: Desk, collector: Collector, url: str, identity: Identity) -> None:
        """Begin."""
        self._desk, self._collector = desk, collector
        self._url, self._identity = url, identity
        self.reason = "The scheduler was not reached yet."
        self.on_change: Callable[[], None] = lambda: None
        self.met, self.closed, self._look = (threading.Event() for _ in range(3))
        self._scheduler = ""
        self._seen: Link | None = None
        self._away_since = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and the connection."""
        self.closed.set()
        self._look.set()
        self._thread.join(_JOIN_SECONDS)
        if self._desk.link is not None:
            self._desk.link.close()

    def _watch(self) -> None:
        """Keep a connection, and look what has become of the nodes, until it is closed."""
        failures = 0
        while not self.closed.is_set():
            try:
                if self._desk.link is None:
                    self._desk.link = Link(
                        self._url, self._identity, self._collector.note, self._look.set
                    )
                    with self._desk.lock:
                        for each in self._desk.books.flights.values():
                            each.is_followed = False  # The new connection knows nothing of it.
                self._refresh(self._desk.link)
                failures = 0
            except (BusyError, OSError) as fault:
                self._drop_link(fault)
                self.closed.wait(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1
                continue
            except Exception:  # noqa: BLE001 - whatever it is, the next look may succeed.
                _log.exception("the cluster could not be looked at")
            self._look.wait(_LOOK_SECONDS)
            self._look.clear()

    def _drop_link(self, fault: Exception) -> None:
        words = f"{fault.message} {fault.next_step}" if isinstance(fault, BusyError) else str(fault)
        with self._desk.lock:
            link, self._desk.link = self._desk.link, None
            was_there = bool(self._desk.books.members)
            self._desk.books.members = {}
            if link is not None:
                self._away_since = time.monotonic()
            lost = list(self._desk.books.flights.values())
        self.reason = f"The scheduler does not answer: {words}" if link else words
        if link is not None:
            _log.warning("lost the scheduler: %s", fault)
            link.close()
        if time.monotonic() - self._away_since > _GONE_SECONDS:
            for flight in lost:
                self._desk.lose(flight, "the scheduler is gone")
        if was_there:
            self._tell_change()

    def _refresh(self, link: Link) -> None:
        """Take in what the scheduler and the nodes tell, and end what was lost."""
        scheduler, told = link.look(is_fresh=link is not self._seen)
        read = [read_member(address, facts) for address, facts in told.items()]
        with self._desk.lock:
            is_other = scheduler != self._scheduler
            restarted = list(self._desk.books.flights.values()) if is_other else []
            self._desk.books.learn(each for each in read if each is not None)
            gone = self._desk.books.gone()
            doubtful = self._desk.books.doubtful(time.monotonic(), _DOUBT_SECONDS)
            cancelled = [each for each in self._desk.books.flights.values() if each.is_cancelled]
            old = self._desk.books.old_strangers(time.monotonic())
            unasked = self._desk.books.strangers()
            orphans = self._desk.books.orphans()
        for flight in restarted:
            self._desk.lose(flight, "the scheduler was started anew")
        for flight in gone:
            self._desk.lose(flight, "the connection to it is gone")
        for flight in doubtful:
            self._collector.note(flight.key)
        for flight in cancelled:
            link.cancel(flight.key, flight.address)
        over = [(unasked[key], key) for key in self._find_over(unasked)]
        for address, key in dict.fromkeys([*old, *over]):
            _log.warning("stopped the task %s, which nobody waits for", key)
            link.cancel(key, address)
        for address, key in orphans:  # Called lost while the node was away; run elsewhere now.
            link.cancel(key, address)
        self._scheduler, self.reason, self._seen = scheduler, "", link
        self.met.set()
        self._tell_change()  # Each time, since what holds a node back may have passed as well.

    def _find_over(self, keys: Collection[str]) -> Collection[str]:
        """Tell which tasks that nobody has asked for are over, as a server before this one said."""
        try:
            return self._desk.find_over(keys) if keys else ()
        except MillpondError as fault:  # They are asked about again, and stopped in the end.
            _log.warning("what is over is not known now: %s", fault.message)
            return ()

    def _tell_change(self) -> None:
        try:
            self.on_change()
        except Exception:  # noqa: BLE001 - a caller's fault must not stop the watch.
            _log.exception("a change of the nodes was not taken")
