"""What an upload is: a file on its way in, however often its line breaks."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Upload:
    """One file that is sent in pieces.

    Attributes:
        path: the path it is to have in a dataset, with slashes.
        batch: what the sender calls the set of files that this one belongs to; may be empty.
        received_bytes: how many of ``size_bytes`` have come and are kept.
        digest: sha256 of the content once it is whole; None before.
        expires_at: when it is forgotten unless more comes.
    """

    id: str
    path: str
    batch: str
    size_bytes: int
    received_bytes: int
    digest: str | None
    created_at: datetime
    changed_at: datetime
    expires_at: datetime

    @property
    def is_whole(self) -> bool:
        """Whether every byte has come."""
        return self.received_bytes == self.size_bytes


@dataclass(frozen=True)
class UploadAsked:
    """What somebody wants to send.

    Attributes:
        path: as in ``Upload``.
        batch: as in ``Upload``.
        size_bytes: the whole length.
    """

    path: str
    batch: str
    size_bytes: int


@dataclass(frozen=True)
class Part:
    """A piece of an upload that is kept in the object store.

    Attributes:
        start: its first byte's place in the whole.
        size_bytes: its length, at least one.
        object_key: where it lies.
    """

    start: int
    size_bytes: int
    object_key: str


def part_prefix(project_id: str, upload_id: str) -> str:
    """Give what the keys of an upload's parts begin with."""
    return f"{PARTS}{project_id}/{upload_id}/"


PARTS = "uploads/"
"""What the keys of all parts begin with; nothing else lies there."""
