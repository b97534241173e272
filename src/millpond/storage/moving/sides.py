"""The two ends of a move: what is to be read, written, verified and removed at a store."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from millpond.ground.errors import BusyError, MillpondError, NotFoundError
from millpond.storage.database import Transaction
from millpond.storage.folder import FolderStore
from millpond.storage.moving.home import MARKER
from millpond.storage.nodes import rules, store
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import COPIES, Place
from millpond.storage.port import ObjectInfo, ObjectStore

_THREADS = 8
_NO_DIGEST = "0" * 64


class Side(Protocol):
    """A store, as a move sees it."""

    @property
    def objects(self) -> ObjectStore:
        """The store."""
        ...

    def list(self) -> Iterator[ObjectInfo]:
        """Give all that is to be moved, or was, in the order of the keys."""
        ...

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> None:
        """Leave an object.

        Raises:
            ConflictError: the key is there.
        """
        ...

    def put_many(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Leave small objects; keys that are there are left as they are."""
        ...

    def digests(self, keys: Collection[str]) -> dict[str, str]:
        """Give the sha256 of what lies under keys, by the bytes that the store gives back."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object."""
        ...

    def check(self) -> None:
        """Try whether it can be written and read.

        Raises:
            MillpondError: it cannot.
        """
        ...

    def check_reading(self) -> None:
        """Try whether it answers at all, and write nothing.

        Raises:
            MillpondError: it does not.
        """
        ...

    def room(self) -> int | None:
        """Give how many bytes fit; None where nobody knows."""
        ...


class PlainSide:
    """A folder or an S3 service."""

    def __init__(
        self,
        objects: ObjectStore,
        folder: Path | None = None,
        leave_out: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Use a store.

        Args:
            objects: the store.
            folder: where it lies on this machine, to tell the space left there.
            leave_out: which keys are none of the move's business.
        """
        self.objects = objects
        self._folder, self._leave_out = folder, leave_out

    def list(self) -> Iterator[ObjectInfo]:
        """List the store, but for the mark that names it."""
        for info in self.objects.list(""):
            if info.key != MARKER and not self._leave_out(info.key):
                yield info

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> None:
        """Put it."""
        self.objects.put(key, data, overwrite=overwrite)

    def put_many(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Put them."""
        self.objects.put_many(objects)

    def digests(self, keys: Collection[str]) -> dict[str, str]:
        """Read everything back."""
        with ThreadPoolExecutor(min(_THREADS, max(1, len(keys))), "millpond-move") as pool:
            found = zip(keys, pool.map(self._digest, keys), strict=True)
            return {key: digest for key, digest in found if digest}

    def delete(self, key: str) -> None:
        """Delete it."""
        self.objects.delete(key)

    def check(self) -> None:
        """Write something, read it back and remove it."""
        key, data = f"move-{uuid4().hex}", uuid4().bytes
        try:
            self.objects.put(key, data)
            came = self.objects.get(key)
        finally:
            with suppress(MillpondError):
                self.objects.delete(key)
        if came != data:
            raise BusyError(
                "The store gives back other bytes than were written.",
                next_step="Have whoever looks after it mend it first.",
            )

    def check_reading(self) -> None:
        """List something."""
        next(iter(self.objects.list("")), None)

    def room(self) -> int | None:
        """Ask the file system."""
        if self._folder is None:
            return None
        facts = os.statvfs(self._folder)
        return facts.f_bavail * facts.f_frsize

    def _digest(self, key: str) -> str:
        counted = hashlib.sha256()
        try:
            for piece in self.objects.stream(key):
                counted.update(piece)
        except NotFoundError:
            return ""
        return counted.hexdigest()


class NodesSide(PlainSide):
    """The data disks of the nodes; a name that is deleted leaves its bytes for a day."""

    def __init__(
        self,
        objects: NodeStore,
        leave_out: Callable[[str], bool] = lambda _: False,
        *,
        needed: int = COPIES,
    ) -> None:
        """Use a store, whose ledger takes nodes for up that were heard at any time.

        Args:
            objects: the store.
            leave_out: which keys are none of the move's business.
            needed: how many nodes there must be.
        """
        super().__init__(objects, leave_out=leave_out)
        self._objects, self._needed = objects, needed

    def digests(self, keys: Collection[str]) -> dict[str, str]:
        """Give what two nodes have each counted while they wrote, and signed for."""

        def find(tx: Transaction) -> dict[str, str]:
            named = store.find_names(tx, keys)
            copies = store.replicas_of(tx, {digest for digest, _ in named.values()})
            known = {place.node for place in store.list_places(tx)}
            held = {
                digest
                for digest, nodes in copies.items()
                if sum(node in known and state == "ok" for node, state in nodes) >= self._needed
            }
            return {key: digest for key, (digest, _) in named.items() if digest in held}

        found = self._objects.database.read(find)
        logs = [key for key in keys if rules.is_log(key)]
        return found | super().digests(logs) if logs else found

    def check(self) -> None:
        """Ask every node whether it is there.

        Raises:
            BusyError: too few are; each is named.
        """
        self._check_up(self._needed)

    def check_reading(self) -> None:
        """Ask whether any node is there."""
        self._check_up(1)

    def room(self) -> int | None:
        """Give how much fits twice, on two different disks."""
        free = sorted(place.free_bytes for place in self._places() if not self._state(place))
        if self._needed == 1:
            return sum(free)
        return min(sum(free) // COPIES, sum(free[:-1]))

    def _check_up(self, needed: int) -> None:
        states = {place.node: self._state(place) for place in self._places()}
        if sum(1 for state in states.values() if not state) < needed:
            told = ", ".join(f"{node} {state or 'is up'}" for node, state in states.items())
            raise BusyError(
                f"{needed} nodes with a data disk must be up. Nodes: {told or 'none is known'}.",
                next_step="Add nodes with a data disk (`millpond node add`, `--data-disk PATH`), or"
                " look at them with `millpond node doctor`; have the server run for a minute, so"
                " that it hears of their disks; then try again.",
            )

    def _places(self) -> Sequence[Place]:
        return self._objects.database.read(self._objects.ledger.standing).places

    def _state(self, place: Place) -> str:
        if not place.is_ok:
            return f"is lost ({place.reason})"
        if place.is_draining:
            return "is being emptied"
        target = self._objects.ledger.target(place, "CHECK", _NO_DIGEST)
        try:
            self._objects.client.check(target, _NO_DIGEST)
        except MillpondError as fault:
            return f"does not answer ({fault.message})"
        return ""


class LogFolder(FolderStore):
    """The host's folder with nothing but logs in it, as a store on nodes sees it in a move.

    What else lies there is the other end of the move, which must not count as being there already,
    nor go when a name does.
    """

    def exists(self, key: str) -> bool:
        """Tell of logs."""
        return rules.is_log(key) and super().exists(key)

    def delete(self, key: str) -> None:
        """Remove a log."""
        if rules.is_log(key):
            super().delete(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Give the logs."""
        return (info for info in super().list(prefix, after) if rules.is_log(info.key))
