"""Read from any node that holds a good copy; when one fails, go on with the next."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from millpond.ground.errors import BusyError, MillpondError
from millpond.storage.database import Database, Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.cache import HostCache, read_pieces
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.values import Found, Target

WHOLE_BYTES = 8 << 20
"""Objects up to this size are fetched whole and checked before a byte is given."""


class Reader:
    """Reads objects by digest, over the host's cache."""

    def __init__(
        self, database: Database, ledger: Ledger, client: NodeClient, cache: HostCache
    ) -> None:
        """Ask ``ledger`` who holds what, and fetch with ``client``."""
        self._database, self._ledger, self._client = database, ledger, client
        self._cache = cache
        self.on_bad: Callable[[], None] = lambda: None
        """Told when a copy turned out damaged or missing."""

    def stream(self, key: str, found: Found, start: int, length: int | None) -> Iterator[bytes]:
        """Give a range of an object piece by piece.

        The bytes of a whole object are checked: a small one before its first byte is given, a
        large one before its last.

        Raises:
            BusyError: no node that holds it answers, or its copy is damaged.
        """
        cached = self._cache.open(found.digest)
        if cached is not None:
            return read_pieces(cached, start, length)
        end = found.size if length is None else min(found.size, start + length)
        if start >= end:
            return iter(())
        if found.size <= WHOLE_BYTES:
            return iter((self._whole(key, found)[start:end],))
        if end - start == found.size:
            return self._checked(key, found)
        return self._ranged(key, found, start, end, [])

    def _whole(self, key: str, found: Found) -> bytes:
        reasons: list[str] = []
        for target in self._targets(found):
            try:
                with self._client.reading(target, found.digest) as pieces:
                    data = b"".join(_at_most(pieces, found.size))
            except MillpondError as fault:
                self._note(target, found.digest, fault)
                reasons.append(fault.message)
                continue
            if hashlib.sha256(data).hexdigest() == found.digest:
                self._cache.put(found.digest, data)
                return data
            self._mark(target.node, found.digest)
            reasons.append(f"The copy on {target.node!r} is damaged.")
        raise _away(key, found, reasons)

    def _checked(self, key: str, found: Found) -> Iterator[bytes]:
        digest, last = hashlib.sha256(), b""
        served: list[str] = []
        with ExitStack() as stack:
            filling = None
            if self._cache.takes(found.size):
                filling = stack.enter_context(self._cache.adding(found.digest))
            for piece in self._ranged(key, found, 0, found.size, served):
                if last:
                    yield last
                digest.update(piece)
                last = piece
                if filling is not None:
                    filling.write(piece)
            if digest.hexdigest() != found.digest:
                for node in served:
                    self._mark(node, found.digest)
                raise _away(key, found, [f"The copy on {' or '.join(served)} is damaged."])
            if filling is not None:
                filling.end()
            yield last

    def _ranged(
        self, key: str, found: Found, start: int, end: int, served: list[str]
    ) -> Iterator[bytes]:
        reasons: list[str] = []
        for target in self._targets(found):
            try:
                with self._client.reading(target, found.digest, start, end - start) as pieces:
                    served.append(target.node)
                    for piece in _at_most(pieces, end - start):
                        start += len(piece)
                        yield piece
            except MillpondError as fault:
                self._note(target, found.digest, fault)
                reasons.append(fault.message)
                continue
            if start >= end:
                return
            reasons.append(f"The node {target.node!r} gave too few bytes.")
            self._mark(target.node, found.digest)
        raise _away(key, found, reasons)

    def _targets(self, found: Found) -> list[Target]:
        def read(tx: Transaction) -> list[Target]:
            standing = self._ledger.standing(tx)
            places = {place.node: place for place in standing.places}
            return [
                self._ledger.target(places[node], "GET", found.digest)
                for node in sorted(found.nodes, key=self._client.is_silent)
                if node in places
            ]

        return self._database.read(read)

    def _note(self, target: Target, digest: str, fault: MillpondError) -> None:
        if fault.status == 404:  # noqa: PLR2004 - the node says that it is not there.
            self._mark(target.node, digest)

    def _mark(self, node: str, digest: str) -> None:
        self._database.change(lambda tx: store.mark_replica(tx, digest, node, "bad", "ok"))
        self.on_bad()


def _at_most(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Give what was asked for; a node that goes on and on is not listened to."""
    for piece in pieces:
        yield piece[:size]
        size -= len(piece)
        if size < 0:
            return


def _away(key: str, found: Found, reasons: Sequence[str]) -> BusyError:
    where = ", ".join(found.nodes) or "nodes that are gone"
    return BusyError(
        f"No good copy of {key!r} can be reached; it lies on {where}. " + " ".join(reasons),
        next_step="It goes on by itself when one of these nodes is back. If they are lost for"
        " good, run again what produced it, or push the data again.",
        retry_after_seconds=5.0,
        key=key,
        nodes=list(found.nodes),
    )
