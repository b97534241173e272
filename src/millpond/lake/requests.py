"""What may be sent to the lake."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from millpond.lake.values import FileEntry, Kind


class ObjectIn(BaseModel):
    """A content that a client holds."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class MissingIn(BaseModel):
    """Contents of which the project may lack some."""

    model_config = ConfigDict(extra="forbid")

    objects: Annotated[list[ObjectIn], Field(max_length=5_000)]


class FileIn(BaseModel):
    """One file of a new version; its content is in the project already."""

    model_config = ConfigDict(extra="forbid")

    path: str
    path_bytes: str | None = None
    digest: str
    size: int

    def to_entry(self) -> FileEntry:
        """Give the value, unchecked."""
        return FileEntry(self.path, self.digest, self.size, self.path_bytes)


class VersionIn(BaseModel):
    """A new version: its files one by one, or an archive that is unpacked on the server.

    With ``add_to`` the files of that version stay, but for those whose paths come anew.
    """

    model_config = ConfigDict(extra="forbid")

    files: list[FileIn] | None = None
    archive: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    format: Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"] | None = None
    kind: Kind = "files"
    add_to: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
