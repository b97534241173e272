"""What the actions on machines are given: the authority, the server's address, what was heard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millpond.ground.room_settings import ClusterSettings
from millpond.machines import store
from millpond.machines.authority import Authority
from millpond.machines.port import MachineSource
from millpond.machines.presence import Presence
from millpond.machines.revocations import RevokedList
from millpond.storage.database import Database, Transaction

MayRemove = Callable[[Transaction, str], str]
"""Say why a node cannot be removed now, such as for the last copies of data; empty: it can."""


def always(_: Transaction, __: str) -> str:
    """Let any node go: nothing lies on nodes."""
    return ""


def no_key() -> str:
    """Give no key: nothing lies on nodes."""
    return ""


@dataclass(frozen=True)
class Cluster:
    """What belongs to the nodes of this installation.

    Attributes:
        authority: signs their certificates.
        version: of Millpond; nodes must have the same.
        url: this server's address for people and programs.
        address: name or address by which nodes reach this host.
        door_port: where the door listens.
        limits: the settings of the cluster.
        presence: what was heard of the nodes.
        revoked: the certificates that nobody takes any more.
        sources: ways to get machines, by name.
        may_remove: says why a node cannot be removed now.
        token_key: gives the PEM of the public key by which nodes check permits for objects.
    """

    authority: Authority
    version: str
    url: str
    address: str
    door_port: int
    limits: ClusterSettings
    presence: Presence
    revoked: RevokedList
    sources: Mapping[str, MachineSource] = field(default_factory=dict)
    may_remove: MayRemove = always
    token_key: Callable[[], str] = no_key


def open_presence(database: Database, limits: ClusterSettings) -> Presence:
    """Begin to listen to the nodes that are members already."""
    presence = Presence(limits)
    for row in database.read(store.list_members):
        presence.know(row.name, is_draining=row.is_draining, slots_most=row.slots_most)
    return presence


def open_revoked(database: Database, data: Path) -> RevokedList:
    """Write ``cluster/revoked.json`` in the data folder, and keep it."""
    return RevokedList(database, data / "cluster" / "revoked.json")
