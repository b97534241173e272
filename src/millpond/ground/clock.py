"""Time is given, never found: what needs the hour takes a Clock."""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Something that tells the time, always in UTC with its zone."""

    def now(self) -> datetime:
        """Tell the time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Tell the time."""
        return datetime.now(UTC)


class SetClock:
    """A clock that stands still until it is moved; for tests and for replays."""

    def __init__(self, now: datetime) -> None:
        """Start at ``now``, which must carry a zone."""
        self._now = now.astimezone(UTC)

    def now(self) -> datetime:
        """Tell the time it was set to."""
        return self._now

    def move(self, seconds: float) -> None:
        """Move the hands; negative seconds move them back."""
        self._now += timedelta(seconds=seconds)
