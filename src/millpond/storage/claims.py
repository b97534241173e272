"""Who may create a key, decided by the database, for an S3 service that lets several writers win.

At the first start the service is raced: several writers create one key at the same moment. Where
more than one wins, or conditional writes are refused, a row of ours decides instead.
"""

import logging
import threading
import time
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

from millpond.ground.errors import BusyError, ConflictError, MillpondError
from millpond.storage.database import Database, Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.tables import object_claim

log = logging.getLogger("millpond.storage")

ATOMIC = "atomic"
UNTRIED = "it could not be tried"

_WRITERS, _ROUNDS = 8, 4
_PREFIX = "races/"
_STALE = timedelta(hours=6)
_WAIT_SECONDS, _PAUSE_SECONDS = 30.0, 0.05


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
    """Rows that say who may create a key. They stay: one for each object."""

    def __init__(self, database: Database, wait_seconds: float = _WAIT_SECONDS) -> None:
        """Keep them in ``database``; wait so long for another who is creating the same key."""
        self._database, self._wait = database, wait_seconds

    def take(self, key: str, objects: Racer) -> bool:
        """Take the right to create a key; False when the object is there.

        Raises:
            BusyError: another is creating it, and takes long.
        """
        until = time.monotonic() + self._wait
        while not self._database.change(lambda tx: _insert(tx, key)):
            if objects.exists(key):
                return False
            if time.monotonic() > until:
                raise BusyError(
                    f"The object {key!r} is being written by another.",
                    next_step="Try again in a minute; one whose writer has died is free again"
                    " after six hours.",
                    retry_after_seconds=30.0,
                )
            time.sleep(_PAUSE_SECONDS)
        return not objects.exists(key)  # It may be from before there were claims.

    def release(self, key: str) -> None:
        """Give the right back: nothing was created, or it was deleted."""
        row = object_claim.c.key == key
        self._database.change(lambda tx: tx.execute(object_claim.delete().where(row)))


def _insert(tx: Transaction, key: str) -> bool:
    stale = (object_claim.c.key == key) & (object_claim.c.at < tx.now - _STALE)
    if tx.insert_new(object_claim, {"key": key, "at": tx.now}, object_claim.c.key) is not None:
        return True
    # Its writer may have died, or it was written long ago, which the caller finds out.
    return bool(tx.execute(object_claim.update().where(stale).values(at=tx.now)).rowcount)


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
