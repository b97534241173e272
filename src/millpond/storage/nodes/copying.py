"""Bring bytes onto two nodes at once; when one fails, onto the next."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO
from uuid import uuid4

from millpond.ground.errors import BusyError, MillpondError
from millpond.storage.database import Database
from millpond.storage.nodes import rules
from millpond.storage.nodes.client import (
    NodeClient,
    NodeSilentError,
    batch_frame,
    receipt_seconds,
)
from millpond.storage.nodes.disk import PIECE_BYTES
from millpond.storage.nodes.ledger import Ledger, Standing, too_few
from millpond.storage.nodes.tokens import ANY
from millpond.storage.nodes.values import Place, Receipt

_THREADS = 16
_WAITING_PIECES = 8
_ANY_SIZE = 1 << 50
_GIVE_UP_SECONDS = 120.0


@dataclass(frozen=True)
class Poured:
    """A stream that lies on nodes now."""

    digest: str
    size: int
    receipts: Sequence[Receipt]


class Copier:
    """Sends bytes to nodes and gathers their receipts."""

    def __init__(self, database: Database, ledger: Ledger, client: NodeClient) -> None:
        """Ask ``ledger`` where to, and send with ``client``."""
        self._database, self._ledger, self._client = database, ledger, client
        self._pool = ThreadPoolExecutor(_THREADS, "millpond-copies")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def leave(self, digest: str, data: bytes) -> list[Receipt]:
        """Leave an object of known digest on two nodes.

        Raises:
            BusyError: there are no two nodes that take it.
        """

        def send(place: Place, wait: float | None) -> Receipt:
            target = self._ledger.target(place, "PUT", digest, len(data))
            return self._verified(self._client.put(target, data, wait), {digest: len(data)})

        return self._gather(digest, len(data), send)

    def leave_many(self, objects: dict[str, bytes]) -> list[Receipt]:
        """Leave many small objects on two nodes, with one call to each."""
        total = sum(len(data) for data in objects.values())
        sizes = {digest: len(data) for digest, data in objects.items()}

        def send(place: Place, wait: float | None) -> Receipt:
            target = self._ledger.target(place, "PUT", ANY, total + batch_frame(len(objects)))
            receipt = self._client.put_many(target, list(objects.values()), wait)
            return self._verified(receipt, sizes)

        return self._gather(uuid4().hex, total, send)

    def pour(self, head: bytes, rest: BinaryIO) -> Poured:
        """Send a stream of unknown length and digest to two nodes at once.

        When one of the two fails on the way, the other goes on, and passes its copy on to a third
        at the end. When both fail nothing is left, and the stream is spent.

        Raises:
            BusyError: there are no two nodes that take it.
        """
        standing = self._standing()
        chosen = self._answering_first(rules.rank(uuid4().hex, standing.up, size=len(head)))
        needed = self._ledger.needed(chosen)
        if len(chosen) < needed:
            raise too_few(standing, len(head))
        pipes = [self._pipe(place) for place in chosen[:needed]]
        digest, size = hashlib.sha256(), 0
        try:
            for piece in _pieces(head, rest):
                digest.update(piece)
                size += len(piece)
                if not [pipe.send(piece) for pipe in pipes if pipe.is_well]:
                    break
        except BaseException:
            for pipe in pipes:
                pipe.cancel()
            raise
        sizes = {digest.hexdigest(): size}
        receipts, reasons = [], []
        for pipe in pipes:
            try:
                receipts.append(self._verified(pipe.end(), sizes))
            except MillpondError as fault:
                reasons.append(fault.message)
        if not receipts:
            raise too_few(standing, size, reasons)
        receipts += self._pass_on(receipts[0].node, digest.hexdigest(), size, standing, receipts)
        if len(receipts) < needed:
            raise too_few(standing, size, reasons)
        return Poured(digest.hexdigest(), size, receipts)

    def mend(self, poured: Poured) -> Poured:
        """Let those that are still there pass an object on, since others were lost.

        Raises:
            BusyError: too few are left.
        """
        standing = self._standing()
        had = [each for each in poured.receipts if each.node in standing.living]
        for receipt in had:
            more = self._pass_on(receipt.node, poured.digest, poured.size, standing, had)
            if more:
                return Poured(poured.digest, poured.size, [*had, *more])
        raise too_few(standing, poured.size)

    def _pass_on(
        self, holder: str, digest: str, size: int, standing: Standing, had: Sequence[Receipt]
    ) -> list[Receipt]:
        """Let a holder push to others until there are enough; give what could be had."""
        places = {place.node: place for place in standing.places}
        nodes = {receipt.node for receipt in had}
        others = rules.rank(digest, standing.up, size=size, without=nodes)
        lacking = self._ledger.needed(rules.rank(digest, standing.up)) - len(had)
        found: list[Receipt] = []
        for place in others:
            if len(found) >= lacking:
                break
            onward = self._ledger.target(place, "PUT", digest, size)
            source = self._ledger.target(places[holder], "PUSH", digest)
            try:
                receipt = self._client.push(source, digest, onward, size)
                found.append(self._verified(receipt, {digest: size}))
            except MillpondError:
                continue
        return found

    def _gather(
        self, seed: str, size: int, send: Callable[[Place, float | None], Receipt]
    ) -> list[Receipt]:
        standing = self._standing()
        chosen = self._answering_first(rules.rank(seed, standing.up, size=size))
        needed, waiting = self._ledger.needed(chosen), iter(chosen)
        left = len(chosen)
        receipts: list[Receipt] = []
        reasons: list[str] = []
        slow: list[Place] = []
        while len(receipts) < needed:
            tried = list(islice(waiting, needed - len(receipts)))
            if not tried and slow:  # There is nobody else: now they are waited for.
                waiting, slow = iter(slow), []
                continue
            if not tried:
                raise too_few(standing, size, reasons)
            left = max(left - len(tried), 0)
            wait = receipt_seconds(size) if left else None
            sent = [(place, self._pool.submit(send, place, wait)) for place in tried]
            for place, future in sent:
                try:
                    receipts.append(future.result())
                except MillpondError as fault:
                    reasons.append(fault.message)
                    if wait is not None and isinstance(fault, NodeSilentError):
                        slow.append(place)
        return receipts

    def _answering_first(self, places: Sequence[Place]) -> list[Place]:
        return sorted(places, key=lambda place: self._client.is_silent(place.node))

    def _standing(self) -> Standing:
        return self._database.read(self._ledger.standing)

    def _verified(self, receipt: Receipt, sizes: dict[str, int]) -> Receipt:
        self._ledger.checker.check(receipt)
        if not sizes.items() <= dict(receipt.objects).items():
            raise NodeSilentError(
                f"The node {receipt.node!r} received other bytes than were sent.",
                next_step="Look at the node's memory and disk.",
            )
        return receipt

    def _pipe(self, place: Place) -> "_Pipe":
        target = self._ledger.target(place, "PUT", ANY, _ANY_SIZE)
        return _Pipe(place.node, lambda pieces: self._client.put(target, pieces))


class _CancelledError(Exception):
    """The sender gave up."""


class _Pipe:
    """Pieces on their way to one node, in a thread."""

    def __init__(self, node: str, put: Callable[[Iterator[bytes]], Receipt]) -> None:
        self._node, self._put = node, put
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING_PIECES)
        self._ended = threading.Event()
        self._is_cancelled = False
        self._receipt: Receipt | None = None
        self._fault: MillpondError | None = None
        self._thread = threading.Thread(target=self._work, name="millpond-pour", daemon=True)
        self._thread.start()

    @property
    def is_well(self) -> bool:
        return not self._ended.is_set()

    def send(self, piece: bytes) -> bool:
        """Hand a piece over; False when the node has failed."""
        while not self._ended.is_set():
            try:
                self._pieces.put(piece, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def end(self) -> Receipt:
        """Say that all was sent; give the receipt."""
        self.send_end()
        self._thread.join(_GIVE_UP_SECONDS)
        if self._fault is not None:
            raise self._fault
        if self._receipt is None:
            raise BusyError(f"The node {self._node!r} gave no receipt.", next_step="Try again.")
        return self._receipt

    def cancel(self) -> None:
        """Break off, so that the node keeps nothing."""
        self._is_cancelled = True
        self.send_end()
        self._thread.join(_GIVE_UP_SECONDS)

    def send_end(self) -> None:
        """Let the node see the end."""
        while not self._ended.is_set():
            try:
                self._pieces.put(None, timeout=0.5)
            except queue.Full:
                continue
            return

    def _work(self) -> None:
        try:
            self._receipt = self._put(self._given())
        except MillpondError as fault:
            self._fault = fault
        except _CancelledError:
            pass
        finally:
            self._ended.set()

    def _given(self) -> Iterator[bytes]:
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self._is_cancelled:
            raise _CancelledError


def _pieces(head: bytes, rest: BinaryIO) -> Iterator[bytes]:
    for start in range(0, len(head), PIECE_BYTES):
        yield head[start : start + PIECE_BYTES]
    while piece := rest.read(PIECE_BYTES):
        yield piece
