"""What administrators can do with nodes: look, drain, resume, set, remove, revoke."""

from dataclasses import replace
from typing import Any

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotFoundError
from millpond.ground.findings import Finding
from millpond.ground.page import PAGE_LIMIT, Page, decode_cursor, make_page
from millpond.machines import rules, store
from millpond.machines.cluster import Cluster
from millpond.machines.findings import findings_of
from millpond.machines.guards import read_meters
from millpond.machines.store import NodeRow
from millpond.machines.values import (
    Certificate,
    Node,
    NodeDetails,
    NodeFacts,
    NodeReport,
    NodeState,
    StoreState,
)
from millpond.people.actions import require
from millpond.storage.database import Transaction

# Looking -----------------------------------------------------------------------------------------


def list_nodes(
    tx: Transaction,
    actor: Actor,
    cluster: Cluster,
    *,
    with_removed: bool = False,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
) -> Page[Node]:
    """List nodes by name."""
    require(tx, actor, "node.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_by_name(tx, after=after, limit=limit + 1, with_removed=with_removed)
    return make_page(found, limit, lambda row: [row.name]).map(lambda row: seen(row, cluster))


def get_node(tx: Transaction, actor: Actor, cluster: Cluster, name: str) -> NodeDetails:
    """Give a node with what runs on it, what happened to it and its certificates.

    Raises:
        NotFoundError: there is none of this name.
    """
    require(tx, actor, "node.read")
    row = found_node(tx, name, is_removed_good=True)
    return NodeDetails(
        seen(row, cluster),
        store.list_events(tx, name),
        store.list_certificates(tx, name),
        cluster.tasks_on(tx, name, row.running),
    )


def seen(row: NodeRow, cluster: Cluster) -> Node:
    """Give a node as people see it now."""
    facts = read_facts(row)
    state = state_of(row, cluster)
    is_member = state not in ("joining", "removed")
    return Node(
        name=row.name,
        state=state,
        address=row.address,
        version=row.version,
        slots=rules.capped_slots(facts.slots, row.slots_most),
        slots_most=row.slots_most,
        gpus=rules.capped_gpus(facts.gpus, row.gpus_most),
        gpus_most=row.gpus_most,
        slots_used=float(len(row.running)),
        labels=row.labels,
        price_per_hour=row.price_per_hour,
        paused=cluster.paused(row.name) if is_member else "",
        refused=row.refused,
        is_draining=row.is_draining,
        facts=facts,
        meters=read_meters(row.meters),
        store=StoreState(**row.store) if row.store else None,
        running=row.running,
        serial=row.serial,
        certificate_expires_at=row.certificate_expires_at,
        source=str(row.machine.get("source", "")),
        host_key=str(row.machine.get("host_key", "")),
        joined_at=row.joined_at,
        seen_at=row.seen_at,
        removed_at=row.removed_at,
    )


def state_of(row: NodeRow, cluster: Cluster) -> NodeState:
    """Decide in which state a node is now."""
    return rules.state_of(
        row.stage,
        is_draining=row.is_draining,
        silent_seconds=cluster.presence.silence(row.name),
        told=row.told_state,
        limits=cluster.limits,
        is_other_version=cluster.presence.is_other_version(row.name),
    )


def read_facts(row: NodeRow) -> NodeFacts:
    """Read what a node told of itself; what another version told beside it is left out."""
    known = NodeFacts.__dataclass_fields__
    return NodeFacts(**{name: value for name, value in row.facts.items() if name in known})


def found_node(
    tx: Transaction, name: str, *, lock: bool = False, is_removed_good: bool = False
) -> NodeRow:
    """Find a node.

    Raises:
        NotFoundError: there is none of this name, or it was removed.
    """
    row = store.find(tx, name, lock=lock)
    if row is None or (row.stage == "removed" and not is_removed_good):
        raise NotFoundError(
            f"There is no node {name[:80]!r}.",
            next_step="List them with `millpond node list`.",
            node=name[:80],
        )
    return row


# Changing ----------------------------------------------------------------------------------------


def drain_node(tx: Transaction, actor: Actor, cluster: Cluster, name: str) -> Node:
    """Let a node end what it has and take no more.

    Raises:
        NotFoundError: there is none of this name.
    """
    return _set_draining(tx, actor, cluster, name, is_draining=True)


def resume_node(tx: Transaction, actor: Actor, cluster: Cluster, name: str) -> Node:
    """Let a node that drains take tasks again.

    Raises:
        NotFoundError: there is none of this name.
    """
    return _set_draining(tx, actor, cluster, name, is_draining=False)


def _set_draining(
    tx: Transaction, actor: Actor, cluster: Cluster, name: str, *, is_draining: bool
) -> Node:
    require(tx, actor, "node.write")
    row = found_node(tx, name, lock=True)
    if row.is_draining != is_draining:
        verb = "drained" if is_draining else "resumed"
        store.change(tx, name, {"is_draining": is_draining})
        tell(tx, name, verb, f"{actor.name} {_DONE[verb]}.")
        note(tx, actor, f"node.{verb}", f"node/{name}", before=row.is_draining, after=is_draining)
    return _changed(tx, cluster, name)


_DONE = {
    "drained": "lets it end what it has and take no more",
    "resumed": "lets it take tasks again",
}


def set_node(
    tx: Transaction,
    actor: Actor,
    cluster: Cluster,
    name: str,
    *,
    labels: dict[str, str] | None = None,
    slots_most: int | None = None,
    gpus_most: int | None = None,
    price_per_hour: float | None = None,
) -> Node:
    """Change what the installation says of a node; what is None stays.

    Raises:
        NotFoundError: there is none of this name.
        InvalidError: a label is not good.
    """
    require(tx, actor, "node.write")
    row = found_node(tx, name, lock=True)
    rules.refuse("The node", rules.faults_of_labels(labels or {}))
    asked = {
        "labels": labels,
        "slots_most": slots_most,
        "gpus_most": gpus_most,
        "price_per_hour": price_per_hour,
    }
    values: dict[str, Any] = {
        field: value
        for field, value in asked.items()
        if value is not None and value != getattr(row, field)
    }
    if values:
        before = {field: getattr(row, field) for field in values}
        store.change(tx, name, values)
        note(tx, actor, "node.changed", f"node/{name}", before=before, after=values)
    return _changed(tx, cluster, name)


def remove_node(
    tx: Transaction, actor: Actor, cluster: Cluster, name: str, *, is_forced: bool = False
) -> Node:
    """Take a node out of the cluster for good: its certificates are good for nothing any more.

    Raises:
        NotFoundError: there is none of this name.
        ConflictError: it runs tasks, or holds the last copies of data, and is not forced.
    """
    require(tx, actor, "node.write")
    row = found_node(tx, name, lock=True)
    if not is_forced:
        _check_removable(tx, cluster, row)
    revoked = store.revoke(tx, store.of_node(name), "The node was removed.")
    values = {"stage": "removed", "removed_at": tx.now, "is_draining": False, "running": []}
    store.change(tx, name, {**values, "told_state": "removed", "refused": ""})
    forced = ", by force" if is_forced else ""
    tell(tx, name, "removed", f"{actor.name} removed it{forced}.")
    note(tx, actor, "node.removed", f"node/{name}", before=row.stage, after={"forced": is_forced})
    cluster.forget_data(tx, name)
    tx.after_commit(lambda: cluster.presence.forget(name))
    tx.after_commit(lambda: cluster.tasks.forget(name))
    if revoked:
        tx.after_commit(cluster.revoked.refresh)
    return _changed(tx, cluster, name, is_member=False)


def _check_removable(tx: Transaction, cluster: Cluster, row: NodeRow) -> None:
    name = row.name
    why = cluster.may_remove(tx, name)
    if why:
        raise ConflictError(
            f"{name} cannot be removed now: {why}",
            next_step=f"Drain it, `millpond node drain {name}`, and wait until its data has other"
            " copies; or remove it with --force and lose them.",
            node=name,
        )
    if row.running and state_of(row, cluster) in ("up", "draining", "suspect"):
        count = len(row.running)
        raise ConflictError(
            f"{name} runs {count} task{'s' if count > 1 else ''} now.",
            next_step=f"Drain it first, `millpond node drain {name}`, and wait until they have"
            " ended; or remove it with --force: they are done again elsewhere.",
            node=name,
        )


def revoke_certificates(
    tx: Transaction, actor: Actor, cluster: Cluster, name: str, reason: str, *, serial: str = ""
) -> list[Certificate]:
    """Take no certificate of a node any more, as when its key was stolen.

    All that are still good go, not one alone: whoever held its key may have had others made.

    Args:
        tx: the transaction.
        actor: who revokes them.
        cluster: whose node it is.
        name: of the node.
        reason: why, for the record.
        serial: number of the one that is meant; the node must have it. Empty for any.

    Returns:
        Those that were revoked now, the newest first.

    Raises:
        NotFoundError: the node has none of this number.
        ConflictError: all were revoked before.
    """
    require(tx, actor, "node.write")
    found_node(tx, name, lock=True, is_removed_good=True)
    held = store.find_certificate(tx, serial.upper()) if serial else None
    if serial and (held is None or held.node != name):
        raise NotFoundError(
            f"{name} has no certificate {serial[:64]!r}.",
            next_step=f"See its certificates with `millpond node show {name}`.",
        )
    good = store.list_good(tx, name)
    if not good:
        raise ConflictError(
            f"The certificates of {name} were revoked before, or have ended.",
            next_step=f"A new one comes by joining again: `millpond node remove {name}`, then"
            f" `millpond node token --name {name}`.",
        )
    store.revoke(tx, store.of_node(name), reason)
    serials = [one.serial for one in good]
    what = "certificate" if len(serials) == 1 else "certificates"
    tell(tx, name, "revoked", f"{actor.name} revoked the {what} {', '.join(serials)}: {reason}")
    note(tx, actor, "node.certificate.revoked", f"node/{name}", after={"serials": serials})
    tx.after_commit(cluster.revoked.refresh)
    return [replace(one, revoked_at=tx.now, reason=reason) for one in good]


def _changed(tx: Transaction, cluster: Cluster, name: str, *, is_member: bool = True) -> Node:
    """Give a node that was changed; once that is committed, the dispatcher knows as well."""
    row = found_node(tx, name, is_removed_good=True)
    if is_member:
        tx.after_commit(
            lambda: cluster.presence.know(
                name,
                is_draining=row.is_draining,
                slots_most=row.slots_most,
                gpus_most=row.gpus_most,
            )
        )
    return seen(row, cluster)


# Telling -----------------------------------------------------------------------------------------


def tell(tx: Transaction, name: str, kind: str, text: str) -> None:
    """Write what happened to a node, for its page."""
    store.add_event(tx, name, kind, text)


# Health ------------------------------------------------------------------------------------------


def report_node(tx: Transaction, actor: Actor, cluster: Cluster, name: str) -> NodeReport:
    """Look for all that is wrong with one node.

    Raises:
        NotFoundError: there is none of this name.
    """
    require(tx, actor, "node.read")
    found = findings_of(
        seen(found_node(tx, name, is_removed_good=True), cluster), cluster.version, tx.now
    )
    states = {one.state for one in found}
    worst = next((state for state in ("fault", "warning") if state in states), "ok")
    return NodeReport(name, worst, found)


def find_faults(tx: Transaction, cluster: Cluster) -> list[Finding]:
    """Say how the nodes are, for the health of the whole: one line each, its worst."""
    found = []
    for row in store.list_by_name(tx, after="", limit=1000):
        each = findings_of(seen(row, cluster), cluster.version, tx.now)
        order = ("fault", "warning", "ok")
        found.append(min(each, key=lambda one: order.index(one.state)))
    return found
