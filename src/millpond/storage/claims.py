"""Who may create a key, decided by the database, for an S3 service that lets several writers win.

At the first start the service is raced: several writers create one key at the same moment. Where
more than one wins, or conditional writes are refused, a row of ours decides instead.
"""

import logging
import threading
import time
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

import sqlalchemy as sa

from millpond.ground.errors import BusyError, ConflictError, MillpondError
from millpond.storage.database import Database, Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.tables import object_claim

log = logging.getLogger("millpond.storage")

ATOMIC = "atomic"
UNTRIED = "it could not be tried"

_WRITERS, _ROUNDS = 8, 4
_PREFIX = "races/"
_WAIT_SECONDS, _SILENT_SECONDS, _PAUSE_SECONDS = 30.0, 10.0, 0.05


class Racer(Protocol):
    """What a race needs of a store."""

    def put(self, key: str, data: bytes, *, overwrite: bool = False) -> int:
        """Store an object."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object."""
        ...


class Claims:
    """Rows that say who may create a key. They stay: one for each object.

    Whoever is writing renews its claim every few seconds. One that is not renewed was left by a
    server that was killed, and is taken over by the next that wants to write.
    """

    def __init__(
        self,
        database: Database,
        wait_seconds: float = _WAIT_SECONDS,
        silent_seconds: float = _SILENT_SECONDS,
    ) -> None:
        """Keep them in ``database``; wait so long for another who is creating the same key.

        Args:
            database: keeps them; all servers' clock.
            wait_seconds: how long to wait for another.
            silent_seconds: a writer that has not renewed its claim for so long is dead.
        """
        self._database, self._wait = database, wait_seconds
        self._silent = timedelta(seconds=silent_seconds)
        self._lock = threading.Lock()
        self._held: dict[str, datetime | None] = {}
        """Since when, by its row, this server is writing a key; None when it was taken away."""
        self._keeper: threading.Thread | None = None

    def take(self, key: str, objects: Racer) -> bool:
        """Take the right to create a key, until ``end`` or ``release``; False when it is there.

        Raises:
            BusyError: another is creating it, and takes long.
        """
        until = time.monotonic() + self._wait
        while (at := self._database.change(lambda tx: _insert(tx, key, self._silent))) is None:
            if objects.exists(key):
                return False
            if time.monotonic() > until:
                raise BusyError(
                    f"The object {key!r} is being written by another.",
                    next_step="Try again in a minute; when its server was killed it is free after"
                    " ten seconds.",
                    retry_after_seconds=10.0,
                )
            time.sleep(_PAUSE_SECONDS)
        self._hold(key, at)
        try:
            is_new = not objects.exists(key)  # It may be from before there were claims.
        except BaseException:
            self.release(key)
            raise
        if not is_new:
            self.end(key)
        return is_new

    def end(self, key: str) -> bool:
        """Stop renewing, once it is written; False when another has taken it over meanwhile."""
        with self._lock:
            at = self._held.pop(key, None)
        return at is not None and self._database.read(lambda tx: _is(tx, key, at))

    def release(self, key: str) -> None:
        """Give the right back: nothing was created, or it was deleted."""
        with self._lock:
            is_held, at = key in self._held, self._held.pop(key, None)
        if is_held and at is None:
            return  # It is another's now.
        row = object_claim.c.key == key
        if at is not None:
            row &= object_claim.c.at == at
        self._database.change(lambda tx: tx.execute(object_claim.delete().where(row)))

    def _hold(self, key: str, at: datetime) -> None:
        with self._lock:
            self._held[key] = at
            if self._keeper is None:
                self._keeper = threading.Thread(
                    target=self._keep, name="millpond-claims", daemon=True
                )
                self._keeper.start()

    def _keep(self) -> None:
        while True:
            time.sleep(self._silent.total_seconds() / 5)
            with self._lock:  # Nobody ends a claim between its row and what is known of it.
                if not self._held:
                    self._keeper = None
                    return
                try:
                    self._held.update(self._database.change(self._renew))
                except MillpondError as fault:
                    log.warning("Claims could not be renewed: %s", fault.message)

    def _renew(self, tx: Transaction) -> dict[str, datetime | None]:
        renewed: dict[str, datetime | None] = {}
        for key, at in self._held.items():
            row = (object_claim.c.key == key) & (object_claim.c.at == at)
            done = at and tx.execute(object_claim.update().where(row).values(at=tx.now)).rowcount
            renewed[key] = tx.now if done else None
        return renewed


def _insert(tx: Transaction, key: str, silent: timedelta) -> datetime | None:
    if tx.insert_new(object_claim, {"key": key, "at": tx.now}, object_claim.c.key) is not None:
        return tx.now
    # Its writer may have died, or it was written long ago, which the caller finds out.
    stale = (object_claim.c.key == key) & (object_claim.c.at < tx.now - silent)
    taken = tx.execute(object_claim.update().where(stale).values(at=tx.now)).rowcount
    return tx.now if taken else None


def _is(tx: Transaction, key: str, at: datetime) -> bool:
    row = (object_claim.c.key == key) & (object_claim.c.at == at)
    return tx.one(sa.select(object_claim.c.key).where(row)) is not None


def race(objects: Racer) -> str:
    """Let several create the same key at once; give ``atomic``, or what went wrong.

    Raises:
        BusyError: the service does not answer at all.
    """
    for _ in range(_ROUNDS):
        key = f"{_PREFIX}{uuid4().hex}"
        try:
            won = _run(objects, key)
            if won == 0:
                objects.put(key, b"plain", overwrite=True)  # Raises when nothing is taken.
                return "it refuses conditional writes"
            if won > 1:
                return f"{won} of {_WRITERS} writers of one new key won"
        finally:
            objects.delete(key)
    return ATOMIC


def _run(objects: Racer, key: str) -> int:
    barrier, won = threading.Barrier(_WRITERS), []

    def write(number: int) -> None:
        barrier.wait()
        try:
            objects.put(key, b"%d" % number)
        except ConflictError:
            return
        except MillpondError as fault:
            log.warning("A writer of the race failed: %s", fault.message)
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won)


def known_race(database: Database, name: str, objects: Racer) -> str:
    """Give what the race of this service has shown; run it the first time.

    Args:
        database: remembers it.
        name: of the service and its bucket.
        objects: the store, without claims.
    """
    fact = f"s3 race {name}"[:80]
    known = database.read(lambda tx: store.find_fact(tx, fact))
    if known is not None:
        return known
    try:
        shown = race(objects)
    except MillpondError as fault:
        return f"{UNTRIED}: {fault.message}"  # And is tried at the next start.
    database.change(lambda tx: store.put_fact(tx, fact, shown))
    if shown != ATOMIC:
        log.warning("The S3 service is not atomic: %s; the database decides", shown)
    return shown
