"""A node's heartbeat: tells the host every few seconds how it is, and does what it is told."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millpond.engine.cluster.door import Door
from millpond.ground.errors import BusyError, MillpondError

STATUS_FILE = "status.json"
_AWAY_TOLD_SECONDS = 60.0
_log = logging.getLogger(__name__)

Collect = Callable[[], Mapping[str, Any]]
"""Gives what a heartbeat tells beside version and time."""

OnAnswer = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Rhythm:
    """How often.

    Attributes:
        seconds: between heartbeats, until the host says otherwise.
    """

    seconds: float = 5.0


class Pulse:
    """Sends heartbeats from a thread of its own."""

    def __init__(
        self,
        door: Door,
        version: str,
        collect: Collect,
        on_answer: OnAnswer,
        on_refusal: Callable[[MillpondError], None],
        *,
        folder: Path,
        rhythm: Rhythm,
    ) -> None:
        """Tell this door.

        Args:
            door: the host's.
            version: of Millpond here.
            collect: gives what is told.
            on_answer: hears what the host says.
            on_refusal: hears that the host takes this node no more, and why; nothing follows.
            folder: where the status file is written.
            rhythm: how often.
        """
        self._door, self._version, self._collect = door, version, collect
        self._on_answer, self._on_refusal = on_answer, on_refusal
        self._status, self._seconds = folder / STATUS_FILE, rhythm.seconds
        self._revoked: frozenset[str] = frozenset()
        self._stopped = threading.Event()
        self._soon = threading.Event()
        self._is_refused = False
        self._heard_at: str = ""
        self._told_at = 0.0
        self._thread = threading.Thread(target=self._work, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave word in the status file, unless the host's refusal stands there."""
        self._stopped.set()
        self._soon.set()
        if self._thread.is_alive():
            self._thread.join(10)
        if not self._is_refused:
            self.write("stopped", "")

    def beat_soon(self) -> None:
        """Tell the host now rather than later."""
        self._soon.set()

    def revoked(self) -> Collection[str]:
        """Give the numbers of certificates that are taken no more."""
        return self._revoked

    def _work(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._beat()
            except BusyError as fault:  # Which will pass: it is away, or has a defect of its own.
                self._note_away(fault)
            except MillpondError as fault:
                self._is_refused = True
                self.write("refused", f"{fault.message} {fault.next_step}")
                self._on_refusal(fault)
                return
            except Exception:  # noqa: BLE001 - the next one may do better.
                _log.exception("a heartbeat could not be made")
            self._soon.wait(max(0.05, self._seconds - (time.monotonic() - began)))
            self._soon.clear()

    def _beat(self) -> None:
        told = {
            "version": self._version,
            "sent_at": datetime.now(UTC).isoformat(),
            **self._collect(),
        }
        answer = self._door.post("heartbeat", told)
        self._seconds = float(answer.get("heartbeat_seconds", self._seconds))
        self._revoked = frozenset(answer.get("revoked", ()))
        self._heard_at, self._told_at = str(answer.get("server_time", "")), 0.0
        self._on_answer(answer)
        self.write("draining" if answer.get("is_draining") else "up", "", told)

    def _note_away(self, fault: BusyError) -> None:
        self.write("host away", f"{fault.message} {fault.next_step}")
        now = time.monotonic()
        if not self._told_at or now - self._told_at > _AWAY_TOLD_SECONDS:
            self._told_at = now
            _log.warning("the host does not take a heartbeat; trying on: %s", fault)

    def write(self, state: str, reason: str, told: Mapping[str, Any] | None = None) -> None:
        """Write the status file, for ``millpond node doctor`` on this machine."""
        facts = {
            "state": state,
            "reason": reason,
            "pid": os.getpid(),
            "version": self._version,
            "at": datetime.now(UTC).isoformat(),
            "host_heard_at": self._heard_at,
            "store": (told or {}).get("store"),
            "running": list((told or {}).get("running", ())),
        }
        making = self._status.with_name(f".{self._status.name}")
        try:
            making.write_text(json.dumps(facts, indent=1) + "\n")
            making.replace(self._status)
        except OSError as fault:
            _log.warning("the status file could not be written: %s", fault)
