"""Where a node fetches an object and leaves a new one, by the kind of store there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError
from millpond.storage.folder import FolderStore
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

    def place(self, new: NewObject, node: str) -> Mapping[str, Any]:
        """Tell where this node leaves a new object.

        Raises:
            BusyError: there is no room, or there are too few nodes.
        """
        ...

    def commit(self, new: NewObject, receipts: Sequence[Mapping[str, Any]], node: str) -> None:
        """Take a name for bytes that were left; again with the same digest is fine.

        Raises:
            ConflictError: the key is taken by other bytes.
            InvalidError: the bytes are not there, or too few receipts are good.
        """
        ...


class AddressDesk:
    """For a folder, whose bytes come through the door, and for S3, which nodes reach by itself."""

    def __init__(self, objects: ObjectStore, prefix: str = "") -> None:
        """Give addresses that this store signs; a folder's stand below this prefix at the door."""
        self._objects, self._prefix = objects, prefix
        self._is_ours = isinstance(objects, FolderStore)

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

    def place(self, new: NewObject, node: str) -> Mapping[str, Any]:
        """Sign an address to leave it at."""
        del node
        return {"kind": "address", "url": self._address(new.key, "PUT")}

    def commit(self, new: NewObject, receipts: Sequence[Mapping[str, Any]], node: str) -> None:
        """See that it lies there."""
        del receipts, node
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
