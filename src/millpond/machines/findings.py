"""Decide, without reading or writing anything, what is wrong with a node, and how to mend it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from millpond.ground.findings import Finding
from millpond.ground.versions import is_same
from millpond.machines.rules import silence_in_words
from millpond.machines.values import Node

CERTIFICATE_LEFT_LEAST = timedelta(days=21)
"""A node renews its certificate long before; with less left something is wrong."""


def findings_of(node: Node, version: str, now: datetime) -> list[Finding]:
    """Say what is wrong with a node and how to mend it; one line that it is well when nothing is.

    Args:
        node: as it is seen now.
        version: of the server.
        now: UTC.
    """
    name = f"node {node.name}"
    found = [*_state_findings(name, node, now), *_machine_findings(name, node)]
    ends = node.certificate_expires_at
    if node.state != "removed" and ends is not None and ends - now < CERTIFICATE_LEFT_LEAST:
        found.append(
            Finding(
                name,
                "fault" if ends <= now else "warning",
                f"its certificate ends at {ends:%Y-%m-%d %H:%M} UTC",
                "It renews itself while its service runs: start that, or join it again with"
                f" `millpond node token --name {node.name}`.",
            )
        )
    if node.state not in ("joining", "removed") and not is_same(node.version, version):
        step = f"millpond node upgrade {node.name}"
        text = f"it runs Millpond {node.version}, the server {version}: they must be the same"
        found.append(Finding(name, "fault", text, step))
    if found:
        return found
    figures = f"{node.slots_used:g} of {node.slots:g} slots taken"
    return [Finding(name, "ok", f"{node.state}, {figures}")]


def _state_findings(name: str, node: Node, now: datetime) -> Iterable[Finding]:
    start = "systemctl status millpond-worker"
    if node.refused and node.state != "other version":  # That is told with its own finding.
        yield Finding(name, "fault", f"is refused: {node.refused}")
    if node.state in ("suspect", "lost"):
        silent = (now - node.seen_at).total_seconds() if node.seen_at else 0.0
        yield Finding(
            name,
            "fault" if node.state == "lost" else "warning",
            f"{node.state}: {silence_in_words(silent)}",
            f"Look on {node.address} whether the machine, its network and its service run:"
            f" `{start}`. If it does not come back: `millpond node remove {node.name}`.",
        )
    elif node.state == "joining":
        yield Finding(
            name,
            "warning",
            "has joined and was never heard of since",
            f"Start its service on {node.address}: `{start}`.",
        )
    elif node.paused and node.state != "other version":
        yield Finding(
            name,
            "warning",
            f"gets no new tasks: {node.paused}",
            "It goes on by itself when the figures are better; free memory or space there, or"
            " change the thresholds in the settings (cluster).",
        )


def _machine_findings(name: str, node: Node) -> Iterable[Finding]:
    if node.state in ("joining", "removed"):
        return
    if not node.facts.isolated:
        why = node.facts.reason or "no sandbox works there"
        step = "Install bubblewrap on it: `apt-get install bubblewrap`."
        yield Finding(name, "warning", f"runs tasks without isolation: {why}", step)
    if node.slots_most and node.facts.slots > node.slots_most:
        yield Finding(
            name,
            "warning",
            f"tells {node.facts.slots:g} slots; {node.slots_most} are taken, as was agreed",
            f"If it really has them: `millpond node set {node.name} --slots {node.facts.slots:g}`.",
        )
    if node.store is not None and not node.store.is_ok:
        why = node.store.reason or "it does not take or give bytes"
        step = f"Look at the disk of {node.facts.data_disk} on {node.address}."
        yield Finding(name, "fault", f"its data disk has failed: {why}", step)
    elif node.store is not None and node.store.total_bytes and not node.store.free_bytes:
        yield Finding(
            name,
            "warning",
            "its data disk has no room for more; what is made lies on the other nodes",
            f"Free space on {node.facts.data_disk} on {node.address}, or add a node.",
        )


def scheduler_finding(reason: str, data: Path) -> Finding:
    """Say whether the scheduler answers, and how to start it.

    Args:
        reason: why no node can be used now, as the engine says it; empty when all is well.
        data: the server's data folder.
    """
    if not reason:
        return Finding("scheduler", "ok", "answers")
    return Finding(
        "scheduler",
        "fault",
        reason,
        "Start it on the host: `systemctl start millpond-scheduler`, or `python -m"
        f" millpond.engine.cluster.scheduler --folder {data}/cluster --authority"
        f" {data}/keys/authority.crt`. Tasks wait meanwhile.",
    )
