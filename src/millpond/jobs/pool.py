"""The pool: claims jobs, runs their handlers in threads, keeps the leases, ticks the schedules."""

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from millpond.ground.errors import BusyError, MillpondError, TooManyError
from millpond.jobs import bell, outcomes, schedules, store, timetable
from millpond.jobs.lease import HeldLease
from millpond.jobs.port import Ending, Handler, LeaseLostError, StoppingError
from millpond.jobs.rules import LOOKS, Watch
from millpond.jobs.values import SeenLease
from millpond.storage.database import Database, Transaction

_log = logging.getLogger(__name__)
_BEATS_PER_LEASE = LOOKS + 1
_PAUSE_SECONDS_FIRST = 0.05


class Pool:
    """Does the jobs of the kinds it has handlers for; several servers share one database."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        *,
        workers: int = 8,
        lease_seconds: float = 30.0,
        poll_seconds: float = 2.0,
        endings: Mapping[str, Ending] | None = None,
        limits: Mapping[str, int] | None = None,
        is_alone: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a pool that does nothing until it is started.

        Args:
            database: where the jobs are.
            handlers: by kind.
            workers: how many jobs at a time.
            lease_seconds: after so long without a heartbeat another server takes a job over.
            poll_seconds: how late at most a job is seen that another process has put.
            endings: by kind, what to do when a job is given up.
            limits: by kind, how many at a time on all servers together.
            is_alone: no other process uses this database (the data folder is locked), so every
                lease found at start belongs to the dead and is taken over at once.
            monotonic: a clock that is never set, in seconds.
        """
        self.name = f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(4)}"
        self._database = database
        self._handlers = dict(handlers)
        self._workers = workers
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._endings = endings or {}
        self._limits = limits or {}
        self._is_alone = is_alone
        self._monotonic = monotonic
        self._watch = Watch()
        self._held: dict[tuple[str, int], HeldLease] = {}
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._claimer = threading.Thread(
            target=self._claim_forever, name="jobs-claimer", daemon=True
        )
        self._keeper = threading.Thread(target=self._keep_forever, name="jobs-keeper", daemon=True)
        self._unlisten: Callable[[], None] = lambda: None

    # Life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        if self._is_alone:
            self.take_over_all()
        self._unlisten = bell.listen(self._database, self.wake)
        self._claimer.start()
        self._keeper.start()

    def wake(self) -> None:
        """Look for work now."""
        self._bell.set()

    def stop(self, seconds: float) -> None:
        """Claim nothing more, give the handlers so long to end, and give back what is left.

        A handler that still runs afterwards has lost its lease; its job waits for another
        server, and the try does not count.
        """
        self._stopping.set()
        self._bell.set()
        self._unlisten()
        if self._claimer.is_alive():
            self._claimer.join()
        with self._idle:
            self._idle.wait_for(lambda: not self._held, seconds)
        self._closed.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            left, self._held = list(self._held.values()), {}
        for lease in left:
            lease.drop()
            self._settle(lease, partial(outcomes.give_back, job=lease.job))

    # Claiming -------------------------------------------------------------------------------

    def claim_due(self) -> int:
        """Claim as many due jobs as there are free workers, and begin them; give how many."""
        free = self._workers - len(self._held)
        if free <= 0 or self._stopping.is_set():
            return 0
        begun = self._database.change(
            lambda tx: store.claim(
                tx,
                list(self._handlers),
                free,
                holder=self.name,
                lease_seconds=self._lease_seconds,
                limits=self._limits,
            )
        )
        for job in begun:
            lease = HeldLease(
                job,
                lease_seconds=self._lease_seconds,
                monotonic=self._monotonic,
                stopping=self._stopping,
            )
            with self._lock:
                self._held[job.id, job.fence] = lease
            name = f"job-{job.kind}"
            threading.Thread(target=self._do, args=(lease,), name=name, daemon=True).start()
        return len(begun)

    def tick(self) -> int:
        """Put the jobs of schedules that are due; give how many."""
        return len(self._database.change(schedules.put_due))

    def _claim_forever(self) -> None:
        pause = _PAUSE_SECONDS_FIRST
        while not self._stopping.is_set():
            self._bell.clear()
            try:
                to_job, to_tick = self._database.read(self._seconds_to_next)
                if to_tick <= 0:
                    self.tick()
                if to_job <= 0 and self.claim_due():
                    pause = _PAUSE_SECONDS_FIRST
                    continue
            except Exception:  # noqa: BLE001 - the pool goes on whatever happens; the log tells.
                _log.warning("Cannot look for jobs now", exc_info=True)
                to_job = to_tick = self._poll_seconds
            # Nothing could be claimed: even if a job is due, look again later and later.
            waits = [seconds for seconds in (to_job, to_tick) if seconds > 0]
            self._bell.wait(min([pause, *waits]))
            pause = min(self._poll_seconds, pause * 2)

    def _seconds_to_next(self, tx: Transaction) -> tuple[float, float]:
        job_at = store.next_due(tx, list(self._handlers))
        tick_at = timetable.next_tick(tx)
        now = tx.now
        far = self._poll_seconds
        return (
            far if job_at is None else (job_at - now).total_seconds(),
            far if tick_at is None else (tick_at - now).total_seconds(),
        )

    # Doing ----------------------------------------------------------------------------------

    def _do(self, lease: HeldLease) -> None:
        try:
            self._settle(lease, self._attempt(lease))
        finally:
            with self._idle:
                self._held.pop((lease.job.id, lease.fence), None)
                self._idle.notify_all()
            self._bell.set()

    def _attempt(self, lease: HeldLease) -> Callable[[Transaction], bool] | None:
        """Run the handler; give what is to be written about it, if anything."""
        job = lease.job
        later = partial(
            outcomes.try_later,
            job=job,
            endings=self._endings,
            share=random.random(),  # noqa: S311 - jitter, no secret.
        )
        try:
            self._handlers[job.kind](lease)
        except LeaseLostError:
            _log.info("Job %s has passed to another holder", job.id)
            return None
        except StoppingError:
            return partial(outcomes.give_back, job=job)
        except (BusyError, TooManyError) as fault:
            least = fault.retry_after_seconds
            return partial(later, reason=fault.message, least_seconds=least)
        except MillpondError as fault:
            reason = f"{fault.message} {fault.next_step}"
            return partial(outcomes.give_up, job=job, reason=reason, endings=self._endings)
        except Exception as fault:  # noqa: BLE001 - whatever a handler raises is tried again.
            _log.warning("Job %s of kind %s failed", job.id, job.kind, exc_info=True)
            return partial(later, reason=f"{type(fault).__name__}: {fault}")
        return None if lease.is_finished else partial(outcomes.mark_done, job=job)

    def _settle(self, lease: HeldLease, write: Callable[[Transaction], bool] | None) -> None:
        """Write what became of a job; while the database is away, try for as long as it is held."""
        end = self._monotonic() + self._lease_seconds
        while write is not None:
            try:
                if not self._database.change(write):
                    _log.info("Job %s has passed to another holder", lease.job.id)
            except Exception:  # noqa: BLE001 - an ending of a room may raise anything.
                _log.warning("Cannot record the end of job %s now", lease.job.id, exc_info=True)
                if self._monotonic() < end and not self._closed.wait(_PAUSE_SECONDS_FIRST * 4):
                    continue
            return

    # Keeping --------------------------------------------------------------------------------

    def beat(self) -> None:
        """Renew every lease that is held, in one statement; note those that have passed on."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        sent = self._monotonic()
        ids = [job_id for job_id, _ in held]
        alive = self._database.change(
            partial(store.beat, ids=ids, holder=self.name, lease_seconds=self._lease_seconds)
        )
        for key, lease in held.items():
            if key in alive:
                lease.renew(sent)
            else:
                lease.drop()

    def take_over_silent(self) -> int:
        """Look at the leases of others and take over those that are over; give how many."""
        with self._lock:
            held = set(self._held)
        leases, now = self._database.read(lambda tx: (store.list_leases(tx), tx.now))
        others = [lease for lease in leases if (lease.job_id, lease.fence) not in held]
        return self._take(self._watch.look(others, now, self._monotonic()))

    def take_over_all(self) -> int:
        """Take over every lease, all known to be of the dead; give how many."""
        return self._take(self._database.read(store.list_leases))

    def _take(self, leases: list[SeenLease]) -> int:
        taken = 0
        for lease in leases:
            take = partial(outcomes.take_over, lease=lease, endings=self._endings)
            taken += self._database.change(take)
        if taken:
            _log.warning("Took over %d jobs of servers that fell silent", taken)
            self.wake()
        return taken

    def _keep_forever(self) -> None:
        while not self._closed.wait(self._lease_seconds / _BEATS_PER_LEASE):
            try:
                self.beat()
                self.take_over_silent()
            except Exception:  # noqa: BLE001 - the keeper goes on whatever happens.
                _log.warning("Cannot renew leases now", exc_info=True)
