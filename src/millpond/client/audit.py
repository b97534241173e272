"""The record over the SDK: show, verify, export."""

from datetime import datetime
from pathlib import Path

from millpond.audit.proof import Verdict
from millpond.audit.values import Checkpoint, Entry, EntryProof, PublicKeys
from millpond.client.decoding import decode
from millpond.client.downloading import Wanted, fetch_files
from millpond.client.room import Room
from millpond.client.transport import place

SITE = ""
"""In place of a project: the record of what belongs to none."""


class LogRoom(Room):
    """The activity log of a project, or of the site (``project=SITE``)."""

    def list(
        self,
        *,
        verb: str | None = None,
        actor: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        project: str | None = None,
        most: int | None = 100,
    ) -> list[Entry]:
        """List entries, newest first.

        Args:
            verb: only this verb; ``dataset.*`` for all of a noun.
            actor: only by the user of this name.
            target: only what was done to this; may end in ``*``.
            since: the earliest time, with its zone.
            until: before this time, with its zone.
            text: what the verb, the target or the name of who did it holds.
            project: the project; ``SITE`` for what belongs to none.
            most: how many at most.
        """
        query = {
            "verb": verb,
            "actor": actor,
            "target": target,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "text": text,
        }
        return list(self._transport.pages(Entry, self._chain(project), query, most))

    def entry(self, number: int, *, project: str | None = None) -> EntryProof:
        """Show one entry, the text that its hash is of, and the seal that covers it."""
        path = f"{self._chain(project)}/entries/{number}"
        return self._transport.read(EntryProof, path)

    def proof(
        self,
        number: int,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the proof of one entry to a file, which can be verified with no server."""
        return self._write(f"entries/{number}/proof", target, project, overwrite=overwrite)

    def verify(self, *, project: str | None = None) -> Verdict:
        """Have the server check its own record; ``export`` and check it here to trust nobody."""
        return self._transport.read(Verdict, self._chain(project) + "/verify")

    def export(
        self, target: str | Path, *, project: str | None = None, overwrite: bool = False
    ) -> Path:
        """Write the whole record to one file, which can be verified with no server."""
        return self._write("export", target, project, overwrite=overwrite)

    def key(self) -> PublicKeys:
        """Give the public keys that the seals are checked with."""
        return self._transport.read(PublicKeys, "/log/key")

    def rotate_key(self) -> PublicKeys:
        """Have the server seal with a new key; give all public keys, the new one first."""
        return decode(PublicKeys, self._transport.make("/log/key"))

    def checkpoint(self) -> Checkpoint:
        """Give a sealed checkpoint to keep elsewhere: it shows a record cut off later."""
        return self._transport.read(Checkpoint, "/log/checkpoint")

    def _write(
        self, what: str, target: str | Path, project: str | None, *, overwrite: bool
    ) -> Path:
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        wanted = Wanted(raw_name, f"{self._chain(project)}/{what}", {}, None, None)
        fetch_files(self._transport, [wanted], target.parent, overwrite=overwrite)
        return target

    def _chain(self, project: str | None) -> str:
        return place("log") if project == SITE else self._in(project, "log")
