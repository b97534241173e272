"""What the actions on machines are given: the authority, the server's address, what was heard."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millpond.ground.errors import ConflictError
from millpond.ground.room_settings import ClusterSettings
from millpond.ground.settings import Settings
from millpond.machines import store
from millpond.machines.authority import Authority
from millpond.machines.live import LiveTasks, Whose, nobodys
from millpond.machines.port import MachineSource
from millpond.machines.presence import Presence
from millpond.machines.revocations import RevokedList
from millpond.machines.running import NodeTask, Pause
from millpond.storage.database import Database, Transaction

MayRemove = Callable[[Transaction, str], str]
"""Say why a node cannot be removed now, such as for the last copies of data; empty: it can."""


def always(_: Transaction, __: str) -> str:
    """Let any node go: nothing lies on nodes."""
    return ""


def nothing_held(_: Transaction, __: str) -> None:
    """Forget nothing: where no objects lie on nodes."""


def nothing_refused(_: str) -> str:
    """Hold no node back: where nothing hands tasks to nodes."""
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
        forget_data: forgets what a node held that was removed.
        token_key: gives the text of the public key by which nodes check permits for objects.
        tasks: what the tasks on each machine take now.
        whose: tells whose tasks are.
        held_back: says why a node gets no tasks for now although no guard holds it back.
        is_open: whether this installation runs tasks on nodes, so that machines may join.
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
    forget_data: Callable[[Transaction, str], None] = nothing_held
    token_key: Callable[[], str] = no_key
    tasks: LiveTasks = field(default_factory=LiveTasks)
    whose: Whose = nobodys
    held_back: Callable[[str], str] = nothing_refused
    is_open: bool = True

    def pauses(self, name: str) -> list[Pause]:
        """Say why a node gets no new tasks now; nothing when it may have some."""
        held = self.held_back(name)
        return self.presence.pauses(name) or ([Pause("no room", held)] if held else [])

    def paused(self, name: str) -> str:
        """Say it in words; empty when it may have some."""
        return "; ".join(each.text for each in self.pauses(name))

    def tasks_on(self, tx: Transaction, name: str, keys: Iterable[str] = ()) -> list[NodeTask]:
        """Give what runs on a machine: whose it is, and what it takes now.

        Args:
            tx: the transaction.
            name: of the node, or ``local`` for the host.
            keys: tasks that are known to be there, also while they are not measured.
        """
        now = self.tasks.on(name)
        found = list(dict.fromkeys((*keys, *now)))
        owners = self.whose(tx, found) if found else {}
        return [NodeTask(key, now.get(key), owners.get(key)) for key in found]


def open_cluster(
    settings: Settings,
    data: Path,
    database: Database,
    authority: Authority,
    *,
    version: str,
    url: str,
    address: str,
) -> Cluster:
    """Begin to listen to the nodes that are members already; write ``cluster/revoked.json``.

    Args:
        settings: the server's.
        data: its data folder.
        database: where nodes are.
        authority: signs their certificates.
        version: of Millpond.
        url: this server's address for people and programs.
        address: name or address by which nodes reach this host, where the settings name none.
    """
    limits = settings.cluster
    presence = Presence(limits)
    for row in database.read(store.list_members):
        presence.know(
            row.name,
            is_draining=row.is_draining,
            slots_most=row.slots_most,
            gpus_most=row.gpus_most,
        )
    return Cluster(
        authority=authority,
        version=version,
        url=url,
        address=limits.address or address,
        door_port=limits.door_port,
        limits=limits,
        presence=presence,
        revoked=RevokedList(database, data / "cluster" / "revoked.json"),
        is_open=settings.engine.kind == "dask",
    )


def check_open(cluster: Cluster) -> None:
    """Refuse machines while this installation runs tasks on the host alone.

    Raises:
        ConflictError: it does.
    """
    if not cluster.is_open:
        raise ConflictError(
            "This installation runs tasks on the host alone: machines cannot join.",
            next_step='Set `kind = "dask"` in the table [engine] of the settings, start the'
            " scheduler (`millpond system settings` shows the file), and start the server again.",
        )
