"""The list of certificates that nobody takes any more, as a file that the scheduler reads."""

import json
import logging
import os
import threading
from pathlib import Path

from millpond.ground.errors import MillpondError
from millpond.machines import store
from millpond.storage.database import Database

_log = logging.getLogger(__name__)


class RevokedList:
    """Keeps ``revoked.json`` as the database has it. Safe to share between threads."""

    def __init__(self, database: Database, path: Path) -> None:
        """Read what is revoked, and write the file."""
        self._database, self._path = database, path
        self._lock = threading.Lock()
        self._serials: tuple[str, ...] = ()
        self.refresh()

    @property
    def serials(self) -> tuple[str, ...]:
        """Numbers of all certificates that were revoked and have not expired, sorted."""
        return self._serials

    def holds(self, serial: str) -> bool:
        """Tell whether a certificate was revoked."""
        return serial in self._serials

    def refresh(self) -> None:
        """Read the list anew and write the file when it differs; call it after each commit.

        One at a time, so that of two revocations the later never loses. What cannot be written
        now, for a full disk, is written by the next call: a chore calls each minute.
        """
        with self._lock:
            try:
                self._serials = tuple(self._database.read(store.list_revoked))
                self._write(json.dumps(self._serials, indent=0) + "\n")
            except (OSError, MillpondError) as fault:
                _log.warning("Cannot write which certificates are revoked", exc_info=fault)

    def _write(self, text: str) -> None:
        try:
            if self._path.read_text() == text:
                return
        except OSError:
            pass  # It is not there yet.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with making.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        making.replace(self._path)
