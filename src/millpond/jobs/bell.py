"""A bell that rings in this process when a job was put, so that no pool waits for its poll."""

import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from millpond.storage.database import Database, Transaction

_RUNG = "jobs_bell"
_listeners: WeakKeyDictionary[sa.Engine, list[Callable[[], None]]] = WeakKeyDictionary()
_lock = threading.Lock()


def listen(database: Database, listener: Callable[[], None]) -> Callable[[], None]:
    """Call the listener after each commit through this database that has put jobs.

    Returns:
        What takes the listener away again.
    """
    with _lock:
        listeners = _listeners.setdefault(database.engine, [])
        listeners.append(listener)

    def leave() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return leave


def ring(tx: Transaction) -> None:
    """Wake the pools of this process once this transaction is committed."""
    if tx.kept.get(_RUNG):
        return
    tx.kept[_RUNG] = True
    engine = tx.connection.engine

    def ring_now() -> None:
        for listener in list(_listeners.get(engine, ())):
            listener()

    tx.after_commit(ring_now)
