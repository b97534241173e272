"""Open the two stores of a move by their settings, as guests: a server may use one of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.ground.settings import ObjectsSettings
from millpond.ground.tls import Identity
from millpond.storage.database import Database
from millpond.storage.folder import FolderStore
from millpond.storage.moving.home import read_marker, where_of
from millpond.storage.moving.sides import LogFolder, NodesSide, PlainSide, Side
from millpond.storage.moving.values import Home
from millpond.storage.nodes.cache import HostCache
from millpond.storage.nodes.client import NodeClient
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.receipts import ReceiptChecker
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.rules import is_log
from millpond.storage.nodes.tokens import open_signer
from millpond.storage.nodes.values import COPIES, Pace
from millpond.storage.opening import folder_of, open_objects

_NEVER_SECONDS = 1e9


@dataclass(frozen=True)
class Site:
    """What stores are opened with.

    Attributes:
        data: folder of all data.
        database: migrated.
        identity: gives the host's certificate, by which nodes know it.
        is_revoked: tells whether a node's certificate, by its number, is good no more.
    """

    data: Path
    database: Database
    identity: Callable[[], Identity]
    is_revoked: Callable[[str], bool] = lambda _serial: False


@dataclass(frozen=True)
class End:
    """A store that was opened for a move.

    Attributes:
        chosen: its settings.
        side: the store.
        where: where it lies, for people.
        is_shared: the other end is this one's folder for logs, which stay there.
    """

    chosen: ObjectsSettings
    side: Side
    where: str
    is_shared: bool

    @property
    def home(self) -> Home:
        """What the database is to know of it."""
        kind = self.chosen.kind
        return Home(kind, "" if kind == "nodes" else read_marker(self.side.objects), self.where)

    def close(self) -> None:
        """Close its connections."""
        if isinstance(self.side.objects, NodeStore):
            self.side.objects.close()


def check_settings(chosen: ObjectsSettings) -> None:
    """Refuse settings that lack something.

    Raises:
        InvalidError: they do; every fault is named.
    """
    faults = []
    if chosen.kind == "s3" and not chosen.bucket:
        faults.append(Fault("objects.bucket", "is empty: name the bucket"))
    if chosen.kind == "s3" and chosen.endpoint.startswith("http:") and not chosen.allow_http:
        faults.append(Fault("objects.endpoint", "is without TLS; objects.allow_http allows that"))
    if chosen.kind == "s3" and bool(chosen.access_key_id) != bool(chosen.secret_access_key):
        faults.append(Fault("objects.secret_access_key", "and objects.access_key_id go together"))
    if faults:
        raise InvalidError(
            "The settings of the target are wrong: "
            + "; ".join(f"{fault.field} {fault.message}" for fault in faults)
            + ".",
            next_step="Mend them in the table [objects] of the settings file, or of the file that"
            " --target names; objects.kind may stay as it is.",
            faults=faults,
        )


def shares_folder(one: ObjectsSettings, other: ObjectsSettings, data: Path) -> bool:
    """Tell whether one is the nodes' store and the other its folder on the host."""
    are_both = {one.kind, other.kind} == {"folder", "nodes"}
    return are_both and folder_of(one, data) == folder_of(other, data)


def open_end(site: Site, chosen: ObjectsSettings, other: ObjectsSettings) -> End:
    """Open a store for a move from or to another one."""
    is_shared = shares_folder(chosen, other, site.data)
    folder = folder_of(chosen, site.data)
    where = where_of(chosen, folder)
    leave_out = is_log if is_shared else _nothing
    side: Side
    if chosen.kind == "nodes":
        needed = 1 if chosen.allow_one_copy else COPIES
        side = NodesSide(_open_nodes(site, chosen, is_shared), leave_out, needed=needed)
    elif chosen.kind == "folder":
        try:
            store = FolderStore(folder, "", b"", is_guest=True)
        except OSError as fault:
            raise ConflictError(
                f"The folder {folder} cannot be used: {fault.strerror or fault}.",
                next_step="Mend its rights, or name another in objects.folder.",
            ) from fault
        side = PlainSide(store, folder, leave_out)
    else:
        side = PlainSide(open_objects(chosen, site.data, "", site.database))
    return End(chosen, side, where, is_shared)


def _open_nodes(site: Site, chosen: ObjectsSettings, is_shared: bool) -> NodeStore:
    identity = site.identity()
    ledger = Ledger(
        open_signer(site.data / "keys"),
        ReceiptChecker(identity.authority, site.is_revoked),
        # Heartbeats go to the server, which may be stopped: who is up shows by asking.
        pace=replace(Pace(), suspect=_NEVER_SECONDS, lost=_NEVER_SECONDS),
        allow_one_copy=chosen.allow_one_copy,
    )
    kind = LogFolder if is_shared else FolderStore
    host = kind(folder_of(chosen, site.data), "", b"", is_guest=True)
    cache = HostCache(site.data / "moves" / "cache", 0)
    return NodeStore(site.database, ledger, NodeClient(identity), host, cache)


def _nothing(_: str) -> bool:
    return False
