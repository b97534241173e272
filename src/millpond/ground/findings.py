"""What somebody who looks after a machine finds there: each with its meaning and how to mend it."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millpond.ground.units import size_text

_DISK_LEAST_BYTES = 5 << 30
_NETWORK_DISKS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "glusterfs"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ``ok``, ``warning`` (it works, with less) or ``fault`` (something will not work).
        meaning: what was seen, and what it means.
        next_step: how to mend it; empty when there is nothing to mend.
    """

    name: str
    state: str
    meaning: str
    next_step: str = ""


def look_at_folder(folder: Path) -> Iterator[Finding]:
    """Look at the disk and the rights of the folder that holds, or will hold, all data."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    kind = _kind_of_disk(there)
    text = f"{size_text(free)} free for {folder}" + (f" ({kind})" if kind else "")
    if free < _DISK_LEAST_BYTES:
        yield Finding("disk", "warning", text, "Free some space, or use --data on another disk.")
    else:
        yield Finding("disk", "ok", text)
    if kind in _NETWORK_DISKS:
        yield Finding(
            "kind of disk", "warning", f"{kind} is a network disk: SQLite's locks may fail there",
            "Put the data folder on a local disk, or the database on PostgreSQL.",
        )  # fmt: skip
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as fault:
        yield Finding("data folder", "fault", f"{there}: {fault.strerror}", "Mend its rights.")
        return
    if folder.exists() and folder.stat().st_mode & 0o066:  # Sandboxes walk through it.
        yield Finding(
            "data folder", "warning", f"{folder} can be read by others", f"chmod go-rw {folder}"
        )
    else:
        yield Finding("data folder", "ok", f"{folder} can be written")


def _kind_of_disk(place: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    fitting = [
        (len(point), kind)
        for point, kind in (line.split()[1:3] for line in mounts)
        if place.resolve().is_relative_to(point.replace("\\040", " "))
    ]
    return max(fitting, default=(0, ""))[1]
