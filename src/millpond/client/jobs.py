"""The queue over the SDK; for administrators."""

from collections.abc import Sequence

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

    def schedules(self) -> Sequence[Schedule]:
        """List what is put again and again by the clock."""
        return list(self._transport.pages(Schedule, "/schedules"))
