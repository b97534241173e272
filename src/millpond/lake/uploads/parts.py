"""Take in the bytes of uploads: kept part by part in the object store, joined when all are there.

Every part is an object of its own, so any server of several may take in the next one, and no part
is ever changed. The database says which parts count: of two senders of one place the first wins.
The sum over all that came is carried along by the server that took it in; another server, or the
same after a restart, reads the parts again when it joins them.
"""

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol, TypeVar, cast
from uuid import uuid4

from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotFoundError
from millpond.lake.contents import put_content
from millpond.lake.uploads import actions, rules
from millpond.lake.uploads.rules import Checksum
from millpond.lake.uploads.values import PARTS, Part, Upload, UploadAsked, part_prefix
from millpond.lake.values import LakeLimits, object_key
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore

T = TypeVar("T")
Hash = Any  # hashlib's own type has no public name.

PART_BYTES = 64 << 20
PART_SECONDS = 10.0
"""A part ends after so many bytes or so long: a killed server loses no more of an upload."""

SMALL_BYTES = 1 << 20
"""Up to here a file that comes at once is held in memory and needs no part."""

_CHUNK = 1 << 20
_HASHES_MOST = 4096
_ORPHAN_SECONDS = 86_400.0


class Caller(Protocol):
    """Whoever opens transactions."""

    def read(self, action: Callable[[Transaction], T]) -> T:
        """Run an action that only reads."""
        ...

    def change(self, action: Callable[[Transaction], T]) -> T:
        """Run an action that changes something."""
        ...


class Hashes:
    """Sums under way, by upload, so that what was read once need not be read again."""

    def __init__(self) -> None:
        """Know none."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, Hash]] = OrderedDict()

    def at(self, upload_id: str, offset: int) -> Hash | None:
        """Give a copy of the sum over the first ``offset`` bytes, if it is known."""
        if not offset:
            return hashlib.sha256()
        with self._lock:
            known, found = self._kept.get(upload_id, (-1, None))
        return found.copy() if found is not None and known == offset else None

    def keep(self, upload_id: str, offset: int, found: Hash | None) -> None:
        """Keep the sum over the first ``offset`` bytes, or forget it."""
        with self._lock:
            self._kept.pop(upload_id, None)
            if found is not None:
                self._kept[upload_id] = offset, found
            while len(self._kept) > _HASHES_MOST:
                self._kept.popitem(last=False)


class Intake:
    """Takes uploads in on one object store."""

    def __init__(
        self,
        objects: ObjectStore,
        limits: LakeLimits,
        part_bytes: int = PART_BYTES,
        part_seconds: float = PART_SECONDS,
    ) -> None:
        """Keep parts of at most ``part_bytes``, and what came in ``part_seconds`` and a piece."""
        self._objects = objects
        self._limits = limits
        self._part_bytes = part_bytes
        self._part_seconds = part_seconds
        self._hashes = Hashes()
        self._finishing: set[str] = set()
        self._finishing_lock = threading.Lock()

    def receive(
        self, caller: Caller, project_id: str, upload: Upload, body: BinaryIO,
        checksum: Checksum | None = None,
    ) -> Upload:  # fmt: skip
        """Take in what a body brings; give the upload as it stands then.

        What had come when the line broke is kept, but for bodies with a checksum: those count
        whole or not at all.

        Raises:
            ConflictError: another request has brought the same place first.
            TooLargeError: more came than was declared.
            WrongChecksumError: the body has another checksum; nothing of it is kept.
        """
        taking = _Taking(body, checksum, self._hashes.at(upload.id, upload.received_bytes))
        waiting: list[Part] = []
        offset = upload.received_bytes
        try:
            while offset < upload.size_bytes and not taking.is_at_end:
                most = min(self._part_bytes, upload.size_bytes - offset)
                taking.begin(most, self._part_seconds)
                head = _read_fully(taking, min(SMALL_BYTES, taking.left))
                if not head:
                    break
                if len(head) == upload.size_bytes:
                    taking.check_end(upload.size_bytes)
                    return self._keep_small(caller, project_id, upload, head, taking)
                part = self._store(project_id, upload.id, offset, head, taking)
                waiting.append(part)
                offset += part.size_bytes
                if offset == upload.size_bytes:
                    taking.check_end(upload.size_bytes)
                if checksum is None:
                    self._commit(caller, upload.id, waiting, taking.hashed)
                    waiting.clear()
            taking.check_end(upload.size_bytes)
            self._commit(caller, upload.id, waiting, taking.hashed)
            waiting.clear()
        finally:
            for part in waiting:
                self._objects.delete(part.object_key)
        if taking.fault is not None:
            raise taking.fault
        return self.finish(caller, project_id, _moved(upload, offset))

    def receive_whole(
        self, caller: Caller, actor: Actor, project_id: str, asked: UploadAsked, body: BinaryIO,
        checksum: Checksum | None = None,
    ) -> Upload:  # fmt: skip
        """Take in a small file that comes whole with its beginning: one object, one transaction.

        When the line breaks nothing is left, and nothing has begun.

        Raises:
            TooLargeError: more came than was declared.
            WrongChecksumError: the body has another checksum.
        """
        taking = _Taking(body, checksum, None)
        taking.begin(asked.size_bytes, math.inf)
        data = _read_fully(taking, asked.size_bytes)
        taking.check_end(asked.size_bytes)
        if len(data) != asked.size_bytes:
            raise taking.fault or rules.too_short(asked.size_bytes)
        digest = hashlib.sha256(data).hexdigest()
        self._objects.put_many([(object_key(project_id, digest), data)])
        limits = self._limits
        return caller.change(
            lambda tx: actions.make_upload(tx, actor, project_id, asked, limits, digest=digest)
        )

    def finish(self, caller: Caller, project_id: str, upload: Upload) -> Upload:
        """Join the parts of an upload of which every byte has come; again is fine.

        While another request does the same, the upload comes back as it is, without a digest.
        """
        if not upload.is_whole or upload.digest is not None:
            return upload
        with self._finishing_lock:
            if upload.id in self._finishing:
                return upload
            self._finishing.add(upload.id)
        try:
            return self._join(caller, project_id, upload)
        finally:
            self._finishing.discard(upload.id)

    def _join(self, caller: Caller, project_id: str, upload: Upload) -> Upload:
        parts = caller.read(lambda tx: actions.list_parts(tx, upload.id))
        try:
            found = self._hashes.at(upload.id, upload.size_bytes)
            digest = (found or _hash_of(_pieces(self._objects, parts))).hexdigest()
            joined = cast("BinaryIO", _Joined(_pieces(self._objects, parts)))
            put_content(self._objects, project_id, digest, joined, self._limits)
        except NotFoundError:
            return upload  # Another server has joined them meanwhile, or it was removed.
        caller.change(lambda tx: actions.settle_upload(tx, upload, digest, self._limits))
        self.forget(upload.id, parts)
        return _moved(upload, upload.size_bytes, digest)

    def forget(self, upload_id: str, parts: Iterable[Part]) -> None:
        """Delete the objects of parts that no upload names any more."""
        self._hashes.keep(upload_id, 0, None)
        for part in parts:
            self._objects.delete(part.object_key)

    def _keep_small(
        self, caller: Caller, project_id: str, upload: Upload, head: bytes, taking: "_Taking"
    ) -> Upload:
        """Store a content that has come whole and at once, without a part."""
        digest = (taking.hashed or hashlib.sha256(head)).hexdigest()
        self._objects.put_many([(object_key(project_id, digest), head)])
        caller.change(lambda tx: actions.settle_upload(tx, upload, digest, self._limits))
        return _moved(upload, upload.size_bytes, digest)

    def _store(
        self, project_id: str, upload_id: str, start: int, head: bytes, taking: "_Taking"
    ) -> Part:
        # The time tells the clearing how old a part is that no upload names.
        key = f"{part_prefix(project_id, upload_id)}{int(time.time())}-{uuid4().hex}"
        data = cast("BinaryIO", _Joined(_rest_of(head, taking)))
        # The key is new; saying so spares stores in S3's manner a copy.
        return Part(start, self._objects.put(key, data, overwrite=True), key)

    def _commit(
        self, caller: Caller, upload_id: str, parts: list[Part], hashed: Hash | None
    ) -> None:
        if not parts:
            return

        def keep(tx: Transaction) -> None:
            for part in parts:
                if not actions.keep_part(tx, upload_id, part, self._limits):
                    raise ConflictError(
                        "Another request has brought this part of the upload first.",
                        next_step="Ask with HEAD where it stands, and go on from there.",
                    )

        caller.change(keep)
        end = parts[-1].start + parts[-1].size_bytes
        self._hashes.keep(upload_id, end, None if hashed is None else hashed.copy())


class _Taking:
    """A body that is read up to a mark, summed up, and whose breaking off is an end."""

    def __init__(self, body: BinaryIO, checksum: Checksum | None, hashed: Hash | None) -> None:
        self.hashed = hashed
        self.fault: Exception | None = None
        self.is_at_end = False
        self.left = 0
        self._seconds = PART_SECONDS
        self._until: float | None = None
        self._body = body
        self._checksum = checksum
        self._summed = (
            None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        )

    def begin(self, most: int, seconds: float = PART_SECONDS) -> None:
        """Begin a part, which ends after so many bytes, or after so long and one piece."""
        self.left = most
        self._seconds = seconds
        self._until = None

    def read(self, size: int) -> bytes:
        is_late = self._until is not None and time.monotonic() > self._until
        if self.is_at_end or not self.left or is_late:
            return b""
        try:
            piece = self._body.read(min(size, self.left))
        except Exception as fault:  # noqa: BLE001 - the caller hung up, as a rule; raised later.
            self.fault, piece = fault, b""
        self.is_at_end = not piece
        self.left -= len(piece)
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        for one in (self.hashed, self._summed):
            if one is not None:
                one.update(piece)
        return piece

    def check_end(self, size: int) -> None:
        """Refuse a body that goes on where it should end, or is not what its checksum says."""
        self.begin(1)
        if self.read(1):
            raise rules.beyond(size)
        if self._checksum is not None and self._summed is not None:
            if self.fault is not None:
                raise self.fault
            self._checksum.check(self._summed)


class _Joined:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        size = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def drop_parts(objects: ObjectStore, keys: Iterable[str]) -> None:
    """Delete the objects of parts that no upload names any more."""
    for key in keys:
        objects.delete(key)


def clear(tx: Transaction, objects: ObjectStore) -> None:
    """Forget uploads whose time is over, and delete the parts that no upload names.

    A part that was never taken in, because its server died, is deleted when it is a day old.
    """
    expired, known, now = actions.remove_expired(tx), actions.known_keys(tx), tx.now.timestamp()

    def delete() -> None:
        drop_parts(objects, expired)
        for info in list(objects.list(PARTS)):
            stamp = info.key.rpartition("/")[2].partition("-")[0]
            is_old = stamp.isdecimal() and int(stamp) < now - _ORPHAN_SECONDS
            if is_old and info.key not in known:
                objects.delete(info.key)

    tx.after_commit(delete)


def _moved(upload: Upload, offset: int, digest: str | None = None) -> Upload:
    return Upload(**{**vars(upload), "received_bytes": offset, "digest": digest})


def _read_fully(taking: _Taking, size: int) -> bytes:
    pieces = []
    while size and (piece := taking.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _rest_of(head: bytes, taking: _Taking) -> Iterator[bytes]:
    yield head
    while piece := taking.read(_CHUNK):
        yield piece


def _pieces(objects: ObjectStore, parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield from objects.stream(part.object_key)


def _hash_of(pieces: Iterable[bytes]) -> Hash:
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    return hashed
