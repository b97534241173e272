"""Bring inputs in and take outputs out, without ever trusting a name or a link of the task's."""

import ctypes
import errno
import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.engine.port import Transfer
from millpond.engine.rules import size_in_words
from millpond.engine.values import (
    RESULT_BYTES_MOST,
    RESULT_PATH,
    Limits,
    StagedInput,
    StoredOutput,
)
from millpond.ground.errors import Fault, InvalidError

_OPENAT2 = 437  # The same number on every architecture.
_BENEATH_NO_LINKS = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS.
_PATH_MOST, _DEPTH_MOST = 4000, 64
_LEFT_OUT_MOST = 20
_RESULT_DEEPEST = 32
_SMALL_BYTES, _BATCH_BYTES, _BATCH_FILES = 256 << 10, 8 << 20, 500


@dataclass(frozen=True)
class Found:
    """One thing below an output folder.

    Attributes:
        path: relative, as bytes.
        is_file: whether it is a regular file.
        reason: why it can't be taken; empty for files and folders.
        size: in bytes, as a file says it.
        disk_bytes: what it takes up on disk.
    """

    path: bytes
    is_file: bool
    reason: str
    size: int
    disk_bytes: int


@dataclass
class Taken:
    """What was taken out of an output folder."""

    outputs: list[StoredOutput]
    left_out: list[str]
    result: Any = None
    fault: str = ""


def stage_in(transfer: Transfer, folder: str, files: Sequence[StagedInput]) -> None:
    """Bring files to a folder of ours that the sandbox sees read-only.

    Raises:
        InvalidError: a path climbs, is absolute, or is there twice.
    """
    base = os.fsencode(folder)
    made: set[bytes] = set()
    for file in files:
        path = os.fsencode(file.path)
        parts = path.split(b"/")
        if not path or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
            raise _bad_path(file.path, "climbs, is absolute, or has an empty part")
        parent = os.path.join(base, *parts[:-1])  # noqa: PTH118 - bytes, which pathlib refuses.
        if parent != base and parent not in made:
            os.makedirs(parent, mode=0o755, exist_ok=True)  # noqa: PTH103 - bytes.
            made.add(parent)
        try:
            transfer.fetch(file.url, os.path.join(parent, parts[-1]), file.size)  # noqa: PTH118
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as fault:
            raise _bad_path(file.path, "meets another input") from fault
        except OSError as fault:
            if fault.errno != errno.ENAMETOOLONG:
                raise
            raise _bad_path(file.path, "is longer than this system allows") from fault


def _bad_path(path: str, reason: str) -> InvalidError:
    return InvalidError(
        f"The input path {path[:200]!r} {reason}.",
        next_step="Give each input a relative path of its own.",
        faults=[Fault("inputs", reason)],
    )


def measure(folder: str, limits: Limits) -> str:
    """Give the limit that an output folder has passed, in words; empty when none."""
    used = 0
    for count, found in enumerate(walk(folder), 1):
        used += found.disk_bytes
        passed = _passed(count, used, limits)
        if passed:
            return passed
    return ""


def _passed(count: int, size: int, limits: Limits) -> str:
    if count > limits.files:
        return f"it left more than {limits.files} files and folders in its output folder"
    if size > limits.disk_bytes:
        return (
            f"it left more than {size_in_words(limits.disk_bytes)} in its output folder, its limit"
            " of disk"
        )
    return ""


def _leave_out(taken: Taken, path: bytes, reason: object, left: int = 0) -> None:
    if left <= _LEFT_OUT_MOST:
        taken.left_out.append(f"{os.fsdecode(path)!a}: {reason}"[:500])


def take_out(transfer: Transfer, folder: str, prefix: str, limits: Limits) -> Taken:
    """Publish every regular file of an output folder; name the rest with its reason."""
    taken, files = Taken([], []), []
    left = total = 0
    for count, found in enumerate(walk(folder), 1):
        total += found.size
        if found.reason:
            left += 1
            _leave_out(taken, found.path, found.reason, left)
        elif found.is_file and not found.path.startswith(b".millpond/"):
            files.append(found)
        taken.fault = _passed(count, total, limits)
        if taken.fault:
            return taken
    if left > _LEFT_OUT_MOST:
        taken.left_out.append(f"and {left - _LEFT_OUT_MOST} more")
    base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _read_result(base, taken)
        if not taken.fault:
            for batch in _batches(sorted(files, key=lambda each: each.path)):
                if len(batch) > 1:
                    _publish_small(transfer, base, prefix, batch, taken)
                else:
                    _publish(transfer, base, prefix, batch[0], taken)
    finally:
        os.close(base)
    return taken


def _batches(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Give files in their order: small ones together, as far as they fit, a large one by itself."""
    batch: list[Found] = []
    size = 0
    for found in files:
        is_small = found.size <= _SMALL_BYTES
        if batch and not (
            is_small and len(batch) < _BATCH_FILES and size + found.size <= _BATCH_BYTES
        ):
            yield batch
            batch, size = [], 0
        batch.append(found)
        size += found.size
        if not is_small:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _publish(transfer: Transfer, base: int, prefix: str, found: Found, taken: Taken) -> None:
    handle = _open(base, found, taken)
    if handle is None:
        return
    try:
        path = os.fsdecode(found.path)
        taken.outputs.append(transfer.publish(prefix, path, handle, os.fstat(handle).st_size))
    finally:
        os.close(handle)


def _publish_small(
    transfer: Transfer, base: int, prefix: str, batch: Sequence[Found], taken: Taken
) -> None:
    read = []
    for found in batch:
        handle = _open(base, found, taken)
        if handle is not None:
            with open(handle, "rb") as file:  # noqa: PTH123 - a number.
                read.append((os.fsdecode(found.path), file.read(found.size)))
    taken.outputs += transfer.publish_small(prefix, read)


def _open(base: int, found: Found, taken: Taken) -> int | None:
    """Open what was found; None when it cannot be taken."""
    try:
        handle = open_beneath(base, found.path)
    except (OSError, ValueError) as fault:
        _leave_out(taken, found.path, fault)
        return None
    if os.fstat(handle).st_size > found.size:  # It still grows: somebody tampers with the runner.
        os.close(handle)
        _leave_out(taken, found.path, "was changed after the end")
        return None
    return handle


def _read_result(base: int, taken: Taken) -> None:
    try:
        handle = open_beneath(base, RESULT_PATH.encode())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as fault:
        taken.fault = f"its {RESULT_PATH} can't be read: {fault}"
        return
    try:
        data = os.read(handle, RESULT_BYTES_MOST + 1)
    finally:
        os.close(handle)
    if len(data) > RESULT_BYTES_MOST:
        taken.fault = f"its result is longer than {RESULT_BYTES_MOST} bytes; leave data as files"
        return
    try:
        result = json.loads(data, parse_constant=_refuse, parse_float=_read_number)
    except (ValueError, RecursionError) as fault:
        taken.fault = f"its {RESULT_PATH} is not JSON: {fault}"
        return
    if _is_deep(result):  # Whoever copies or writes it down goes into its depth.
        taken.fault = f"its result is nested more than {_RESULT_DEEPEST} levels deep"
        return
    taken.result = result


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_number(text: str) -> float:
    """Read a number; one that is too large would be infinite, which no JSON can hold."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_RESULT_DEEPEST + 1):
        dicts = [inner for each in level if isinstance(each, dict) for inner in each.values()]
        level = dicts + [inner for each in level if isinstance(each, list) for inner in each]
        if not level:
            return False
    return True


def walk(folder: str) -> Iterator[Found]:
    """Give everything below a folder, links not followed; safe while somebody writes there."""
    base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting = [b""]
        while waiting:
            here = waiting.pop()
            try:
                handle = _openat2(base, here or b".", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # Gone meanwhile.
            except OSError as fault:
                yield Found(here, False, f"can't be opened: {fault.strerror}", 0, 0)  # noqa: FBT003
                continue
            try:
                for found in _entries(handle, here):
                    yield found
                    if not found.is_file and not found.reason:
                        waiting.append(found.path)
            finally:
                os.close(handle)
    finally:
        os.close(base)


def _entries(handle: int, here: bytes) -> Iterator[Found]:
    with os.scandir(handle) as entries:
        for entry in entries:
            path = (here + b"/" if here else b"") + os.fsencode(entry.name)
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            is_file, reason = stat.S_ISREG(facts.st_mode), ""
            if stat.S_ISDIR(facts.st_mode):
                too_deep = len(path) > _PATH_MOST or path.count(b"/") >= _DEPTH_MOST
                reason = "its folders are nested too deeply" if too_deep else ""
            elif not is_file:
                reason = f"is {_KINDS.get(stat.S_IFMT(facts.st_mode), 'nothing known')}, not a file"
            elif len(path) > _PATH_MOST:
                is_file, reason = False, "its path is too long"
            size = facts.st_size if is_file else 0
            yield Found(path, is_file, reason, size, facts.st_blocks * 512)


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_beneath(base: int, path: bytes) -> int:
    """Open a regular file beneath a folder for reading; links and climbing names are refused.

    Raises:
        OSError: it is not there, or something on the way is a link.
        ValueError: it is not a regular file.
    """
    handle = _openat2(base, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("is not a regular file")
    return handle


def _openat2(base: int, path: bytes, flags: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _BENEATH_NO_LINKS)
    handle = _LIBC.syscall(_OPENAT2, base, path, how, len(how))
    if handle < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    return int(handle)


_LIBC = ctypes.CDLL(None, use_errno=True)
