"""The object store on the nodes: names in our database, bytes on two data disks each.

Chunks of logs stay in a folder of the host, and so does what lay there before an installation moved
its objects to the nodes: such keys are still read there.
"""

import hashlib
import heapq
import io
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from millpond.ground.errors import BusyError, ConflictError, InvalidError
from millpond.storage.database import Database, Transaction
from millpond.storage.folder import FolderStore
from millpond.storage.nodes import rules, store
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import BATCH_BYTES, BATCH_OBJECTS, NodeClient
from millpond.storage.nodes.copying import Copier, Poured
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.reading import WHOLE_BYTES, Reader
from millpond.storage.nodes.values import Found
from millpond.storage.port import Method, ObjectInfo, check_key, is_there

_PAGE = 1000
_TRIES = 3
_SHORTAGE_SECONDS = 2.0


class NodeStore:
    """Objects on the nodes' data disks; see the port for what is promised."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        client: NodeClient,
        host: FolderStore,
        cache: HostCache,
    ) -> None:
        """Keep names in ``database``, logs in ``host`` and what was fetched in ``cache``."""
        self.ledger, self.client, self.database = ledger, client, database
        self.reader = Reader(database, ledger, client, cache)
        self._host, self._cache = host, cache
        self._copier = Copier(database, ledger, client)
        self._shortage = ("", -_SHORTAGE_SECONDS)

    def close(self) -> None:
        """Close every connection and thread."""
        self._copier.close()
        self.client.close()

    def shortage(self) -> str:
        """Say why outputs of tasks wait to be kept; empty when they need not."""
        words, at = self._shortage
        if time.monotonic() - at > _SHORTAGE_SECONDS:
            words = self.database.read(self.ledger.shortage)
            self._shortage = (words, time.monotonic())
        return words

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> int:
        """Leave bytes on two nodes, then name them in one transaction."""
        check_key(key)
        if rules.is_log(key):
            return self._host.put(key, data, overwrite=overwrite)
        if not overwrite and self.exists(key):
            raise is_there(key)
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        head = _read_fully(file, WHOLE_BYTES + 1)
        if len(head) > WHOLE_BYTES:
            return self._put_large(key, head, file, overwrite=overwrite)
        digest = hashlib.sha256(head).hexdigest()
        if not self._name_known(key, digest, len(head), overwrite=overwrite):
            poured = Poured(digest, len(head), self._copier.leave(digest, head))
            self._settle(key, poured, overwrite=overwrite)
        return len(head)

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Send batches: one call to each of two nodes, one transaction."""
        batch: dict[str, bytes] = {}
        size = 0
        for key, data in objects:
            check_key(key)
            if rules.is_log(key):
                self._host.put_many([(key, data)])
            elif len(data) > WHOLE_BYTES:
                if not self.exists(key):
                    self._put_quietly(key, data)
            elif key not in batch:
                if len(batch) >= BATCH_OBJECTS or size + len(data) > BATCH_BYTES:
                    self._put_batch(batch)
                    batch, size = {}, 0
                batch[key] = data
                size += len(data)
        if batch:
            self._put_batch(batch)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a range from the cache or from a node."""
        found = self._find(key)
        if found is None:
            return self._host.get(key, start, length)
        return b"".join(self.reader.stream(key, found, start, length))

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read as ``get`` does, piece by piece, with the next node when one fails."""
        found = self._find(key)
        if found is None:
            return self._host.stream(key, start, length)
        return self.reader.stream(key, found, start, length)

    def stat(self, key: str) -> ObjectInfo:
        """Ask the database."""
        name = self._name(key)
        return self._host.stat(key) if name is None else ObjectInfo(key, name[1])

    def exists(self, key: str) -> bool:
        """Ask the database."""
        return self._name(key) is not None or self._host.exists(key)

    def delete(self, key: str) -> None:
        """Remove the name; the bytes go when no other name has come for a day."""
        check_key(key)
        if not rules.is_log(key):
            self.database.change(lambda tx: store.drop_name(tx, key))
        self._host.delete(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Merge the database's names with the host's."""
        merged = heapq.merge(
            self._list_names(prefix, after),
            self._host.list(prefix, after),
            key=lambda info: info.key,
        )
        for _, same in groupby(merged, key=lambda info: info.key):
            yield next(same)

    def sign(self, key: str, *, method: Method = "GET", seconds: int = 3600) -> str:
        """Give an address of our own route, which fetches from the nodes."""
        return self._host.sign(key, method=method, seconds=seconds)

    def is_signed(self, method: str, key: str, expires: int, signature: str) -> bool:
        """Tell whether ``sign`` gave this signature out and it still holds."""
        return self._host.is_signed(method, key, expires, signature)

    def local_path(self, key: str) -> Path | None:
        """Give the file when it lies on the host, or was fetched lately."""
        name = self._name(key)
        if name is not None:
            return self._cache.hold(name[0])
        return self._host.local_path(key)

    def holds(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Give, by key, how many of its bytes lie on which living node."""

        def read(tx: Transaction) -> dict[str, dict[str, int]]:
            living = self.ledger.standing(tx).living
            return {
                key: {node: found.size for node in found.nodes if node in living}
                for key, found in self.ledger.find(tx, keys).items()
            }

        return self.database.read(read)

    # Within ------------------------------------------------------------------------------------

    def _name(self, key: str) -> tuple[str, int] | None:
        check_key(key)
        if rules.is_log(key):
            return None
        return self.database.read(lambda tx: store.find_names(tx, [key])).get(key)

    def _find(self, key: str) -> Found | None:
        check_key(key)
        if rules.is_log(key):
            return None
        return self.database.read(lambda tx: self.ledger.find(tx, [key])).get(key)

    def _list_names(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        while True:
            since = after
            page = self.database.read(
                lambda tx, since=since: store.list_names(tx, prefix, since, _PAGE)  # type: ignore[misc]
            )
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _put_large(self, key: str, head: bytes, file: BinaryIO, *, overwrite: bool) -> int:
        poured = self._copier.pour(head, file)
        self._settle(key, poured, overwrite=overwrite)
        return poured.size

    def _name_known(self, key: str, digest: str, size: int, *, overwrite: bool) -> bool:
        """Name bytes that lie on two living nodes already; False when they do not."""
        if not self._sizes([digest]):
            return False

        def name(tx: Transaction) -> bool:
            if not self.ledger.known(tx, [digest]):
                return False
            self._add_name(tx, key, digest, size, overwrite=overwrite)
            return True

        return self.database.change(name)

    def _settle(self, key: str, poured: Poured, *, overwrite: bool) -> None:
        """Name what nodes have signed for; when one of them is lost since, another takes part."""
        for left in reversed(range(_TRIES)):

            def commit(tx: Transaction, poured: Poured = poured) -> None:
                self.ledger.keep(tx, {poured.digest: poured.size}, poured.receipts)
                self._add_name(tx, key, poured.digest, poured.size, overwrite=overwrite)

            try:
                return self.database.change(commit)
            except InvalidError as fault:
                if not left:
                    raise BusyError(
                        fault.message, next_step="Try again.", retry_after_seconds=5.0
                    ) from fault
                poured = self._copier.mend(poured)
        return None

    def _add_name(
        self, tx: Transaction, key: str, digest: str, size: int, *, overwrite: bool
    ) -> None:
        for _ in range(_TRIES if overwrite else 1):
            if overwrite:
                store.drop_name(tx, key)
            if store.add_names(tx, {key: (digest, size)}):
                return
        raise is_there(key)

    def _put_quietly(self, key: str, data: bytes) -> None:
        with suppress(ConflictError):
            self.put(key, data)

    def _put_batch(self, batch: Mapping[str, bytes]) -> None:
        """Send what is new of a batch to two nodes, then name all of it in one transaction."""
        there = self.database.read(lambda tx: store.find_names(tx, batch))
        left = {
            key: (hashlib.sha256(data).hexdigest(), data)
            for key, data in batch.items()
            if key not in there and not self._host.exists(key)
        }
        reason = ""
        for number in range(_TRIES):
            if not left:
                return
            objects = dict(left.values())
            # What is known lies on two nodes as a rule; if not, all is sent the next time.
            known = set() if number else set(self._sizes(objects))
            fresh = {digest: data for digest, data in objects.items() if digest not in known}
            try:
                done = self._name_batch(left, known, fresh)
            except InvalidError as fault:
                reason = fault.message
            else:
                left = {key: entry for key, entry in left.items() if key not in done}
        if left:
            raise BusyError(
                reason or "The nodes changed while objects were stored.",
                next_step="Try again.",
                retry_after_seconds=5.0,
            )

    def _name_batch(
        self, left: Mapping[str, tuple[str, bytes]], known: set[str], fresh: dict[str, bytes]
    ) -> set[str]:
        receipts = self._copier.leave_many(fresh) if fresh else []

        def commit(tx: Transaction) -> set[str]:
            held = self.ledger.known(tx, known) if known else set()
            if fresh:
                self.ledger.keep(tx, {each: len(data) for each, data in fresh.items()}, receipts)
            names = {
                key: (digest, len(data))
                for key, (digest, data) in left.items()
                if digest in held or digest in fresh
            }
            store.add_names(tx, names)
            return set(names)

        return self.database.change(commit)

    def _sizes(self, digests: Iterable[str]) -> dict[str, int]:
        return self.database.read(lambda tx: store.sizes_of(tx, digests))


def _read_fully(file: BinaryIO, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
