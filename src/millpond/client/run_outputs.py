"""What runs left, over the SDK: the list, the files, one zip."""

from collections.abc import Sequence
from pathlib import Path

from millpond.client.downloading import Wanted, fetch_files
from millpond.client.lake import path_query
from millpond.client.progress import OnProgress, ignore
from millpond.client.room import Room
from millpond.lake.previews.values import Preview
from millpond.lake.values import FileEntry


class RunOutputs(Room):
    """What a run left."""

    def outputs(self, run_id: str, *, project: str | None = None) -> Sequence[FileEntry]:
        """List the files that a run left."""
        return list(self._transport.pages(FileEntry, self._in(project, "runs", run_id, "outputs")))

    def preview(self, run_id: str, path: str, *, project: str | None = None) -> Preview:
        """Look at the beginning of an output: its text, its first rows, or what image it is."""
        place = self._in(project, "runs", run_id, "outputs", "content", "preview")
        return self._transport.read(Preview, place, {"path": path})

    def download(
        self,
        run_id: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress = ignore,
    ) -> Sequence[Path]:
        """Bring a run's outputs into a folder; each is checked against its digest."""
        path = self._in(project, "runs", run_id, "outputs", "content")
        wanted = [
            Wanted(entry.raw_path, path, path_query(entry), entry.digest, entry.size)
            for entry in self.outputs(run_id, project=project)
        ]
        return fetch_files(
            self._transport, wanted, Path(target), overwrite=overwrite, on_progress=on_progress
        )

    def download_zip(
        self,
        run_id: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a run's outputs as one zip file."""
        target = Path(target)
        raw_name = target.name.encode("utf-8", "surrogateescape")
        path = self._in(project, "runs", run_id, "outputs", "archive")
        wanted = [Wanted(raw_name, path, {}, None, None)]
        fetch_files(self._transport, wanted, target.parent, overwrite=overwrite)
        return target
