"""What has to reach the disk before anybody is told that it is kept."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_all(file: BinaryIO, data: bytes | bytearray | memoryview) -> int:
    """Write every byte to an unbuffered file; give how many.

    A disk that fills up takes a part without a word, and refuses only what comes next.
    """
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return len(data)


def flush(path: Path) -> None:
    """Flush a file or a folder; one that is gone is fine."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush_file_system(path: Path) -> bool:
    """Flush all of a file system in one call; False where the system has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(call(descriptor) == 0)
    finally:
        os.close(descriptor)
