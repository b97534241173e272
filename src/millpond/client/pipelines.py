"""Pipelines over the SDK: push a folder of code, list, show."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from millpond.client.decoding import decode
from millpond.client.downloading import Wanted, fetch_files
from millpond.client.lake import entry_body
from millpond.client.progress import OnProgress, ignore
from millpond.client.room import Room
from millpond.client.transport import Transport
from millpond.client.uploading import send_files
from millpond.client.walking import Hashed, LocalFile, find_files, hash_files
from millpond.ground.address import parse_address
from millpond.ground.errors import Fault, InvalidError
from millpond.pipelines.specs.values import LogPart
from millpond.pipelines.values import Pipeline, PipelineVersion

_LEFT_OUT = {"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_POLL_SECONDS = 0.3


class PipelinesRoom(Room):
    """A project's pipelines and their compiled versions."""

    def push(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        project: str | None = None,
        on_progress: OnProgress = ignore,
    ) -> PipelineVersion:
        """Push a folder with ``pipeline.py`` as a new version; ``wait`` for its compiling.

        The same code gives the version there is, marked unchanged.
        """
        hashed = send_code(self._transport, self._project(project), folder, on_progress)
        body: dict[str, Any] = {"files": [entry_body(one) for one in hashed]}
        if name:
            body["name"] = name
        made = self._transport.make(self._in(project, "pipelines"), body)
        return decode(PipelineVersion, made)

    def list(self, *, search: str = "", project: str | None = None) -> list[Pipeline]:
        """List the pipelines by name; ``search`` is a part of it."""
        query = {"search": search or None}
        return list(self._transport.pages(Pipeline, self._in(project, "pipelines"), query))

    def get(self, name: str, *, project: str | None = None) -> Pipeline:
        """Show a pipeline."""
        return self._transport.read(Pipeline, self._in(project, "pipelines", name))

    def versions(self, name: str, *, project: str | None = None) -> Sequence[PipelineVersion]:
        """List a pipeline's versions, newest first."""
        path = self._in(project, "pipelines", name, "versions")
        return list(self._transport.pages(PipelineVersion, path))

    def version(self, address: str, *, project: str | None = None) -> PipelineVersion:
        """Show the version at ``NAME`` (the newest) or ``NAME@N``, with its form."""
        return self._transport.read(PipelineVersion, self._version_path(address, project))

    def log(self, address: str, after: int = 0, *, project: str | None = None) -> LogPart:
        """Read a piece of what compiling a version wrote, from ``after`` on."""
        path = self._version_path(address, project) + "/log"
        return self._transport.read(LogPart, path, {"after": after})

    def download_code(
        self,
        address: str,
        target: str | Path,
        *,
        project: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Bring a version's code as one zip file."""
        target = Path(target)
        path = self._version_path(address, project) + "/archive"
        wanted = [Wanted(os.fsencode(target.name), path, {}, None, None)]
        fetch_files(self._transport, wanted, target.parent, overwrite=overwrite)
        return target

    def _version_path(self, address: str, project: str | None) -> str:
        wanted = parse_address(address)
        number = wanted.number
        if number is None:
            number = self.get(wanted.name, project=project).newest
        return self._in(project, "pipelines", wanted.name, "versions", number)

    def wait(
        self,
        address: str,
        on_state: Callable[[PipelineVersion], None] = lambda _: None,
        *,
        project: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> PipelineVersion:
        """Wait until a version is compiled or has failed."""
        while True:
            version = self.version(address, project=project)
            on_state(version)
            if version.state != "compiling":
                return version
            pause(_POLL_SECONDS)


def send_code(
    transport: Transport, project: str, source: str | Path, on_progress: OnProgress = ignore
) -> Sequence[Hashed]:
    """Send the files of a folder of code, without what tools leave in it; one file stays one.

    Raises:
        InvalidError: there is no file.
    """
    source = Path(source)
    files = [file for file in find_files(source).files if not _is_left_out(file)]
    if not files:
        raise InvalidError(
            f"There is no code in {str(source)!r}.",
            next_step="Name a folder with a pipeline.py, or a program.",
            faults=[Fault("files", "must hold at least one file")],
        )
    hashed = list(hash_files(files, on_progress))
    send_files(transport, project, hashed, on_progress)
    return hashed


def _is_left_out(file: LocalFile) -> bool:
    parts = file.raw_path.decode("utf-8", "backslashreplace").split("/")
    return any(part in _LEFT_OUT for part in parts) or parts[-1].endswith((".pyc", ".pyo"))
