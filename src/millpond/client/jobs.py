"""The queue over the SDK; for administrators."""

from collections.abc import Mapping, Sequence
from typing import Any

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.client.transport import place
from millpond.jobs.values import Job, Schedule


class JobsRoom(Room):
    """The server's queue: what waits, runs, was done, or was given up."""

    def list(
        self, *, state: str | None = None, kind: str | None = None, most: int | None = 100
    ) -> list[Job]:
        """List jobs, newest first; ``state`` is waiting, running, done, dead or cancelled."""
        query = {"state": state, "kind": kind}
        return list(self._transport.pages(Job, "/jobs", query, most))

    def get(self, job_id: str) -> Job:
        """Show a job."""
        return self._transport.read(Job, place("jobs", job_id))

    def requeue(self, job_id: str) -> Job:
        """Put a job that was given up back into the queue."""
        return decode(Job, self._transport.make(place("jobs", job_id, "requeue")))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended."""
        return decode(Job, self._transport.make(place("jobs", job_id, "cancel")))

    def schedules(self) -> Sequence[Schedule]:
        """List what is put again and again by the clock."""
        return list(self._transport.pages(Schedule, "/schedules"))

    def schedule(self, name: str) -> Schedule:
        """Show a schedule."""
        return self._transport.read(Schedule, place("schedules", name))

    def set_schedule(
        self,
        name: str,
        kind: str,
        cron: str,
        *,
        time_zone: str = "UTC",
        facts: Mapping[str, Any] | None = None,
        is_enabled: bool = True,
    ) -> Schedule:
        """Have a job put again and again by the clock; also to change or switch it.

        Args:
            name: the schedule's name.
            kind: the kind of job.
            cron: minute, hour, day of month, month, day of week; with seconds first if six.
            time_zone: where these are read, for example ``Europe/Berlin``.
            facts: the job's facts.
            is_enabled: whether it puts jobs from now on.
        """
        body = {
            "kind": kind,
            "cron": cron,
            "time_zone": time_zone,
            "facts": dict(facts or {}),
            "is_enabled": is_enabled,
        }
        return decode(Schedule, self._transport.put(place("schedules", name), body))

    def remove_schedule(self, name: str) -> None:
        """Forget a schedule; jobs that it has put stay."""
        self._transport.delete(place("schedules", name))
