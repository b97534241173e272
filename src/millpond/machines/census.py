"""Count nodes and tell when certificates end, for those who watch the installation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from millpond.machines import store
from millpond.machines.actions import state_of
from millpond.machines.cluster import Cluster
from millpond.machines.running import PauseKind
from millpond.machines.trust.host import HostTls
from millpond.storage.database import Transaction


def count_nodes(tx: Transaction, cluster: Cluster) -> Mapping[str, int]:
    """Count the nodes by state, without those that were removed."""
    members = store.list_members(tx)
    return Counter(state_of(row, cluster) for row in members)


def paused_nodes(tx: Transaction, cluster: Cluster) -> Mapping[str, Sequence[PauseKind]]:
    """Give by node why it gets no new tasks for now; nodes that get some are left out."""
    told = {row.name: cluster.pauses(row.name) for row in store.list_members(tx)}
    return {
        name: list(dict.fromkeys(each.kind for each in pauses))
        for name, pauses in told.items()
        if pauses
    }


def node_certificate_ends(tx: Transaction) -> Mapping[str, datetime]:
    """Give by node when its certificate ends."""
    return {
        row.name: row.certificate_expires_at
        for row in store.list_members(tx)
        if row.certificate_expires_at is not None
    }


def server_certificate_end(tls: HostTls, now: datetime) -> datetime | None:
    """Tell when the certificate ends by which browsers reach this server; None without TLS."""
    if tls.way == "own":
        path = tls.identity(now).certificate
    elif tls.way == "given":
        path = Path(tls.announced()["certificate"])
    else:
        return None
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
