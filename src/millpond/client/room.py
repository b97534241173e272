"""What the SDK's rooms share: the connection, and the project to work in."""

from millpond.client.transport import Transport, place
from millpond.ground.errors import Fault, InvalidError


class Room:
    """One noun of the API: calls below one transport, in a default project."""

    def __init__(self, transport: Transport, project: str | None = None) -> None:
        """Keep both; ``project`` is used where a call names none."""
        self._transport = transport
        self._default_project = project

    def _project(self, project: str | None) -> str:
        chosen = project or self._default_project
        if not chosen:
            raise InvalidError(
                "No project was named.",
                next_step="Choose one for good with `millpond project use NAME`, or name it "
                "here: --project NAME, project=... in Python.",
                faults=[Fault("project", "must be named")],
            )
        return chosen

    def _in(self, project: str | None, *parts: str | int) -> str:
        return place("projects", self._project(project), *parts)
