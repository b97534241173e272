"""Joining: leave to join, a machine that uses it, and certificates that are renewed."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, Fault, NotAllowedError
from millpond.ground.ids import new_id, new_secret
from millpond.machines import rules, store
from millpond.machines.actions import state_of, tell
from millpond.machines.authority import Issued
from millpond.machines.cluster import Cluster, check_open
from millpond.machines.port import MachineOrder
from millpond.machines.store import NodeRow, TokenRow
from millpond.machines.values import TOKEN_PREFIX, Joined, NewJoinToken, NodeFacts
from millpond.people.actions import require
from millpond.storage.database import Transaction

TOKEN_LIFE = timedelta(hours=1)
_SAID = {"other version": "of another version"}


def make_join_token(
    tx: Transaction,
    actor: Actor,
    cluster: Cluster,
    *,
    name: str = "",
    slots_most: int = 0,
    labels: Mapping[str, str] | None = None,
    order: MachineOrder | None = None,
) -> NewJoinToken:
    """Give leave to join one machine, good once and for an hour.

    Args:
        tx: the transaction.
        actor: who gives it.
        cluster: which it joins.
        name: the one name it is good for; empty for any.
        slots_most: what is taken from the machine at most; 0: what it tells when it joins.
        labels: words about it.
        order: what its machine was made by, if it was.

    Raises:
        InvalidError: name or labels are not good.
        ConflictError: a living node has that name, or machines cannot join here.
    """
    require(tx, actor, "node.write")
    check_open(cluster)
    faults = rules.faults_of_labels(labels or {}) + (rules.faults_of_name(name) if name else [])
    rules.refuse("The token", faults)
    if name:
        check_free(tx, cluster, name)
    token = f"{new_secret(TOKEN_PREFIX)}.{rules.end_of_token(cluster.authority.fingerprint)}"
    expires_at = tx.now + TOKEN_LIFE
    grants = {
        "slots_most": slots_most,
        "labels": dict(labels or {}),
        "machine": order.to_json() if order else {},
    }
    token_id = new_id("jointoken")
    values = {"id": token_id, "digest": _digest_of(token), "node": name, "grants": grants}
    made = {"made_by": actor.user_id, "made_at": tx.now, "expires_at": expires_at}
    store.add_token(tx, {**values, **made})
    after = {"node": name, "expires_at": expires_at.isoformat()}
    note(tx, actor, "node.token.made", f"node_token/{token_id}", after=after)
    named = f" --name {name}" if name else ""
    command = f"millpond node join {cluster.url} {token}{named}"
    return NewJoinToken(token, command, expires_at)


def check_free(tx: Transaction, cluster: Cluster, name: str) -> NodeRow | None:
    """Give what is left of a node of this name, if there was one.

    Raises:
        ConflictError: it is a living node's name.
    """
    held = store.find(tx, name, lock=True)
    if held is None or held.stage in ("removed", "joining"):
        return held
    raise _taken(name, state_of(held, cluster))


def _taken(name: str, state: str) -> ConflictError:
    return ConflictError(
        f"There is a node {name!r} already; it is {_SAID.get(state, state)}.",
        next_step="Choose another name, `--name`; or, if this machine takes its place, remove it"
        f" first: `millpond node remove {name}`.",
        node=name,
        state=state,
    )


def join_node(
    tx: Transaction,
    cluster: Cluster,
    *,
    token: str,
    name: str,
    csr: str,
    version: str,
    sent_at: datetime,
    facts: NodeFacts,
) -> Joined:
    """Take a machine as a node: whoever holds a good token may.

    A refusal changes nothing: the token stays good.

    Args:
        tx: the transaction.
        cluster: which it joins.
        token: leave to join.
        name: what it shall be called.
        csr: PEM of its request for a certificate.
        version: of Millpond there.
        sent_at: by its clock.
        facts: what it says of itself.

    Raises:
        NotAllowedError: the token is wrong, used or too old.
        ConflictError: it has another version of Millpond, or the name is taken.
        InvalidError: name, clock, Python, figures or the request are not good; lists all.
    """
    leave = _good_token(tx, cluster, token)
    rules.check_version(name, version, cluster.version, is_node=False)
    faults = rules.faults_of_name(name) + rules.faults_of_python(facts.python)
    faults += rules.faults_of_clock(sent_at, tx.now) + rules.faults_of_facts(facts)
    if leave.node and leave.node != name:
        faults = [*faults, Fault("name", f"is not {leave.node!r}, which the token is for")]
    rules.refuse(f"{name[:40]}", faults)
    held = check_free(tx, cluster, name)
    if not store.use_token(tx, leave.id, name):
        raise _used(leave)
    if held is not None:
        store.revoke(tx, store.of_node(name), "The machine has joined anew.")
        tx.after_commit(cluster.revoked.refresh)
    issued = cluster.authority.sign(csr.encode(), "node", name, (), tx.now)
    machine = leave.grants.get("machine", {})
    most = int(leave.grants.get("slots_most", 0)) or max(1, int(facts.slots))
    values = _values_of(tx, facts, version, issued, leave.grants, most)
    if held is not None:
        store.change(tx, name, values)
    elif not store.add(tx, name, values):
        raise _taken(name, "joining")
    store.add_certificate(tx, issued.serial, name, issued.expires_at)
    tell(tx, name, "joined", f"It joined from {facts.address}, with {facts.slots:g} slots.")
    after = {"serial": issued.serial, "token": leave.id, "source": machine.get("source", "")}
    note(tx, SYSTEM, "node.joined", f"node/{name}", after=after)
    tx.after_commit(lambda: cluster.presence.begin(name, slots_most=most))
    return Joined(
        name=name,
        certificate=issued.pem.decode(),
        authority=cluster.authority.pem.decode(),
        address=cluster.address,
        scheduler_port=cluster.limits.scheduler_port,
        door_port=cluster.door_port,
        token_key=cluster.token_key(),
        heartbeat_seconds=cluster.limits.heartbeat_seconds,
        slots_most=most,
    )


def _values_of(
    tx: Transaction,
    facts: NodeFacts,
    version: str,
    issued: Issued,
    grants: Mapping[str, Any],
    slots_most: int,
) -> dict[str, Any]:
    return {
        "stage": "joining",
        "is_draining": False,
        "told_state": "joining",
        "address": facts.address,
        "version": version,
        "slots_most": slots_most,
        "gpus_most": -1,
        "labels": grants.get("labels", {}),
        "price_per_hour": 0.0,
        "refused": "",
        "facts": asdict(facts),
        "meters": {},
        "store": {},
        "running": [],
        "serial": issued.serial,
        "machine": grants.get("machine", {}),
        "joined_at": tx.now,
        "seen_at": None,
        "removed_at": None,
    }


def renew_certificate(tx: Transaction, cluster: Cluster, name: str, csr: str) -> str:
    """Sign a node's new key, or its old one anew; the certificate before stays good to its end.

    Returns:
        PEM of the new certificate.

    Raises:
        NotAllowedError: there is no such node any more.
        InvalidError: the request is unsound.
    """
    row = store.find(tx, name, lock=True)
    if row is None or row.stage == "removed":
        raise removed_error(name)
    issued = cluster.authority.sign(csr.encode(), "node", name, (), tx.now)
    store.add_certificate(tx, issued.serial, name, issued.expires_at)
    store.change(tx, name, {"serial": issued.serial})
    tell(tx, name, "renewed", f"It renewed its certificate, to {issued.expires_at:%Y-%m-%d}.")
    after = {"serial": issued.serial}
    note(tx, SYSTEM, "node.certificate.renewed", f"node/{name}", after=after)
    return issued.pem.decode()


def removed_error(name: str) -> NotAllowedError:
    """Say that somebody is no node of this installation."""
    return NotAllowedError(
        f"{name[:80]!r} is no node of this installation any more.",
        next_step="Join it again: make a token with `millpond node token` on the host, and run the"
        " command that it shows on the machine.",
        kind="removed",
    )


def _good_token(tx: Transaction, cluster: Cluster, token: str) -> TokenRow:
    token = token.strip()
    end = rules.fingerprint_in(token)
    if end and end != rules.end_of_token(cluster.authority.fingerprint):
        raise _refused_token("is of another installation, or was changed on the way")
    found = store.find_token(tx, _digest_of(token)) if end else None
    if found is None:
        raise _refused_token("is wrong, or was changed on the way")
    if found.used_at is not None:
        raise _used(found)
    if found.expires_at <= tx.now:
        raise _refused_token(f"was good until {found.expires_at:%Y-%m-%d %H:%M} UTC")
    return found


def _used(token: TokenRow) -> NotAllowedError:
    return _refused_token(f"was used already, by {token.used_by or 'another machine'}")


def _refused_token(why: str) -> NotAllowedError:
    return NotAllowedError(
        f"The join token {why}.",
        next_step="Make a new one on the host: `millpond node token`; it is good once, for an"
        " hour.",
        kind="token",
    )


def _digest_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
