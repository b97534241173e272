"""Heartbeats: what nodes tell every few seconds, and what becomes of those that fall silent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from millpond.ground.errors import ConflictError, InvalidError, MillpondError, NotAllowedError
from millpond.ground.tls import Peer
from millpond.machines import rules, store
from millpond.machines.actions import state_of, tell
from millpond.machines.cluster import Cluster
from millpond.machines.guards import read_meters
from millpond.machines.joining import removed_error
from millpond.machines.store import NodeRow
from millpond.machines.values import Heartbeat
from millpond.storage.chores import Chore
from millpond.storage.database import Transaction

EVENTS_KEPT = timedelta(days=30)
_MINUTE, _DAY = 60.0, 86_400.0
_MEANING = {
    "suspect": "it gets no new tasks",
    "lost": "its tasks go elsewhere, and its data is copied from the other nodes",
}


@dataclass(frozen=True)
class Heard:
    """A heartbeat that was taken.

    Attributes:
        node: the node's name.
        heartbeat: what it told, its slots cut down to what was agreed.
        is_draining: whether it is to take no more.
    """

    node: str
    heartbeat: Heartbeat
    is_draining: bool


Listener = Callable[[Transaction, Heard], Mapping[str, Any]]
"""Another room that hears each heartbeat in the same transaction; what it gives is answered."""


def note_heartbeat(
    tx: Transaction,
    cluster: Cluster,
    peer: Peer,
    told: Heartbeat,
    listeners: Sequence[Listener] = (),
) -> dict[str, Any]:
    """Take a node's heartbeat: one row is written, and nothing else while all is as it was.

    Args:
        tx: the transaction.
        cluster: whose node it is.
        peer: who it is, by its certificate.
        told: what it tells.
        listeners: others who hear it.

    Returns:
        What the node is answered.

    Raises:
        NotAllowedError: the certificate was revoked, or the node removed.
        ConflictError: it has another version of Millpond.
        InvalidError: its clock is wrong, or its figures cannot be.
    """
    name = peer.name
    row = check_member(tx, peer)
    rules.check_version(name, told.version, cluster.version, is_node=True)
    rules.check_clock(name, told.sent_at, tx.now)
    rules.refuse(f"What {name} tells of itself", rules.faults_of_facts(told.facts), kind="facts")
    _write(tx, cluster, row, peer, told)
    meters = read_meters(told.meters)

    def heard() -> None:
        cluster.presence.know(
            name,
            is_draining=row.is_draining,
            slots_most=row.slots_most,
            gpus_most=row.gpus_most,
        )
        cluster.presence.hear(name, meters)
        cluster.tasks.hear(name, told.meters.get("tasks"))

    tx.after_commit(heard)
    answer = {
        "is_draining": row.is_draining,
        "slots_most": row.slots_most,
        "revoked": list(cluster.revoked.serials),
        "places": _places(tx, cluster),
        "heartbeat_seconds": cluster.limits.heartbeat_seconds,
        "server_time": tx.now.isoformat(),
    }
    slots = rules.capped_slots(told.facts.slots, row.slots_most)
    believed = replace(told, facts=replace(told.facts, slots=slots))
    for listener in listeners:
        answer.update(listener(tx, Heard(name, believed, row.is_draining)))
    return answer


def check_member(tx: Transaction, peer: Peer, *, lock: bool = False) -> NodeRow:
    """Give the node that a certificate is of.

    Args:
        tx: the transaction.
        peer: who it is, by its certificate.
        lock: whether nobody may revoke the certificate until the transaction ends.

    Raises:
        NotAllowedError: the certificate was revoked or is unknown, or the node was removed.
    """
    row = store.find(tx, peer.name, lock=lock)
    held = store.find_certificate(tx, peer.serial)
    if held is not None and held.revoked_at is not None:
        raise revoked_error(peer.name, held.reason)
    if row is None or held is None or held.node != peer.name or row.stage == "removed":
        raise removed_error(peer.name)
    return row


def revoked_error(name: str, reason: str = "") -> NotAllowedError:
    """Say that a certificate is taken no more."""
    why = f": {reason.rstrip('.')}" if reason else ""
    return NotAllowedError(
        f"The certificate of {name!r} was revoked{why}.",
        next_step=f"Join it again: `millpond node remove {name}` and `millpond node token` on the"
        " host, then the command that it shows on the machine.",
        kind="revoked",
    )


def _write(tx: Transaction, cluster: Cluster, row: NodeRow, peer: Peer, told: Heartbeat) -> None:
    before = state_of(row, cluster)
    now_state = "draining" if row.is_draining else "up"
    values: dict[str, Any] = {
        "stage": "joined",
        "told_state": now_state,
        "address": told.facts.address,
        "version": told.version,
        "refused": "",
        "facts": asdict(told.facts),
        "meters": dict(told.meters),
        "store": asdict(told.store) if told.store else {},
        "running": list(told.running),
        "serial": peer.serial,
        "seen_at": tx.now,
    }
    if not store.change_member(tx, row.name, values):
        raise removed_error(row.name)
    if row.stage == "joining":
        tell(tx, row.name, "up", "Its first heartbeat came: it takes tasks.")
    elif row.told_state in ("suspect", "lost") or before in ("suspect", "lost"):
        silent = (tx.now - row.seen_at).total_seconds() if row.seen_at else 0.0
        tell(tx, row.name, "back", f"It is back; {rules.silence_in_words(silent)}.")
    elif row.refused:
        tell(tx, row.name, "taken", "Its heartbeats are taken again.")


def _places(tx: Transaction, cluster: Cluster) -> dict[str, dict[str, str]]:
    """Give where nodes serve objects: those that were heard of lately and have a data disk."""
    places = {}
    for row in store.list_members(tx):
        port = int(row.facts.get("data_port", 0))
        if row.store and port and state_of(row, cluster) in ("up", "draining"):
            host = f"[{row.address}]" if ":" in row.address else row.address
            places[row.name] = {"url": f"https://{host}:{port}"}
    return places


def note_refusal(tx: Transaction, name: str, fault: MillpondError, *, is_first: bool) -> None:
    """Keep why a node's heartbeats are refused, so that people see it.

    Args:
        tx: the transaction.
        name: of the node, by its certificate.
        fault: what it was told.
        is_first: whether it was not refused for such a fault just before.
    """
    row = store.find(tx, name, lock=True)
    if row is None or row.stage == "removed":
        return
    text = f"{fault.message} {fault.next_step}"
    values: dict[str, Any] = {"refused": text}
    if "theirs" in fault.facts:
        values["version"] = str(fault.facts["theirs"])
    store.change(tx, name, values)
    if is_first and row.refused != text:
        tell(tx, name, "refused", text)


def kind_of(fault: MillpondError) -> str:
    """Give what a refusal is about, whatever its figures are; empty for one that will pass."""
    is_lasting = isinstance(fault, (NotAllowedError, InvalidError, ConflictError))
    return str(fault.facts.get("kind", fault.code)) if is_lasting else ""


def watch_nodes(tx: Transaction, cluster: Cluster) -> list[str]:
    """Tell of nodes that have fallen silent since the last look; give their names. A chore."""
    found = []
    for row in store.list_members(tx):
        state = state_of(row, cluster)
        if state == row.told_state or state not in ("suspect", "lost"):
            continue
        silent = rules.silence_in_words(cluster.presence.silence(row.name) or 0.0)
        store.change_member(tx, row.name, {"told_state": state})
        tell(tx, row.name, state, f"{silent[0].upper()}{silent[1:]}: {_MEANING[state]}.")
        found.append(row.name)
    return found


def chores(cluster: Cluster) -> list[Chore]:
    """Give what is to be done from time to time: look who is silent, mend a file, forget."""
    return [
        Chore(cluster.limits.heartbeat_seconds, lambda tx: watch_nodes(tx, cluster)),
        Chore(_MINUTE, lambda _: cluster.revoked.refresh()),
        Chore(_DAY, forget_old),
    ]


def forget_old(tx: Transaction) -> None:
    """Forget what happened to nodes more than a month ago. A chore."""
    store.forget_before(tx, tx.now - EVENTS_KEPT)
