"""Uploads that are under way, over the SDK: what browsers and other tus clients have begun."""

from collections.abc import Sequence

from millpond.client.room import Room
from millpond.lake.uploads.values import Upload


class UploadsRoom(Room):
    """Your own uploads in a project: files that come in pieces and may wait between them."""

    def list(self, *, project: str | None = None, finished: bool | None = None) -> Sequence[Upload]:
        """List your uploads, oldest first.

        Args:
            project: the project to look in.
            finished: only those that are whole, or only the others.
        """
        query = {"finished": None if finished is None else str(finished).lower()}
        return list(self._transport.pages(Upload, self._in(project, "uploads"), query))

    def get(self, upload: str, *, project: str | None = None) -> Upload:
        """Show an upload; once it is whole, with the digest of its content."""
        return self._transport.read(Upload, self._in(project, "uploads", upload))

    def remove(self, upload: str, *, project: str | None = None) -> None:
        """Give an upload up; what has come is deleted."""
        self._transport.delete(self._in(project, "uploads", upload))
