"""Files that hold a key: made once, whole or not at all, for their owner alone."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from millpond.ground.errors import ConflictError


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a key file, or write what ``make`` gives when there is none.

    Two processes that start at once both get the one that came first.

    Raises:
        ConflictError: others than its owner can read the file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _write_new(path, make())
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConflictError(
            f"Others than its owner can read the key file {path}.",
            next_step=f"Run `chmod 600 {path}`; if others may have read it, change the key as the"
            " administrator's guide says.",
        )
    return path.read_bytes()


def _write_new(path: Path, data: bytes) -> None:
    half = path.with_name(f"{path.name}.{uuid4().hex}.new")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(half, path)  # Unlike a rename it never takes the place of a key that is there.
    except FileExistsError:
        pass
    finally:
        half.unlink()
