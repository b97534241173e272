"""The installation itself: versions, where tasks run, settings, and how all of it is."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.engine.local import LocalEngine
from millpond.engine.values import NodeInfo
from millpond.ground.actor import Actor
from millpond.ground.findings import Finding, look_at_folder
from millpond.ground.origins import SettingSeen, settings_file, settings_seen
from millpond.ground.settings import Settings
from millpond.jobs.actions import count_jobs
from millpond.jobs.values import JobCounts
from millpond.people.actions import require
from millpond.storage.database import Database, Transaction
from millpond.storage.looking import look_at_objects
from millpond.storage.port import ObjectStore
from millpond.web.health import look


@dataclass(frozen=True)
class Installation:
    """What the server was made of, for those who look after it.

    Attributes:
        version: of Millpond.
        settings: those it started with.
        environ: the variables it started with.
        data: folder of its data.
        database: where facts are.
        objects: where bytes are.
        engine: where tasks run.
        findings: what rooms above find when they are asked how they are.
    """

    version: str
    settings: Settings
    environ: Mapping[str, str]
    data: Path
    database: Database
    objects: ObjectStore
    engine: LocalEngine
    findings: Callable[[], Iterable[Finding]] = tuple


@dataclass(frozen=True)
class SystemInfo:
    """What an administrator asks first.

    Attributes:
        version: of Millpond.
        python: of the server.
        machine: its name and kind.
        database: ``sqlite`` or ``postgresql``.
        objects: ``folder`` or ``s3``.
        nodes: where tasks run.
        settings: all of them, secrets masked.
    """

    version: str
    python: str
    machine: str
    database: str
    objects: str
    nodes: list[NodeInfo]
    settings: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class SystemSettings:
    """Every setting as the server sees it.

    Attributes:
        file: where to write those that shall be others; read at the next start.
        settings: in the order of the documentation.
    """

    file: str
    settings: list[SettingSeen]


@dataclass(frozen=True)
class SystemHealth:
    """How the server is.

    Attributes:
        status: the worst of the findings: ``ok``, ``warning`` or ``fault``.
        findings: what was looked at.
    """

    status: str
    findings: list[Finding]


def get_system(tx: Transaction, actor: Actor, installation: Installation) -> SystemInfo:
    """Show versions, where tasks run, and every setting with secrets masked."""
    require(tx, actor, "system.read")
    return SystemInfo(
        version=installation.version,
        python=platform.python_version(),
        machine=f"{platform.node()}, {platform.system()} {platform.machine()}",
        database="sqlite" if installation.database.is_sqlite else "postgresql",
        objects=installation.settings.objects.kind,
        nodes=installation.engine.nodes(),
        settings=installation.settings.shown(),
    )


def get_settings(tx: Transaction, actor: Actor, installation: Installation) -> SystemSettings:
    """Show every setting, secrets masked, with where its value comes from."""
    require(tx, actor, "system.read")
    data, environ = installation.data, installation.environ
    seen = settings_seen(installation.settings, data, environ)
    return SystemSettings(str(settings_file(data, environ)), list(seen))


def get_health(actor: Actor, installation: Installation) -> SystemHealth:
    """Look at the database, the objects, the disk, the sandbox and the queue; no transaction."""

    def count(tx: Transaction) -> JobCounts:
        require(tx, actor, "system.read")
        return count_jobs(tx)

    counts = installation.database.read(count)
    found = [
        *_stores(installation),
        *installation.findings(),
        *_machine(installation),
        *_queue(counts),
    ]
    states = {one.state for one in found}
    worst = next((state for state in ("fault", "warning") if state in states), "ok")
    return SystemHealth(worst, found)


def _stores(installation: Installation) -> Iterator[Finding]:
    health = look(installation.database, installation.objects, installation.version)
    kind = "SQLite" if installation.database.is_sqlite else "PostgreSQL"
    yield _answering("database", kind, health.database)
    yield _answering("objects", installation.settings.objects.kind, health.objects)
    yield from look_at_objects(installation.objects)
    yield from look_at_folder(installation.data)


def _answering(name: str, kind: str, said: str) -> Finding:
    if said == "ok":
        return Finding(name, "ok", f"{kind}, answers")
    return Finding(name, "fault", f"{kind}: {said}")


def _machine(installation: Installation) -> Iterator[Finding]:
    for ability in installation.engine.machine.abilities:
        state = "ok" if ability.works else "warning"
        yield Finding(ability.name, state, ability.reason, ability.next_step)
    for node in installation.engine.nodes()[:1]:  # Of the others, `findings` tell more.
        free = f"{node.free_slots:g} of {node.slots:g} slots free"
        yield Finding(f"node {node.name}", "ok", free)


def _queue(counts: JobCounts) -> Iterator[Finding]:
    text = f"{counts.running:,} running, {counts.waiting:,} waiting, {counts.dead:,} given up"
    if counts.dead:
        yield Finding(
            "queue", "warning", text,
            "Look at those that were given up, and requeue or cancel them:"
            " `millpond job list --state dead`.",
        )  # fmt: skip
    else:
        yield Finding("queue", "ok", text)
