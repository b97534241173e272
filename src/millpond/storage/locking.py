"""One server to a data folder."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from millpond.ground.errors import ConflictError


class FolderLock:
    """Holds ``DATA/server.lock`` until it is closed or the process ends, however it ends."""

    def __init__(self, data: Path) -> None:
        """Take the lock.

        Raises:
            ConflictError: another server holds it; names its process and its address.
        """
        self._data = data
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(
            data / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            holder = _read_holder(self._descriptor)
            os.close(self._descriptor)
            raise ConflictError(
                f"Another server uses the data folder {data} already: {holder}.",
                next_step="Use that one, stop it first, or start this one with another folder:"
                " `--data DIR`. Several servers need PostgreSQL and a data folder each.",
                folder=str(data),
            ) from fault
        self.tell("")

    def tell(self, url: str) -> None:
        """Write who holds it, for the one that is refused."""
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def announce(self, url: str, version: str, **more: str) -> None:
        """Write ``DATA/server.json``, by which programs of the same user find this server.

        Args:
            url: the address that others reach it by.
            version: of Millpond.
            more: ``here``, the address by which this machine reaches it, and what it may trust
                there: a file of the ``authority``, or of the very ``certificate``.
        """
        half = self._data / "server.json.new"
        half.unlink(missing_ok=True)
        facts = {"url": url, "pid": os.getpid(), "version": version, **more}
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(facts, file)
        half.replace(self._data / "server.json")

    def close(self) -> None:
        """Take the announcement away and give the lock back."""
        (self._data / "server.json").unlink(missing_ok=True)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Hold it for a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.close()


def _read_holder(descriptor: int) -> str:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        place = f" at {facts['url']}" if facts["url"] else ", which is still starting"
        return f"process {facts['pid']}{place}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not said its number"
