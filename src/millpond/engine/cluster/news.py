"""Tasks' progress on its way to the host: the newest word of each, a few times a second."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from millpond.engine.cluster.door import Door, HostAwayError
from millpond.engine.values import TaskProgress
from millpond.ground.errors import MillpondError

_SECONDS = 0.25
_log = logging.getLogger(__name__)

FindToken = Callable[[str], Mapping[str, Any] | None]
"""Gives the token of a task; None when it is not here any more."""


class News:
    """Sends progress from a thread of its own; what is old by then is never sent."""

    def __init__(self, door: Door, find_token: FindToken) -> None:
        """Tell this door."""
        self._door, self._find_token = door, find_token
        self._latest: dict[str, TaskProgress] = {}
        self._news = threading.Condition()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)
        self._thread.start()

    def tell(self, news: TaskProgress) -> None:
        """Take a task's newest word."""
        with self._news:
            self._latest[news.key] = news
            self._news.notify_all()

    def close(self) -> None:
        """Stop."""
        self._is_closed.set()
        with self._news:
            self._news.notify_all()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._is_closed.is_set():
            with self._news:
                self._news.wait_for(lambda: self._latest or self._is_closed.is_set())
                latest, self._latest = self._latest, {}
            told = [
                {"task": token, "news": _plain(news)}
                for key, news in latest.items()
                if (token := self._find_token(key)) is not None
            ]
            if told and not self._is_closed.is_set():
                self._send(told)
            self._is_closed.wait(_SECONDS)

    def _send(self, told: list[dict[str, Any]]) -> None:
        try:
            self._door.post("progress", told)
        except HostAwayError:
            return  # It will be told of what comes then.
        except MillpondError as fault:
            _log.warning("progress was refused: %s", fault.message)
        except Exception:  # noqa: BLE001 - the next word may get through.
            _log.exception("progress could not be sent")


def _plain(news: TaskProgress) -> dict[str, Any]:
    facts = asdict(news)
    del facts["key"]
    return facts
