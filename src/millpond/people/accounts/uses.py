"""When tokens were used last, written once a minute."""

from datetime import datetime, timedelta
from threading import Lock

from millpond.people.accounts import store
from millpond.people.values import Token
from millpond.storage.database import Transaction

_USED_EVERY = timedelta(minutes=1)


class LastUses:
    """Remembers when tokens were used last, so that a call that only reads writes nothing."""

    def __init__(self) -> None:
        """Start with nothing to write."""
        self._lock = Lock()
        self._waiting: dict[str, datetime] = {}

    def saw(self, token: Token, now: datetime) -> None:
        """Remember a use, unless one of the last minute is known."""
        if token.last_used_at is None or now - token.last_used_at >= _USED_EVERY:
            with self._lock:
                self._waiting[token.id] = now

    def write(self, tx: Transaction) -> None:
        """Write what was remembered; to be called about once a minute."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for token_id, at in sorted(waiting.items()):
            store.mark_used(tx, token_id, at)
