"""What runs have used, over the SDK."""

from datetime import date

from millpond.client.room import Room
from millpond.client.transport import place
from millpond.watch.usage.values import RunUse, Usage


class UsageRoom(Room):
    """Processor and memory hours by day, project, person, pipeline and node."""

    def get(
        self,
        *,
        since: date | None = None,
        until: date | None = None,
        project: str | None = None,
    ) -> Usage:
        """Show what a project's runs used; the last thirty days unless they are named."""
        return self._transport.read(Usage, self._in(project, "usage"), _days(since, until))

    def site(self, *, since: date | None = None, until: date | None = None) -> Usage:
        """Show what all runs used; for administrators."""
        return self._transport.read(Usage, place("usage"), _days(since, until))

    def run(self, run: str, *, project: str | None = None) -> RunUse:
        """Show what a run has used, by step and node, and when."""
        return self._transport.read(RunUse, self._in(project, "runs", run, "usage"))


def _days(since: date | None, until: date | None) -> dict[str, str | None]:
    return {
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }
