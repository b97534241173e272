"""Leave a task's outputs where the door says: on two nodes, or at a signed address."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import httpx

from millpond.engine.cluster.door import (
    Door,
    HostAwayError,
    HostBusyError,
    IsOver,
    away,
    raise_fault,
)
from millpond.ground.errors import BusyError, ConflictError, InvalidError, MillpondError
from millpond.storage.nodes.client import NodeClient, receipt_seconds
from millpond.storage.nodes.disk import NodeDisk
from millpond.storage.nodes.values import Receipt, Target

_COPIES, _TRIES = 2, 4
_PATIENCE_SECONDS, _PAUSE_MOST = 300.0, 5.0
_PIECE = 1 << 20
_AT_ONCE = 8
_log = logging.getLogger(__name__)


class _TooFewError(BusyError):
    """The host knows no place: too few nodes are there, or have room."""


@dataclass(frozen=True)
class Small:
    """A small object to be left.

    Attributes:
        key: under which key.
        data: its bytes.
        digest: sha256 of them, in hexadecimal.
    """

    key: str
    data: bytes
    digest: str


class Leaver:
    """Leaves outputs of tasks. Safe to share between threads."""

    def __init__(
        self, door: Door, peers: NodeClient, outside: httpx.Client, disk: NodeDisk | None
    ) -> None:
        """Ask this door; ``outside`` speaks to an S3 service, ``disk`` is this node's own."""
        self._door, self._peers, self._outside, self._disk = door, peers, outside, disk

    def leave(
        self, token: Callable[[], Mapping[str, Any]], new: "Leaving", is_over: IsOver
    ) -> None:
        """Leave so many bytes of an open file under a key.

        While the host says that there are too few nodes it waits, for days if need be: what the
        task has computed is worth more than its slot.

        Args:
            token: gives the task's, as it is now.
            new: what is left.
            is_over: whether the task was stopped.

        Raises:
            ConflictError: the key is taken.
            BusyError: too few copies could be made although there are nodes, or it was stopped.
        """
        end, pause, refusals = time.monotonic() + _PATIENCE_SECONDS, 0.25, 0
        while True:
            check_goes_on(is_over)
            try:
                self._leave_once(token, new, is_over)
            except (BusyError, InvalidError) as fault:  # Perhaps a node has just gone.
                if isinstance(fault, _TooFewError):
                    end = time.monotonic() + _PATIENCE_SECONDS
                refusals += isinstance(fault, InvalidError)
                is_vain = refusals >= _TRIES or time.monotonic() > end
                if is_vain or self._door.is_closed or is_over():
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE_MOST)
            else:
                return

    def _leave_once(
        self, token: Callable[[], Mapping[str, Any]], new: "Leaving", is_over: IsOver
    ) -> None:
        facts = {"objects": [{"key": new.key, "size": new.size, "digest": new.digest}]}
        try:
            place = self._door.ask("objects/place", {"task": token(), **facts}, is_over)
        except HostBusyError as fault:
            raise _TooFewError(fault.message, next_step=fault.next_step) from fault
        if place["kind"] == "address":
            if self._put(str(place["url"]), new.fd, new.size, is_over):
                self._door.ask("objects/commit", {"task": token(), **facts}, is_over)
            return

        def send(target: Target, wait: float | None) -> Receipt:
            reader = PartReader(new.fd, new.size)
            if self._disk is not None and target.node == self._disk.node:
                return self._disk.put(cast("BinaryIO", reader), new.digest)
            return self._peers.put(target, reader.pieces(), wait)

        receipts = self._leave(place, new.size, send)
        said = {"task": token(), **facts, "receipts": receipts}
        self._door.ask("objects/commit", said, is_over)

    def leave_many(
        self, token: Callable[[], Mapping[str, Any]], new: Sequence[Small], is_over: IsOver
    ) -> None:
        """Leave small objects, by one call to each of two nodes where that is possible.

        Args:
            token: gives the task's, as it is now.
            new: what is left, all of it in memory.
            is_over: whether the task was stopped.

        Raises:
            ConflictError: a key is taken.
            BusyError: as ``leave``.
        """
        if len(new) > 1 and self._leave_batch(token, new, is_over):
            return

        def leave(each: Small) -> None:
            with open(os.memfd_create("output", os.MFD_CLOEXEC), "w+b", buffering=0) as file:  # noqa: PTH123 - a number.
                file.write(each.data)
                found = Leaving(each.key, file.fileno(), len(each.data), each.digest)
                self.leave(token, found, is_over)

        with ThreadPoolExecutor(min(_AT_ONCE, len(new) or 1), "leave") as pool:
            for _ in pool.map(leave, new):
                pass

    def _leave_batch(
        self, token: Callable[[], Mapping[str, Any]], new: Sequence[Small], is_over: IsOver
    ) -> bool:
        """Leave all at once, with one try; False when each is to be left by itself."""
        facts = {
            "objects": [
                {"key": each.key, "size": len(each.data), "digest": each.digest} for each in new
            ]
        }
        datas = [each.data for each in new]

        def send(target: Target, wait: float | None) -> Receipt:
            if self._disk is not None and target.node == self._disk.node:
                return self._disk.put_many(datas)
            return self._peers.put_many(target, datas, wait)

        try:
            place = self._door.ask("objects/place", {"task": token(), **facts}, is_over)
            if place["kind"] != "nodes":
                return False
            receipts = self._leave(place, sum(len(data) for data in datas), send)
            said = {"task": token(), **facts, "receipts": receipts}
            self._door.ask("objects/commit", said, is_over)
        except (BusyError, InvalidError) as fault:  # Perhaps a node has just gone.
            _log.warning("%d outputs are left one by one: %s", len(new), fault)
            return False
        return True

    def _leave(
        self,
        place: Mapping[str, Any],
        size: int,
        send: Callable[[Target, float | None], Receipt],
    ) -> list[Any]:
        """Leave bytes on nodes; give their receipts."""
        receipts: list[Any] = []
        wanted = int(place.get("copies", _COPIES))
        fault: MillpondError | None = None
        targets = [
            Target(str(each["node"]), str(each["url"]), str(each["token"]))
            for each in place["targets"]
        ]
        targets.sort(key=lambda each: self._peers.is_silent(each.node))
        for number, target in enumerate(targets, 1):
            if len(receipts) == wanted:
                break
            has_spare = len(targets) - number >= wanted - len(receipts)
            wait = receipt_seconds(size) if has_spare else None
            try:
                receipts.append(send(target, wait).to_json())
            except MillpondError as found:
                _log.warning("no copy could be left on %s: %s", target.node, found)
                fault = found
        if len(receipts) < wanted and fault is not None:
            raise BusyError(
                f"Only {len(receipts)} of {wanted} copies could be made. {fault.message}",
                next_step=fault.next_step,
            ) from fault
        return receipts

    def _put(self, url: str, fd: int, size: int, is_over: IsOver) -> bool:
        """Leave bytes at an address of the door's, or one of the web.

        Returns:
            Whether the answer was that they lay there, after an answer before it had been lost.
        """
        is_again = is_there = False

        def once() -> None:
            nonlocal is_again, is_there
            body: dict[str, Any] = {
                "content": PartReader(fd, size).pieces(),
                "headers": {"Content-Length": str(size)},
            }
            try:
                if url.startswith("/"):
                    self._door.send("PUT", url, **body)
                    return
                answer = self._outside.put(url, **body)
                raise_fault(answer)
            except httpx.TransportError as fault:
                is_again = True
                raise away(url.partition("?")[0], fault) from fault
            except HostAwayError:
                is_again = True
                raise
            except ConflictError:
                if not is_again:
                    raise
                is_there = True

        self._door.patiently(once, is_over)
        return is_there


@dataclass(frozen=True)
class Leaving:
    """What is left: so many bytes of an open file, from its beginning, under a key."""

    key: str
    fd: int
    size: int
    digest: str


def check_goes_on(is_over: IsOver) -> None:
    """Go no further with what was stopped.

    Raises:
        BusyError: it was.
    """
    if is_over():
        raise BusyError(
            "It was stopped on its node: the host counts on it no more.",
            next_step="It runs again elsewhere, unless it was cancelled.",
        )


class PartReader:
    """Reads so many bytes of a file from its beginning, whatever others read of it."""

    def __init__(self, fd: int, size: int) -> None:
        """Read from an open file, which stays the caller's."""
        self._fd, self._size, self._at = fd, size, 0

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes; none at the end."""
        left = self._size - self._at
        wanted = min(left if size < 0 else min(size, left), _PIECE)
        data = os.pread(self._fd, wanted, self._at) if wanted else b""
        self._at += len(data)
        return data

    def pieces(self) -> Iterator[bytes]:
        """Give all that is left."""
        while data := self.read():
            yield data


def hash_part(fd: int, size: int) -> str:
    """Give the sha256 of so many bytes of a file."""
    hashed = hashlib.sha256()
    for piece in PartReader(fd, size).pieces():
        hashed.update(piece)
    return hashed.hexdigest()
