"""What is done with machines by jobs: add, upgrade, take down; asked for here, done in tasks."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, Fault, NotFoundError
from millpond.ground.ids import new_id
from millpond.jobs import actions as jobs
from millpond.jobs.values import Job
from millpond.machines import actions, rules, store
from millpond.machines.cluster import Cluster, check_open
from millpond.machines.joining import check_free
from millpond.machines.port import MachineOrder
from millpond.machines.requests import AddNodeRequest
from millpond.machines.values import Node, NodeWork, SourceInfo
from millpond.people.actions import require
from millpond.storage.database import Transaction

MACHINE_KIND = "machines.add"
_TRIES = 4


def list_sources(
    actor: Actor, read: Callable[[Callable[[Transaction], None]], None], cluster: Cluster
) -> list[SourceInfo]:
    """List the ways to get machines; no transaction while a source makes its key."""
    read(lambda tx: require(tx, actor, "node.read"))
    return [
        SourceInfo(name, source.introduce()) for name, source in sorted(cluster.sources.items())
    ]


def add_node(tx: Transaction, actor: Actor, cluster: Cluster, asked: AddNodeRequest) -> NodeWork:
    """Have a machine added: reached, set up, joined and started, by a job.

    Raises:
        InvalidError: the order is not good; lists all faults.
        ConflictError: a living node has that name.
    """
    require(tx, actor, "node.write")
    check_open(cluster)
    name = asked.name or rules.name_of(asked.address)
    faults = rules.faults_of_name(name) + rules.faults_of_labels(asked.labels)
    faults += _faults_of_source(cluster, asked.source)
    if asked.address or asked.source == "ssh":
        faults += rules.faults_of_address(asked.address)
    faults += [
        Fault(field, "must be a whole path, such as /var/lib/millpond-data")
        for field in ("data_disk", "key_file")
        if getattr(asked, field) and not getattr(asked, field).startswith("/")
    ]
    rules.refuse("The machine", faults)
    if rules.is_loopback(cluster.url) and not rules.is_loopback(f"//{asked.address}"):
        raise ConflictError(
            f"This server answers at {cluster.url}, which other machines cannot reach.",
            next_step="Start it with `--host 0.0.0.0`, or set server.host in the settings.",
        )
    check_free(tx, cluster, name)
    facts = asked.model_dump() | {"name": name}
    order = MachineOrder(kind="add", id=new_id("machine"), **facts)
    return _put(tx, actor, order, "node.add.asked")


def _faults_of_source(cluster: Cluster, name: str) -> list[Fault]:
    if name in cluster.sources:
        return []
    known = ", ".join(sorted(cluster.sources)) or "none"
    return [Fault("source", f"is not known; there are: {known}")]


def upgrade_node(tx: Transaction, actor: Actor, cluster: Cluster, name: str) -> NodeWork:
    """Have a node brought to the server's version, by a job.

    Raises:
        NotFoundError: there is none of this name.
        ConflictError: it joined by itself, so the server has no way to its machine.
    """
    require(tx, actor, "node.write")
    row = actions.found_node(tx, name, lock=True)
    if row.machine.get("source") not in cluster.sources:
        raise ConflictError(
            f"{name} joined by itself: the server has no way to its machine.",
            next_step=f"On the machine, install Millpond {cluster.version} and start its service"
            " again: `systemctl restart millpond-worker`.",
            node=name,
        )
    order = replace(MachineOrder.from_json(row.machine), kind="upgrade", id=new_id("machine"))
    return _put(tx, actor, order, "node.upgrade.asked")


def remove_node(
    tx: Transaction, actor: Actor, cluster: Cluster, name: str, *, force: bool = False
) -> Node:
    """Take a node out of the cluster; where the server has a way to its machine, stop it there.

    Raises:
        NotFoundError: there is none of this name.
        ConflictError: it runs tasks, or holds the last copies of data, and is not forced.
    """
    require(tx, actor, "node.write")
    row = actions.found_node(tx, name, lock=True)
    removed = actions.remove_node(tx, actor, cluster, name, is_forced=force)
    if row.machine.get("source") in cluster.sources:
        order = replace(MachineOrder.from_json(row.machine), kind="remove", id=new_id("machine"))
        _put(tx, actor, order, "")
    return removed


def _put(tx: Transaction, actor: Actor, order: MachineOrder, verb: str) -> NodeWork:
    facts = {"order": order.to_json(), "asked_by": actor.user_id}
    job_id = jobs.put(tx, MACHINE_KIND, facts, key=order.id, max_tries=_TRIES)
    if verb:
        after = {"job": job_id, "source": order.source, "address": order.address}
        note(tx, actor, verb, f"node/{order.name}", after=after)
    return NodeWork(job_id, order.name, order.kind, "waiting", "", [])


def get_work(tx: Transaction, actor: Actor, job_id: str, *, after: int = 0) -> NodeWork:
    """Show how far a machine's work is.

    Args:
        tx: the transaction.
        actor: who asks.
        job_id: the work's id.
        after: only lines with higher numbers.

    Raises:
        NotFoundError: there is no such work.
    """
    require(tx, actor, "node.read")
    found: Job | None = None
    with suppress(NotFoundError):
        found = jobs.get_job(tx, SYSTEM, job_id)
    if found is None or found.kind != MACHINE_KIND:
        raise NotFoundError(
            f"There is no work on a machine {job_id!r}.",
            next_step="List it with `millpond job list --kind machines.add`.",
            job=job_id,
        )
    order = MachineOrder.from_json(found.facts["order"])
    lines = store.list_lines(tx, job_id, after)
    return NodeWork(job_id, order.name, order.kind, found.state, found.reason, lines)
