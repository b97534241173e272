"""Copy every object from one store to another and verify it, so that any end can be gone on from.

What was copied and verified is kept in a journal. While a server uses the source, all that lies
there is copied ahead; with the server stopped the rest follows, what was deleted since goes, and
both lists are compared before anybody is told that all is there.
"""

import hashlib
import heapq
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import BinaryIO, cast

from millpond.ground.errors import ConflictError, MillpondError
from millpond.storage.moving.journal import Copied, Journal
from millpond.storage.moving.sides import Side
from millpond.storage.moving.values import Damaged, OnStep, Step
from millpond.storage.port import ObjectInfo

log = logging.getLogger("millpond.storage")

_SMALL_BYTES, _BATCH_BYTES, _BATCH = 1 << 20, 16 << 20, 500
_THREADS = 8
_IN_A_ROW = 20
_SHOWN = 5


OnBytes = Callable[[int], None]


class SourceError(Exception):
    """An object cannot be read, or is not what its key says."""


class Mover:
    """Copies from one side to the other; safe to be ended at any moment and called again."""

    def __init__(
        self,
        source: Side,
        target: Side,
        journal: Journal,
        *,
        digest_in: Callable[[str], str],
    ) -> None:
        """Move from ``source`` to ``target``.

        Args:
            source: where the objects lie.
            target: where they are to lie.
            journal: of this very move.
            digest_in: gives the sha256 that a key says its bytes have; empty when it says none.
        """
        self._source, self._target, self._journal = source, target, journal
        self._digest_in = digest_in
        self._damaged: dict[str, str] = {}
        self._in_a_row = 0
        self.copied = 0

    @property
    def damaged(self) -> tuple[Damaged, ...]:
        """What could not be copied by this call."""
        return tuple(Damaged(*each) for each in sorted(self._damaged.items()))

    def survey(self) -> tuple[int, int, int, int]:
        """Count objects and bytes of the source, and of these what is still to be copied."""
        objects = size = left = left_bytes = 0
        for info in self._source.list():
            objects, size = objects + 1, size + info.size
            if not self._is_copied(info):
                left, left_bytes = left + 1, left_bytes + info.size
        return objects, size, left, left_bytes

    def check_strangers(self) -> None:
        """Refuse a target that holds what is none of this installation's.

        Raises:
            ConflictError: it does.
        """
        strange = []
        for key, (there, here) in merged(self._source.list(), self._target.list()):
            if there is None and here is not None and self._journal.find(key) is None:
                strange.append(key)
                if len(strange) > _SHOWN:
                    break
        if strange:
            raise ConflictError(
                f"The target holds other objects already: {', '.join(strange[:_SHOWN])}"
                + (" and more." if len(strange) > _SHOWN else "."),
                next_step="Take an empty folder, or an empty bucket, or a prefix of its own"
                " (objects.prefix); nothing was changed.",
            )

    def copy(self, on_step: OnStep) -> None:
        """Copy and verify all that is not there yet; what is damaged is named and left out.

        Raises:
            MillpondError: the target refuses, or the source does not answer at all.
        """
        _, total, _, left = self.survey()
        done = total - left
        on_step(Step("Copying", done, total, "bytes"))
        for batch in self._batches():
            if len(batch) == 1 and batch[0].size > _SMALL_BYTES:
                self._copy_large(batch[0], lambda size, done=done: on_step(  # type: ignore[misc]
                    Step("Copying", done + size, total, "bytes")))  # fmt: skip
            else:
                self._copy_small(batch)
            done += sum(info.size for info in batch)
            on_step(Step("Copying", done, max(done, total), "bytes"))

    def settle(self, on_step: OnStep, check_source: Callable[[], None]) -> list[str]:
        """Remove what was deleted at the source since, and compare both sides; give what lacks.

        To be called when nobody writes to the source any more. A disk that was unmounted looks
        like one from which all was deleted, so nothing goes before ``check_source`` has passed.
        """
        on_step(Step("Comparing both stores", 0, 0, "objects"))
        wrong: list[str] = []
        gone: list[str] = []
        for number, (key, (there, here)) in enumerate(
            merged(self._source.list(), self._target.list())
        ):
            if there is None:
                if self._journal.find(key) is not None:
                    gone.append(key)
            elif key not in self._damaged and (
                here is None or here.size != there.size or not self._is_copied(there)
            ):
                self._journal.drop(key)
                wrong.append(key)
            if number % 1000 == 0:
                on_step(Step("Comparing both stores", number, 0, "objects"))
        check_source()
        for key in gone:
            self._target.delete(key)
            self._journal.drop(key)
        return wrong

    # Within ------------------------------------------------------------------------------------

    def _is_copied(self, info: ObjectInfo) -> bool:
        known = self._journal.find(info.key)
        return known is not None and (known.size, known.stamp) == (info.size, info.stamp)

    def _batches(self) -> Iterator[list[ObjectInfo]]:
        """Give what is to be copied: many small objects together, each large one by itself."""
        batch: list[ObjectInfo] = []
        size = 0
        for info in self._source.list():
            if self._is_copied(info):
                continue
            if info.size > _SMALL_BYTES:
                yield [info]
                continue
            if len(batch) >= _BATCH or size + info.size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(info)
            size += info.size
        if batch:
            yield batch

    def _copy_small(self, batch: Sequence[ObjectInfo]) -> None:
        with ThreadPoolExecutor(_THREADS, "millpond-move") as pool:
            read = list(pool.map(self._read, batch))
        good: dict[str, tuple[ObjectInfo, bytes, str]] = {}
        for info, data in zip(batch, read, strict=True):
            if isinstance(data, Exception):
                if not self._is_good_there(info):
                    self._set_aside(info.key, data)
            else:
                good[info.key] = info, data, hashlib.sha256(data).hexdigest()
                self._in_a_row = 0
        self._target.put_many([(key, data) for key, (_, data, _) in good.items()])
        found = self._target.digests(good)
        for key, (_, data, digest) in good.items():
            if found.get(key) != digest:  # It was there, and other.
                self._target.put(key, data, overwrite=True)
                found |= self._target.digests([key])
        self._note(
            Copied(key, info.size, digest, info.stamp)
            for key, (info, _, digest) in good.items()
            if self._is_verified(key, digest, found)
        )

    def _read(self, info: ObjectInfo) -> bytes | Exception:
        """Read a small object; give the fault, if it cannot be read or is damaged."""
        try:
            data = b"".join(self._source.objects.stream(info.key))
            self._check(info, len(data), hashlib.sha256(data).hexdigest())
        except (MillpondError, OSError, SourceError) as fault:
            return fault
        return data

    def _is_good_there(self, info: ObjectInfo) -> bool:
        """Tell whether the target holds what the key says, whatever became of the source's."""
        named = self._digest_in(info.key)
        if not named or self._target.digests([info.key]).get(info.key) != named:
            return False
        self._note([Copied(info.key, info.size, named, info.stamp)])
        return True

    def _copy_large(self, info: ObjectInfo, on_bytes: OnBytes) -> None:
        key = info.key
        if self._is_good_there(info):
            return
        there = self._target.digests([key]).get(key)
        if there is not None:
            # From a copy that was cut off, or that was kept: read it rather than send it again.
            hashed = _Hashed(lambda: self._source.objects.stream(key), on_bytes)
            if not self._is_sound(info, hashed, hashed.read_through):
                return
            if hashed.digest == there:
                self._note([Copied(key, info.size, there, info.stamp)])
                return
        hashed = _Hashed(lambda: self._source.objects.stream(key), on_bytes)
        file, overwrite = cast("BinaryIO", hashed), self._target.objects.exists(key)
        if not self._is_sound(
            info, hashed, lambda: self._target.put(key, file, overwrite=overwrite)
        ):
            self._target.delete(key)  # Damaged bytes may lie there by now.
        elif self._is_verified(key, hashed.digest, self._target.digests([key])):
            self._note([Copied(key, info.size, hashed.digest, info.stamp)])

    def _is_sound(self, info: ObjectInfo, hashed: "_Hashed", action: Callable[[], None]) -> bool:
        """Do what reads the source; False, with the object set aside, when it is damaged."""
        try:
            action()
            self._check(info, hashed.size, hashed.digest)
        except Exception as fault:
            # A store may tell a fault of its source in words of its own.
            found = fault if isinstance(fault, SourceError) else hashed.fault
            if found is None:
                raise
            self._set_aside(info.key, found)
            return False
        self._in_a_row = 0
        return True

    def _check(self, info: ObjectInfo, size: int, digest: str) -> None:
        """Refuse bytes that are not what the source's list or the key says."""
        if size != info.size:
            raise SourceError(f"{size:,} bytes came of {info.size:,}")
        if self._digest_in(info.key) not in ("", digest):
            raise SourceError(f"its bytes do not match its key: their sha256 is {digest}")

    def _is_verified(self, key: str, digest: str, found: dict[str, str]) -> bool:
        if found.get(key) == digest:
            return True
        self._damaged[key] = "the target gave other bytes back than were written"
        return False

    def _note(self, copied: Iterable[Copied]) -> None:
        done = list(copied)
        self._journal.add(done)
        self.copied += len(done)
        for each in done:
            self._damaged.pop(each.key, None)

    def _set_aside(self, key: str, fault: Exception) -> None:
        reason = fault.message if isinstance(fault, MillpondError) else str(fault)
        if not self._source.objects.exists(key):
            return  # It was deleted meanwhile.
        log.warning("The object %s cannot be moved: %s", key, reason)
        self._damaged[key] = reason
        self._journal.drop(key)
        self._in_a_row += 1
        if self._in_a_row % _IN_A_ROW == 0:
            self._source.check_reading()  # It may be the store that fails, not one object.


class _Hashed(io.RawIOBase):
    """The source's bytes as a file that hashes what passes; its faults are the source's."""

    def __init__(self, stream: Callable[[], Iterator[bytes]], on_bytes: OnBytes) -> None:
        super().__init__()
        self._pieces = self._read_all(stream)
        self.fault: SourceError | None = None
        self._on_bytes = on_bytes
        self._left = memoryview(b"")
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Sha256 of all that passed."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        size = len(self._left) if size < 0 else size
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        self._hash.update(taken)
        self.size += len(taken)
        self._on_bytes(self.size)
        return taken

    def read_through(self) -> None:
        """Read all, only to hash it."""
        while self.read(1 << 20):
            pass

    def _read_all(self, stream: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        try:
            yield from (piece for piece in stream() if piece)
        except (MillpondError, OSError) as fault:
            told = fault.message if isinstance(fault, MillpondError) else str(fault)
            self.fault = SourceError(told)
            raise self.fault from fault


Pair = tuple[ObjectInfo | None, ObjectInfo | None]


def merged(
    source: Iterable[ObjectInfo], target: Iterable[ObjectInfo]
) -> Iterator[tuple[str, Pair]]:
    """Give each key once, in order, with what either side knows of it."""
    marked = heapq.merge(
        ((info.key, 0, info) for info in source),
        ((info.key, 1, info) for info in target),
        key=lambda each: (each[0], each[1]),
    )
    for key, same in groupby(marked, key=lambda each: each[0]):
        sides = {side: info for _, side, info in same}
        yield key, (sides.get(0), sides.get(1))
