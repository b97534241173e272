"""The record over the SDK: show, verify, export."""

from pathlib import Path
from typing import Any

from millpond.audit.values import Entry
from millpond.client.downloading import Wanted, fetch_files
from millpond.client.room import Room
from millpond.client.transport import place

SITE = ""
"""In place of a project: the record of what belongs to none."""


class LogRoom(Room):
    """The activity log of a project, or of the site (``project=SITE``)."""

    def list(self, *, project: str | None = None, most: int | None = 100) -> list[Entry]:
        """List the newest entries, newest first."""
        return list(self._transport.pages(Entry, self._chain(project), most=most))

    def verify(self, *, project: str | None = None) -> dict[str, Any]:
        """Have the server check its own record; ``export`` and check it here to trust nobody."""
        found: dict[str, Any] = self._transport.get(self._chain(project) + "/verify")
        return found

    def export(
        self, target: str | Path, *, project: str | None = None, overwrite: bool = False
    ) -> Path:
        """Write the whole record to one file, which can be verified with no server."""
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        wanted = Wanted(raw_name, self._chain(project) + "/export", {}, None, None)
        fetch_files(self._transport, [wanted], target.parent, overwrite=overwrite)
        return target

    def key(self) -> dict[str, Any]:
        """Give the public keys that the seals are checked with."""
        found: dict[str, Any] = self._transport.get("/log/key")
        return found

    def checkpoint(self) -> dict[str, Any]:
        """Give a sealed checkpoint to keep elsewhere: it shows a record cut off later."""
        found: dict[str, Any] = self._transport.get("/log/checkpoint")
        return found

    def _chain(self, project: str | None) -> str:
        return place("log") if project == SITE else self._in(project, "log")
