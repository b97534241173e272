"""Whether a node's data disk is there, is the right one, works, and has room."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from millpond.ground.errors import BusyError
from millpond.storage.flushing import flush
from millpond.storage.nodes.values import DiskFacts


class NoSpaceError(BusyError):
    """The disk has no room above its mark; HTTP calls this 507."""


class DiskGoneError(BusyError):
    """The data disk is not there, or is another one, or cannot be written."""


class Mount:
    """The folder on the data disk, and the id by which it is known again."""

    def __init__(self, root: Path, node: str, remembered: Path, free_least_bytes: int) -> None:
        """Use ``root``; a disk that was never used is given its id.

        Args:
            root: folder on the data disk; its parent must be there.
            node: whose disk it is.
            remembered: file on another disk that keeps the id.
            free_least_bytes: so many bytes are left free.
        """
        self.objects, self.temporary, self.bad = (root / name for name in ("objects", "tmp", "bad"))
        self._root, self._node, self._remembered = root, node, remembered
        self._card = root / "disk.json"
        self._free_least = free_least_bytes
        self.id = self._know()
        with suppress(DiskGoneError):
            self.check()
            self._make_folders()

    def check(self) -> None:
        """Refuse when the disk is not there.

        Raises:
            DiskGoneError: there is none, or another one.
        """
        found = self._read_id()
        if found != self.id:
            raise DiskGoneError(
                f"The data disk of the node {self._node!r} is not there: {self._root} "
                + ("is on another one." if found else "has no id file."),
                next_step="Mount the disk again; the node goes on by itself. If it is broken, put"
                f" an empty one in its place, delete {self._remembered} on the node and start the"
                " node again.",
                retry_after_seconds=30.0,
            )

    def check_space(self, size: int) -> None:
        """Refuse when so many bytes do not fit.

        Raises:
            NoSpaceError: they do not.
        """
        if self._space()[0] < size:
            raise no_space(self._node)

    def look(self) -> DiskFacts:
        """Try the disk: its id, a small file written and read back, the space left.

        A full disk is well: it can be read, and the free bytes tell that nothing is to come.
        """
        try:
            self.check()
            self._make_folders()
            self._try_writing()
            free, total = self._space()
            with os.scandir(self.bad) as found:
                set_aside = sum(1 for _ in found)
        except DiskGoneError as fault:
            return DiskFacts("", is_ok=False, reason=fault.message, epoch=self.epoch)
        except OSError as fault:
            return DiskFacts("", is_ok=False, reason=told(fault, self._root), epoch=self.epoch)
        return DiskFacts(
            self.id,
            is_ok=True,
            free_bytes=free,
            total_bytes=total,
            epoch=self.epoch,
            set_aside=set_aside,
        )

    @property
    def epoch(self) -> int:
        """The highest epoch that the server has told."""
        try:
            return int((self._root / "epoch").read_text())
        except (OSError, ValueError):
            return 0

    def remember_epoch(self, epoch: int) -> None:
        """Keep the highest epoch that the server has told."""
        if epoch > self.epoch:
            half = self.temporary / f"epoch.{uuid4().hex}"
            with suppress(OSError):
                half.write_text(str(epoch))
                half.replace(self._root / "epoch")

    def _know(self) -> str:
        known = self._remembered.read_text().strip() if self._remembered.exists() else ""
        if not known and not self._card.exists():
            self._root.mkdir(mode=0o700, exist_ok=True)
            self._card.write_text(json.dumps({"id": uuid4().hex, "node": self._node}))
            flush(self._card)
            flush(self._root)
        if not known:
            known = self._read_id()
            self._remembered.write_text(known)
            flush(self._remembered)
        return known

    def _read_id(self) -> str:
        try:
            return str(json.loads(self._card.read_text())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _make_folders(self) -> None:
        # All that objects lie in, once: a folder made for one of them would have to be flushed.
        shelves = [self.objects / f"{number:02x}" for number in range(256)]
        if all(path.is_dir() for path in (self.temporary, self.bad, shelves[-1])):
            return
        for folder in (self.temporary, self.bad, self.objects, *shelves):
            folder.mkdir(mode=0o700, exist_ok=True)
        flush(self.objects)
        flush(self._root)

    def _try_writing(self) -> None:
        canary, text = self.temporary / f"canary.{uuid4().hex}", uuid4().hex
        try:
            canary.write_text(text)
            came = canary.read_text()
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                return
            raise
        finally:
            with suppress(OSError):
                canary.unlink(missing_ok=True)
        if came != text:
            raise OSError(errno.EIO, "it gave back other bytes than were written")

    def _space(self) -> tuple[int, int]:
        facts = os.statvfs(self._root)
        free = facts.f_bavail * facts.f_frsize - self._free_least
        return max(0, free), facts.f_blocks * facts.f_frsize


def no_space(node: str) -> NoSpaceError:
    """Make the error for a disk that is full."""
    return NoSpaceError(
        f"The data disk of the node {node!r} has no room for more.",
        next_step="Free space there, or add a node.",
        retry_after_seconds=30.0,
    )


def told(fault: OSError, root: Path) -> str:
    """Say what the system says of a disk."""
    return f"{root}: {(fault.strerror or str(fault)).lower()}"
