"""Datasets over the SDK: push what is here, list, show, download."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from millpond.client.decoding import decode
from millpond.client.downloading import Wanted, fetch_files
from millpond.client.progress import OnProgress, ignore
from millpond.client.room import Room
from millpond.client.uploading import Sent, send_files
from millpond.client.walking import Hashed, LocalFile, archive_format, find_files, hash_files
from millpond.ground.address import check_new_name, parse_address
from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.lake.previews.values import Preview
from millpond.lake.values import Dataset, DatasetVersion, FileEntry, Kind, TreeItem


@dataclass(frozen=True)
class Pushed:
    """What a push made.

    Attributes:
        version: the version; ``unchanged`` when the newest held this same content already.
        sent: what had to be sent for it.
        left_out: paths that were not taken, each with the reason.
    """

    version: DatasetVersion
    sent: Sent
    left_out: list[tuple[str, str]]


class DatasetsRoom(Room):
    """A project's datasets and their immutable versions."""

    def push(
        self,
        source: str | Path,
        name: str,
        *,
        project: str | None = None,
        follow_links: bool = False,
        unpack: bool = True,
        kind: Kind = "files",
        add: bool = False,
        on_progress: OnProgress = ignore,
    ) -> Pushed:
        """Make a version of a folder, a file or an archive.

        Args:
            source: a folder, with all below it; a file; or a zip or tar archive.
            name: the dataset's name.
            project: the project to put it in.
            follow_links: whether to follow symbolic links; else they are left out, and named.
            unpack: whether the server unpacks an archive; else it is a file like any other.
            kind: whether its files are just files, or the parts of one table.
            add: whether the newest version's files stay, but for those whose paths come anew.
            on_progress: told how far reading and sending are.
        """
        source = Path(source)
        form = archive_format(source) if unpack and source.is_file() else None
        found = find_files(source, follow_links=follow_links)
        if not found.files:
            raise InvalidError(
                f"There is no file in {str(source)!r} that could be pushed.",
                next_step="Choose a folder with files in it.",
                faults=[Fault(path, reason) for path, reason in found.left_out],
            )
        made = self.push_files(
            found.files,
            name,
            project=project,
            archive=form,
            kind=kind,
            add=add,
            on_progress=on_progress,
        )
        return replace(made, left_out=found.left_out)

    def push_files(
        self,
        files: Sequence[LocalFile],
        name: str,
        *,
        project: str | None = None,
        archive: str | None = None,
        kind: Kind = "files",
        add: bool = False,
        on_progress: OnProgress = ignore,
    ) -> Pushed:
        """Make a version of files that were chosen one by one, under paths of their own.

        Args:
            files: the files; one alone when it is an archive.
            name: the dataset's name.
            project: the project to put it in.
            archive: how the server unpacks the one file: zip, tar, tar.gz, tar.bz2, tar.xz.
            kind: whether they are just files, or the parts of one table.
            add: whether the newest version's files stay, but for those whose paths come anew.
            on_progress: told how far reading and sending are.
        """
        check_new_name(name)  # Before anything is sent.
        hashed = list(hash_files(files, on_progress))
        sent = send_files(self._transport, self._project(project), hashed, on_progress)
        body: dict[str, object] = {"kind": kind}
        if add:
            with suppress(NotFoundError):  # Of a new dataset there is no version to add to.
                body["add_to"] = self.get(name, project=project).newest
        if archive is not None:
            body |= {"archive": hashed[0].digest, "format": archive}
        else:
            body["files"] = [entry_body(one) for one in hashed]
        path = self._in(project, "datasets", name, "versions")
        version = decode(DatasetVersion, self._transport.make(path, body))
        return Pushed(version, sent, [])

    def list(self, *, project: str | None = None, search: str = "") -> Sequence[Dataset]:
        """List the datasets by name; with a search, those whose names hold that text."""
        query = {"search": search or None}
        return list(self._transport.pages(Dataset, self._in(project, "datasets"), query))

    def get(self, name: str, *, project: str | None = None) -> Dataset:
        """Show a dataset."""
        return self._transport.read(Dataset, self._in(project, "datasets", name))

    def versions(self, name: str, *, project: str | None = None) -> Sequence[DatasetVersion]:
        """List a dataset's versions, newest first."""
        path = self._in(project, "datasets", name, "versions")
        return list(self._transport.pages(DatasetVersion, path))

    def version(self, address: str, *, project: str | None = None) -> DatasetVersion:
        """Show the version at ``NAME`` (the newest) or ``NAME@N``."""
        return self._transport.read(DatasetVersion, self._version_path(address, project))

    def files(
        self, address: str, *, project: str | None = None, most: int | None = None
    ) -> Iterator[FileEntry]:
        """Go through the files of a version, fetched page by page."""
        path = self._version_path(address, project) + "/files"
        return self._transport.pages(FileEntry, path, most=most)

    def tree(
        self,
        address: str,
        folder: str = "",
        *,
        project: str | None = None,
        search: str = "",
        most: int | None = None,
    ) -> Iterator[TreeItem]:
        """Go through what lies directly in a folder of a version: folders first, then files.

        With a search, go through the files anywhere below whose paths hold that text.
        """
        path = self._version_path(address, project) + "/tree"
        query = {"path": folder, "search": search or None}
        return self._transport.pages(TreeItem, path, query, most=most)

    def preview(self, address: str, path: str, *, project: str | None = None) -> Preview:
        """Look at the beginning of a file: its text, its first rows, or what image it is."""
        place = self._version_path(address, project) + "/content/preview"
        return self._transport.read(Preview, place, {"path": path})

    def download(
        self,
        address: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress = ignore,
    ) -> Sequence[Path]:
        """Bring a version's files into a folder; each is checked against its digest."""
        path = self._version_path(address, project)
        wanted = [
            Wanted(entry.raw_path, path + "/content", path_query(entry), entry.digest, entry.size)
            for entry in self._transport.pages(FileEntry, path + "/files")
        ]
        return fetch_files(
            self._transport, wanted, Path(target), overwrite=overwrite, on_progress=on_progress
        )

    def download_zip(
        self,
        address: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a version's files as one zip file."""
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        path = self._version_path(address, project) + "/archive"
        wanted = [Wanted(raw_name, path, {}, None, None)]
        fetch_files(self._transport, wanted, target.parent, overwrite=overwrite)
        return target

    def delete(self, name: str, *, project: str | None = None) -> None:
        """Hide a dataset; its bytes stay until an administrator purges them."""
        self._transport.delete(self._in(project, "datasets", name))

    def _version_path(self, address: str, project: str | None) -> str:
        wanted = parse_address(address)
        number = wanted.number
        if number is None:
            number = self.get(wanted.name, project=project).newest
        return self._in(project, "datasets", wanted.name, "versions", number)


def entry_body(one: Hashed) -> dict[str, object]:
    """Write a file's line of the manifest that is sent."""
    entry = one.entry
    body: dict[str, object] = {"path": entry.path, "digest": entry.digest, "size": entry.size}
    if entry.path_bytes is not None:
        body["path_bytes"] = entry.path_bytes
    return body


def path_query(entry: FileEntry) -> dict[str, object]:
    """Ask for a file as the list names it: its bytes count when they are not UTF-8."""
    return {"path": entry.path, "path_bytes": entry.path_bytes}
