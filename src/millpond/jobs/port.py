"""What rooms that have long work to do agree on with the pool: a handler is given a lease."""

from collections.abc import Callable
from typing import Protocol

from millpond.jobs.values import Job
from millpond.storage.database import Transaction


class LeaseLostError(Exception):
    """The job has passed to another holder, or was cancelled: whatever was to be written is stale.

    A handler lets it through; the transaction rolls back and nothing else happens.
    """


class StoppingError(Exception):
    """A handler raises it to give its job back when ``Lease.stopping`` says so.

    The job waits again at once and the try does not count.
    """


class Lease(Protocol):
    """The right to do one job, for as long as the pool can renew it."""

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        ...

    @property
    def fence(self) -> int:
        """The number of this claim; put it beside whatever is written outside of transactions."""
        ...

    def lost(self) -> bool:
        """Whether to stop working: the lease has passed on, or could not be renewed in time."""
        ...

    def stopping(self) -> bool:
        """Whether this server is stopping: finish within seconds or raise ``StoppingError``."""
        ...

    def hold(self, tx: Transaction) -> None:
        """Make sure that this lease still counts, up to the end of this transaction.

        Call it first in every transaction that writes on behalf of the job: no other holder can
        begin before the commit.

        Raises:
            LeaseLostError: it has passed to another, or the job was cancelled.
        """
        ...

    def finish(self, tx: Transaction) -> None:
        """Hold, and mark the job done in this very transaction: effect and record are one commit.

        A handler that returns without it is marked done right afterwards, in a transaction of
        its own; then a crash between the two does the job once more.

        Raises:
            LeaseLostError: it has passed to another, or the job was cancelled.
        """
        ...


Handler = Callable[[Lease], None]
"""Does one kind of job.

Returning means done. ``StoppingError`` gives the job back, ``LeaseLostError`` drops it. A fault of
the tree in ``ground.errors`` is permanent (dead at once), but for those that say "later"
(``BusyError``, ``TooManyError``); these and any other exception are tried again, later and later.
"""

Ending = Callable[[Transaction, Job], None]
"""What a room does, in the same transaction, when a job of its kind is given up or cancelled."""
