"""The lease that a handler is given."""

import threading
from collections.abc import Callable

from millpond.jobs import outcomes, store
from millpond.jobs.port import LeaseLostError
from millpond.jobs.values import Job
from millpond.storage.database import Transaction


class HeldLease:
    """A job that this server does now; the pool's keeper renews it."""

    def __init__(
        self,
        job: Job,
        *,
        lease_seconds: float,
        monotonic: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        """Begin to hold a job that was claimed just now."""
        self.job = job
        self.is_finished = False
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._stopping = stopping
        self._renewed = monotonic()
        self._is_lost = False

    @property
    def fence(self) -> int:
        """The number of this claim."""
        return self.job.fence

    def lost(self) -> bool:
        """Whether to stop working: it has passed on, or was not renewed for its whole length."""
        return self._is_lost or self._monotonic() - self._renewed >= self._lease_seconds

    def stopping(self) -> bool:
        """Whether this server is stopping."""
        return self._stopping.is_set()

    def hold(self, tx: Transaction) -> None:
        """Refuse unless it is still ours, and keep it so to the end of the transaction."""
        if not store.lock_held(tx, self.job.id, self.job.fence):
            self._raise_lost()

    def finish(self, tx: Transaction) -> None:
        """Mark the job done in this transaction."""
        if not outcomes.mark_done(tx, self.job):
            self._raise_lost()
        tx.after_commit(self._note_finished)

    def renew(self, moment: float) -> None:
        """Take note of a heartbeat that was sent at this moment of the monotonic clock."""
        self._renewed = moment

    def drop(self) -> None:
        """Take note that it has passed on."""
        self._is_lost = True

    def _note_finished(self) -> None:
        self.is_finished = True

    def _raise_lost(self) -> None:
        self.drop()
        raise LeaseLostError(
            f"Job {self.job.id} is no longer held under fence {self.job.fence}: its lease has"
            " passed on, or it was cancelled."
        )
