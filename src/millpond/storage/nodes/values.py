"""What the store on the nodes speaks of: places, copies, receipts, states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["up", "suspect", "lost"]
"""``suspect``: gets nothing new, nothing is copied yet. ``lost``: its copies do not count."""

COPIES = 2


@dataclass(frozen=True)
class Pace:
    """How long each state lasts, in seconds.

    Attributes:
        suspect: a node that is silent for so long gets nothing new.
        lost: after so long its copies do not count and are made again elsewhere.
        other_version: so long it may be silent instead while it answers, and is refused for its
            version of Millpond: its disk is there, and an upgrade brings it back.
        unnamed: bytes that no key names are kept for so long before they are doomed.
        doomed: doomed bytes can be named again for so long.
        orphan: bytes on a node that the database does not know are kept for so long.
        surplus: a copy more than needed is kept for so long.
        look: how often the repairer looks for work.
        inventory: how often a node is asked for all that it holds.
    """

    suspect: float = 15.0
    lost: float = 60.0
    other_version: float = 4 * 3600.0
    unnamed: float = 86_400.0
    doomed: float = 3600.0
    orphan: float = 86_400.0
    surplus: float = 3600.0
    look: float = 5.0
    inventory: float = 86_400.0


@dataclass(frozen=True)
class Waits:
    """How long a caller waits for a node, in seconds.

    Attributes:
        connect: for the connection.
        answer: for the first byte of an answer, and between two pieces.
        flush: for the answer to bytes that were sent, which the node first flushes to its disk.
    """

    connect: float = 0.5
    answer: float = 3.0
    flush: float = 60.0


@dataclass(frozen=True)
class Place:
    """A node's data disk, as the database knows it.

    Attributes:
        node: the node's name.
        url: where its data route answers, such as ``https://10.0.0.7:8788``.
        is_ok: whether its disk is there and can be written.
        reason: why not.
        is_draining: whether it is to be emptied.
        free_bytes: above the mark that is kept free.
        total_bytes: of the disk.
        epoch: how often it has been heard; the node remembers it too.
        seen_at: when it was heard last, UTC.
        disk: the disk's own id.
        set_aside: how many damaged files the node has set aside.
        inventory_at: when it told all that it holds; None when it is to be asked.
    """

    node: str
    url: str
    is_ok: bool
    reason: str
    is_draining: bool
    free_bytes: int
    total_bytes: int
    epoch: int
    seen_at: datetime
    disk: str = ""
    set_aside: int = 0
    inventory_at: datetime | None = None


@dataclass(frozen=True)
class DiskFacts:
    """How a node's data disk is, told with each heartbeat.

    Attributes:
        disk: the disk's own id; empty when it cannot be read.
        is_ok: whether it is the right disk and can be written and read.
        reason: why not.
        free_bytes: above the mark that is kept free.
        total_bytes: of the disk.
        epoch: the highest that the server has told.
        set_aside: damaged files that were set aside so far.
    """

    disk: str
    is_ok: bool
    reason: str = ""
    free_bytes: int = 0
    total_bytes: int = 0
    epoch: int = 0
    set_aside: int = 0

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "DiskFacts":
        """Read what a node said; what it left out is taken for the worst."""
        return cls(
            disk=str(said.get("disk", ""))[:40],
            is_ok=said.get("is_ok") is True,
            reason=str(said.get("reason", ""))[:500],
            free_bytes=max(0, int(said.get("free_bytes", 0))),
            total_bytes=max(0, int(said.get("total_bytes", 0))),
            epoch=max(0, int(said.get("epoch", 0))),
            set_aside=max(0, int(said.get("set_aside", 0))),
        )


@dataclass(frozen=True)
class Receipt:
    """A node's word that it holds objects, flushed to its disk and named by their digests.

    Attributes:
        node: who says so.
        objects: digest and size of each.
        at: when, seconds since 1970 by the node's clock.
        certificate: the node's, PEM.
        signature: by the certificate's key, base64.
    """

    node: str
    objects: tuple[tuple[str, int], ...]
    at: int
    certificate: str
    signature: str = ""

    def said(self) -> dict[str, Any]:
        """Give what is signed."""
        return {"node": self.node, "objects": [list(each) for each in self.objects], "at": self.at}

    def to_json(self) -> dict[str, Any]:
        """Give all of it."""
        return self.said() | {"certificate": self.certificate, "signature": self.signature}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Receipt":
        """Read one.

        Raises:
            ValueError: it is none.
        """
        try:
            return cls(
                node=str(given["node"]),
                objects=tuple((str(digest), int(size)) for digest, size in given["objects"]),
                at=int(given["at"]),
                certificate=str(given["certificate"]),
                signature=str(given["signature"]),
            )
        except (KeyError, TypeError) as fault:
            raise ValueError(f"no receipt: {fault}") from fault


@dataclass(frozen=True)
class Target:
    """Where to leave bytes, and the token that allows it."""

    node: str
    url: str
    token: str


@dataclass(frozen=True)
class Found:
    """What the database knows of a key.

    Attributes:
        size: in bytes.
        digest: sha256, hexadecimal.
        nodes: who holds a good copy, those that were heard lately first.
    """

    size: int
    digest: str
    nodes: Sequence[str]


@dataclass(frozen=True)
class Held:
    """One line of a node's inventory.

    Attributes:
        digest: the file's name.
        size: its length in bytes.
    """

    digest: str
    size: int


@dataclass(frozen=True)
class StoreHealth:
    """How the store is, for pages and for ``doctor``.

    Attributes:
        places: each node's disk with its state.
        at_risk: objects with fewer living copies than two.
        missing: objects without any living copy.
        missing_keys: keys of the first of them.
        guard: why nothing is deleted, when the database seems to be older than the disks.
        shortage: why nothing new can be kept now; empty when it can.
    """

    places: Sequence[tuple[Place, State]]
    at_risk: int
    missing: int
    missing_keys: Sequence[str] = field(default_factory=tuple)
    guard: str = ""
    shortage: str = ""
