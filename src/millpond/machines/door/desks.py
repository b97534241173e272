"""Where a node fetches an object and leaves a new one, by the kind of store there is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError
from millpond.storage.database import Transaction
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.client import batch_frame
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import Receipt
from millpond.storage.port import ObjectStore

_SECONDS = 3600


@dataclass(frozen=True)
class NewObject:
    """What a node wants to leave.

    Attributes:
        key: under which key.
        size: in bytes.
        digest: sha256, in hexadecimal.
    """

    key: str
    size: int
    digest: str


@dataclass(frozen=True)
class Stored:
    """Where an object lies.

    Attributes:
        size: in bytes; None when the store was not asked.
        digest: sha256, in hexadecimal; empty when it is not known.
        sources: each ``{url}``, or ``{node, url, token}`` on a node; good ones first. A URL that
            begins with a slash is one of the door's.
    """

    size: int | None
    digest: str
    sources: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Desk(Protocol):
    """Tells nodes where bytes lie and go. Whether they may was asked before."""

    def find(self, keys: Sequence[str], node: str) -> Mapping[str, Stored]:
        """Tell where objects lie, for this node; those that are not there are left out."""
        ...

    def place(self, new: Sequence[NewObject], node: str) -> Mapping[str, Any]:
        """Tell where this node leaves new objects; several are for one call to each place.

        Its ``kind`` is ``nodes`` or ``address``; ``each`` where several have to go one by one.

        Raises:
            BusyError: there is no room, or there are too few nodes.
        """
        ...

    def commit(
        self, new: Sequence[NewObject], receipts: Sequence[Mapping[str, Any]], node: str
    ) -> None:
        """Take names for bytes that were left; again with the same digests is fine.

        Raises:
            ConflictError: a key is taken by other bytes.
            InvalidError: the bytes are not there, or too few receipts are good.
        """
        ...


class AddressDesk:
    """For a folder, whose bytes come through the door, and for S3, which nodes reach by itself."""

    def __init__(self, objects: ObjectStore, prefix: str = "") -> None:
        """Give addresses that this store signs; a folder's stand below this prefix at the door."""
        self._objects, self._prefix = objects, prefix
        self._is_ours = isinstance(objects, FolderStore | NodeStore)

    def find(self, keys: Sequence[str], node: str) -> Mapping[str, Stored]:
        """Sign an address for each; S3 is not asked first, since that would take a while."""
        del node
        found = {}
        for key in keys:
            size = None
            if self._is_ours:
                try:
                    size = self._objects.stat(key).size
                except NotFoundError:
                    continue
            found[key] = Stored(size, "", [{"url": self._address(key, "GET")}])
        return found

    def place(self, new: Sequence[NewObject], node: str) -> Mapping[str, Any]:
        """Sign an address to leave it at; it takes one object."""
        del node
        if len(new) > 1:
            return {"kind": "each"}
        return {"kind": "address", "url": self._address(new[0].key, "PUT")}

    def commit(
        self, new: Sequence[NewObject], receipts: Sequence[Mapping[str, Any]], node: str
    ) -> None:
        """See that they lie there."""
        del receipts, node
        for each in new:
            self._check(each)

    def _check(self, new: NewObject) -> None:
        try:
            size = self._objects.stat(new.key).size
        except NotFoundError as fault:
            raise InvalidError(
                f"The object {new.key!r} was not left.",
                next_step="Leave its bytes first.",
                faults=[Fault("key", "holds nothing")],
            ) from fault
        if size != new.size:
            raise ConflictError(
                f"The object {new.key!r} has {size} bytes where {new.size} were said.",
                next_step="Another try had left it; run the task again.",
                key=new.key,
            )

    def _address(self, key: str, method: Any) -> str:
        address = self._objects.sign(key, method=method, seconds=_SECONDS)
        if not self._is_ours:
            return address
        parts = urlsplit(address)
        # The door serves it too, since nodes reach no other port.
        return f"{self._prefix}{parts.path}?{parts.query}"


class NodesDesk:
    """For objects on the nodes' data disks, and those that the host still has in a folder."""

    def __init__(self, objects: NodeStore, prefix: str = "") -> None:
        """Ask this store; what lies on the host is fetched below this prefix at the door."""
        self._objects, self._ledger = objects, objects.ledger
        self._addresses = AddressDesk(objects, prefix)

    def find(self, keys: Sequence[str], node: str) -> Mapping[str, Stored]:
        """Give the nodes that hold each, those that were heard lately first."""
        located = self._objects.database.read(lambda tx: self._ledger.locate(tx, keys))
        found = {
            key: Stored(known.size, known.digest, [asdict(each) for each in places])
            for key, (known, places) in located.items()
        }
        left = [key for key in keys if key not in found]
        return {**found, **self._addresses.find(left, node)}

    def place(self, new: Sequence[NewObject], node: str) -> Mapping[str, Any]:
        """Give two nodes and a spare, the caller first when it has a data disk."""
        is_batch = len(new) > 1
        size = sum(each.size for each in new) + (batch_frame(len(new)) if is_batch else 0)

        def read(tx: Transaction) -> Mapping[str, Any]:
            targets = self._ledger.place(tx, node, new[0].digest, size, is_batch=is_batch)
            return {
                "kind": "nodes",
                "copies": self._ledger.needed(self._ledger.standing(tx).up),
                "targets": [asdict(each) for each in targets],
            }

        return self._objects.database.read(read)

    def commit(
        self, new: Sequence[NewObject], receipts: Sequence[Mapping[str, Any]], node: str
    ) -> None:
        """Check the receipts and take the names."""
        del node
        try:
            signed = [Receipt.from_json(each) for each in receipts]
        except ValueError as fault:
            raise InvalidError(
                "A receipt cannot be read.",
                next_step="Leave the bytes again.",
                faults=[Fault("receipts", str(fault))],
            ) from fault
        names = {each.key: (each.digest, each.size) for each in new}
        self._objects.database.change(lambda tx: self._ledger.commit(tx, names, signed))


def choose_desk(objects: ObjectStore, prefix: str) -> Desk:
    """Give the desk for a kind of store."""
    return (
        NodesDesk(objects, prefix)
        if isinstance(objects, NodeStore)
        else AddressDesk(objects, prefix)
    )
