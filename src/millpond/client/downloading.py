"""Bring files here: resumed after a break, checked by their digests, never above the folder."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from millpond.client.progress import OnProgress, Progress, ignore
from millpond.client.transport import Query, Transport
from millpond.client.walking import printable
from millpond.ground.errors import BusyError, ConflictError, Fault, InvalidError

_FETCHERS = 4
_BLOCK_BYTES = 256 << 10
_TRIES = 8
_PARTIAL = 206
_FAULTS_SHOWN = 50


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        raw_path: relative path below the target folder, with slashes, as bytes.
        source: path of the call that gives its bytes.
        query: query of that call.
        digest: sha256 that it must have; None when the server gives none.
        size: bytes; None when unknown.
    """

    raw_path: bytes
    source: str
    query: Query
    digest: str | None
    size: int | None


def fetch_files(
    transport: Transport,
    wanted: Sequence[Wanted],
    target: Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = ignore,
) -> list[Path]:
    """Fetch files into a folder, several at a time; each appears whole or not at all.

    Raises:
        InvalidError: a path would leave the folder, or two would be one file; nothing is written.
        ConflictError: files are there already and ``overwrite`` was not asked for.
    """
    target.mkdir(parents=True, exist_ok=True)
    places = _places(wanted, target, overwrite=overwrite)
    total = sum(one.size or 0 for one in wanted)
    lock = threading.Lock()
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            on_progress(Progress("Fetching", done, max(total, done), "bytes"))

    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="millpond-fetch") as pool:
        work = [
            pool.submit(fetch_one, transport, one, path, tell)
            for one, path in zip(wanted, places, strict=True)
        ]
        try:
            for future in work:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return places


def fetch_one(
    transport: Transport,
    wanted: Wanted,
    path: Path,
    tell: Callable[[int], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch one file to a draft beside its place, check it, then put it in its place.

    Raises:
        ConflictError: what came is not what the digest says.
        BusyError: the server stayed away for too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".millpond-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            hashed = hashlib.sha256()
            for turn in range(_TRIES):
                try:
                    _fetch_rest(transport, wanted, file, hashed.update, tell)
                    break
                except BusyError as fault:
                    if turn == _TRIES - 1:
                        raise
                    pause(max(fault.retry_after_seconds, 0.2 * 2**turn))
            file.flush()
        if wanted.digest and hashed.hexdigest() != wanted.digest:
            raise ConflictError(
                f"What came for {printable(path.name)!r} is not what the server promised: "
                f"sha256 {hashed.hexdigest()}, not {wanted.digest}.",
                next_step="Fetch it again; if it stays, the server's store is damaged.",
            )
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


def _fetch_rest(
    transport: Transport,
    wanted: Wanted,
    file: BinaryIO,
    feed: Callable[[bytes], None],
    tell: Callable[[int], None],
) -> None:
    start = file.tell()
    if wanted.size is not None and start >= wanted.size and start:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    with transport.stream(wanted.source, wanted.query, headers) as response:
        to_skip = start if response.status_code != _PARTIAL else 0
        for block in response.iter_bytes(_BLOCK_BYTES):
            fresh = block[to_skip:]
            to_skip = max(0, to_skip - len(block))
            file.write(fresh)
            feed(fresh)
            tell(len(fresh))


def _places(wanted: Sequence[Wanted], target: Path, *, overwrite: bool) -> list[Path]:
    root = target.resolve()
    faults: list[Fault] = []
    taken: list[Fault] = []
    places: dict[Path, None] = {}
    for one in wanted:
        shown = printable(os.fsdecode(one.raw_path))
        path = safe_place(root, one.raw_path)
        if path is None:
            faults.append(Fault(shown, "would lie outside of the folder"))
        elif path in places:
            faults.append(Fault(shown, "comes twice"))
        else:
            if path.is_dir() or (os.path.lexists(path) and not overwrite):
                taken.append(Fault(shown, "is there already"))
            places[path] = None
    if faults:
        raise InvalidError(
            "Some files can't be written where their names say.",
            next_step="Fetch the archive instead, and unpack it where that is safe.",
            faults=faults,
        )
    if taken:
        listed = ", ".join(fault.field for fault in taken[:5])
        more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""  # noqa: PLR2004 - as shown.
        raise ConflictError(
            f"{len(taken)} files are there already in {str(target)!r}: {listed}{more}.",
            next_step="Choose another folder, or ask for --overwrite.",
            files=[fault.field for fault in taken[:_FAULTS_SHOWN]],
        )
    return list(places)


def safe_place(root: Path, raw_path: bytes) -> Path | None:
    """Give the place of a relative path below ``root``; None when it would lie elsewhere."""
    parts = raw_path.split(b"/")
    if b"\0" in raw_path or any(part in (b"", b".", b"..") for part in parts):
        return None
    path = root.joinpath(*(os.fsdecode(part) for part in parts))
    # A link that somebody left in the folder must not carry the file out of it.
    return path if path.parent.resolve().is_relative_to(root) else None
