"""Nodes over the SDK; for administrators."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.client.transport import place
from millpond.machines.values import (
    Certificate,
    Joined,
    NewJoinToken,
    Node,
    NodeDetails,
    NodeReport,
    NodeWork,
    SourceInfo,
    WorkLine,
)

WORK_ENDED = ("done", "dead", "cancelled")


class NodesRoom(Room):
    """The machines that run tasks."""

    def list(self, *, removed: bool = False) -> Sequence[Node]:
        """List nodes by name; ``removed`` ones, too, if wanted."""
        query = {"removed": "true" if removed else None}
        return list(self._transport.pages(Node, "/nodes", query))

    def get(self, name: str) -> NodeDetails:
        """Show a node, what happened to it, and its certificates."""
        return self._transport.read(NodeDetails, place("nodes", name))

    def findings(self, name: str) -> NodeReport:
        """Look for all that is wrong with a node, and how to mend it."""
        return self._transport.read(NodeReport, place("nodes", name, "findings"))

    def make_token(
        self, *, name: str = "", slots_most: int = 0, labels: Mapping[str, str] | None = None
    ) -> NewJoinToken:
        """Give leave to join one machine, good once and for an hour; it is shown this once."""
        body = {"name": name, "slots_most": slots_most, "labels": dict(labels or {})}
        return decode(NewJoinToken, self._transport.make("/nodes/tokens", body))

    def join(
        self,
        token: str,
        name: str,
        csr: str,
        version: str,
        sent_at: datetime,
        facts: Mapping[str, Any],
    ) -> Joined:
        """Join as a node; needs no account. ``millpond node join`` does all that belongs to it."""
        body = {
            "token": token,
            "name": name,
            "csr": csr,
            "version": version,
            "sent_at": sent_at.isoformat(),
            "facts": dict(facts),
        }
        return decode(Joined, self._transport.post("/nodes/join", body))

    def set(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        slots_most: int | None = None,
        gpus_most: int | None = None,
        price_per_hour: float | None = None,
    ) -> Node:
        """Change labels, bounds of slots and GPUs, or the price of a node; what is None stays."""
        asked = {
            "labels": None if labels is None else dict(labels),
            "slots_most": slots_most,
            "gpus_most": gpus_most,
            "price_per_hour": price_per_hour,
        }
        body = {key: value for key, value in asked.items() if value is not None}
        return decode(Node, self._transport.patch(place("nodes", name), body))

    def drain(self, name: str) -> Node:
        """Let a node end what it has and take no more."""
        return decode(Node, self._transport.make(place("nodes", name, "drain")))

    def resume(self, name: str) -> Node:
        """Let a node that drains take tasks again."""
        return decode(Node, self._transport.make(place("nodes", name, "resume")))

    def remove(self, name: str, *, force: bool = False) -> Node:
        """Take a node out of the cluster; ``force``: also with tasks or last copies on it."""
        query = {"force": True} if force else None
        return decode(Node, self._transport.delete(place("nodes", name), query))

    def revoke(self, name: str, reason: str, *, serial: str = "") -> Sequence[Certificate]:
        """Take no certificate of a node any more; give those that were good until now.

        Args:
            name: of the node.
            reason: why, for the record.
            serial: number of one that it must have, so that no other node is meant.
        """
        body = {"serial": serial, "reason": reason}
        path = place("nodes", name, "certificates", "revoke")
        return [decode(Certificate, one) for one in self._transport.make(path, body)]

    def sources(self) -> Sequence[SourceInfo]:
        """List the ways to get machines, and what a machine must know before it is added."""
        return [decode(SourceInfo, one) for one in self._transport.get("/nodes/sources")]

    def add(
        self,
        address: str,
        *,
        user: str = "root",
        port: int = 22,
        key_file: str = "",
        data_disk: str = "",
        name: str = "",
        slots: int = 0,
        labels: Mapping[str, str] | None = None,
        source: str = "ssh",
    ) -> NodeWork:
        """Have a machine added; ``work`` and ``wait`` tell how far it is.

        Args:
            address: name or address of the machine.
            user: who to sign in as.
            port: of its SSH server.
            key_file: private key to sign in with, a file on the host; empty: the server's own.
            data_disk: folder there, on a disk of its own, that holds objects.
            name: of the node; empty: the machine's.
            slots: at most so many tasks at a time; 0: one per core.
            labels: words about it.
            source: where it comes from.
        """
        body = {
            "source": source,
            "address": address,
            "user": user,
            "port": port,
            "key_file": key_file,
            "data_disk": data_disk,
            "name": name,
            "slots": slots,
            "labels": dict(labels or {}),
        }
        return decode(NodeWork, self._transport.make("/nodes", body))

    def upgrade(self, name: str) -> NodeWork:
        """Have a node brought to the server's version; ``wait`` tells how far it is."""
        return decode(NodeWork, self._transport.make(place("nodes", name, "upgrade")))

    def work(self, work_id: str, *, after: int = 0) -> NodeWork:
        """Show how far a machine's work is, with its lines after a number."""
        path = place("nodes", "work", work_id)
        return self._transport.read(NodeWork, path, {"after": after or None})

    def wait(
        self,
        started: NodeWork,
        tell: Callable[[WorkLine], None],
        pause: Callable[[float], None],
    ) -> NodeWork:
        """Follow a machine's work to its end; each line is told once."""
        seen = 0
        while True:
            found = self.work(started.id, after=seen)
            for line in found.lines:
                seen = line.number
                tell(line)
            if found.state in WORK_ENDED:
                return found
            pause(0.5)
