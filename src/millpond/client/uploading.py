"""Bring local files into a project's lake: only what it lacks, small ones together in packs.

The largest go so that a broken line costs little, see ``resuming.py``.
"""

import io
import tarfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from millpond.client.progress import OnProgress, Progress, ignore
from millpond.client.resuming import RESUMED_BYTES, send_resumed
from millpond.client.transport import Transport, place
from millpond.client.walking import Hashed, printable
from millpond.ground.errors import ConflictError

ASK_MOST = 1000
PACK_BYTES = 8 << 20
PACK_FILES = 500
SMALL_BYTES = 1 << 20
_SENDERS = 3
_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True)
class Sent:
    """What an upload moved.

    Attributes:
        files: contents that were sent; equal contents count once.
        size_bytes: their bytes.
        known: contents that the project held already.
    """

    files: int
    size_bytes: int
    known: int


def send_files(
    transport: Transport, project: str, files: Sequence[Hashed], on_progress: OnProgress = ignore
) -> Sent:
    """Send the contents that the project lacks; safe to repeat after a broken connection.

    Raises:
        ConflictError: a file changed while it was sent; nothing refers to it then.
    """
    distinct = list({one.digest: one for one in files}.values())
    missing = _find_missing(transport, project, distinct)
    wanted = [one for one in distinct if one.digest in missing]
    total = sum(one.file.size for one in wanted)
    meter = _Meter(total, on_progress)
    packs = list(_packs([one for one in wanted if one.file.size <= SMALL_BYTES]))
    large = [one for one in wanted if SMALL_BYTES < one.file.size < RESUMED_BYTES]
    largest = [one for one in wanted if one.file.size >= RESUMED_BYTES]
    with ThreadPoolExecutor(_SENDERS, thread_name_prefix="millpond-send") as pool:
        work = [pool.submit(_send_pack, transport, project, pack, meter) for pack in packs]
        work += [pool.submit(_send_large, transport, project, one, meter) for one in large]
        work += [pool.submit(send_resumed, transport, project, one, meter.add) for one in largest]
        try:
            for future in work:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Sent(len(wanted), total, len(distinct) - len(wanted))


class _Meter:
    """Add up what several threads have sent."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._total = total
        self._on_progress = on_progress

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._on_progress(Progress("Sending", self._done, self._total, "bytes"))


def _find_missing(transport: Transport, project: str, files: Sequence[Hashed]) -> set[str]:
    missing: set[str] = set()
    path = place("projects", project, "objects", "missing")
    for start in range(0, len(files), ASK_MOST):
        asked = [
            {"digest": one.digest, "size": one.file.size} for one in files[start : start + ASK_MOST]
        ]
        missing.update(transport.ask(path, {"objects": asked})["missing"])
    return missing


def _packs(files: Sequence[Hashed]) -> Iterator[list[Hashed]]:
    pack: list[Hashed] = []
    size = 0
    for one in files:
        if pack and (len(pack) == PACK_FILES or size + one.file.size > PACK_BYTES):
            yield pack
            pack, size = [], 0
        pack.append(one)
        size += one.file.size
    if pack:
        yield pack


def _send_pack(transport: Transport, project: str, pack: Sequence[Hashed], meter: _Meter) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for one in pack:
            with open(one.file.place, "rb") as opened:  # noqa: PTH123 - a surrogate-escaped name.
                data = opened.read(one.file.size + 1)
            _check_size(one, len(data))
            member = tarfile.TarInfo(one.digest)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    content = buffer.getvalue()
    path = place("projects", project, "objects")
    transport.send("POST", path, lambda: content, {"Content-Type": "application/x-tar"})
    meter.add(sum(one.file.size for one in pack))


def _send_large(transport: Transport, project: str, one: Hashed, meter: _Meter) -> None:
    sent = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        meter.add(-sent)
        sent = 0
        with open(one.file.place, "rb") as opened:  # noqa: PTH123 - a surrogate-escaped name.
            while block := opened.read(_BLOCK_BYTES):
                sent += len(block)
                _check_size(one, sent, at_end=False)
                meter.add(len(block))
                yield block
        _check_size(one, sent)

    path = place("projects", project, "objects", one.digest)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(one.file.size)}
    transport.send("PUT", path, blocks, headers)


def _check_size(one: Hashed, size: int, *, at_end: bool = True) -> None:
    if size > one.file.size or (at_end and size < one.file.size):
        raise ConflictError(
            f"The file {printable(one.file.place)!r} changed while it was sent.",
            next_step="Push again once nothing writes to it.",
        )
