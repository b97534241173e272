"""Open what tasks on nodes need of the host: an engine, grants, the routes of the door."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from millpond.engine.cluster.desk import FindOver, nothing_over
from millpond.engine.cluster.engine import DaskEngine, MakeGrant
from millpond.engine.cluster.grants import sign_read, sign_token
from millpond.engine.cluster.joined import JoinedEngine
from millpond.engine.local import LocalEngine
from millpond.engine.values import TaskSpec
from millpond.ground.clock import Clock, SystemClock
from millpond.ground.key_files import read_or_make
from millpond.ground.settings import Settings
from millpond.ground.tls import Identity
from millpond.machines.door import data
from millpond.machines.door.app import PREFIX
from millpond.machines.door.desks import choose_desk
from millpond.machines.heartbeats import Heard, Listener
from millpond.storage import routes as object_routes
from millpond.storage.database import Transaction
from millpond.storage.folder import FolderStore
from millpond.storage.nodes.ledger import Ledger
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import DiskFacts
from millpond.storage.port import ObjectStore

_OBJECT, _LOCK = "object:", "lock:"
_SECRET_BYTES = 32


def open_secret(keys: Path) -> bytes:
    """Read what tasks' tokens are signed with; made once, and kept for servers after this one."""
    return read_or_make(keys / "tasks.key", lambda: os.urandom(_SECRET_BYTES))


def make_granting(secret: bytes, clock: Clock | None = None) -> MakeGrant:
    """Make what gives a task's node its token, and leave to read what the task names."""
    moment = clock or SystemClock()

    def grant(task: TaskSpec, node: str) -> Mapping[str, Any]:
        token = sign_token(
            secret,
            key=task.key,
            node=node,
            prefix=task.output_prefix,
            project_id=task.project_id,
            now=moment.now(),
            log_bytes=task.limits.log_bytes,
        )
        names = {each.url.removeprefix(_OBJECT) for each in (*task.code, *task.inputs)}
        if task.environment.startswith(_LOCK):
            names.add(task.environment)
        reads = {name: sign_read(secret, task.key, name) for name in names}
        return {"task": token.to_json(), "reads": reads}

    return grant


def open_engine(
    settings: Settings,
    local: LocalEngine,
    identity: Identity,
    secret: bytes,
    find_over: FindOver = nothing_over,
) -> JoinedEngine:
    """Join the host's own engine and the nodes', whose scheduler is looked for from now on.

    Args:
        settings: the server's.
        local: the host's own engine.
        identity: the host's certificate.
        secret: signs what a node needs for a task.
        find_over: tells which tasks are over that nodes have and nobody has asked for.
    """
    host = settings.cluster.door_host or "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    scheduler = f"tls://{shown}:{settings.cluster.scheduler_port}"
    granting = make_granting(secret)
    cluster = DaskEngine(scheduler, identity, grant=granting, find_over=find_over)
    return JoinedEngine(local, cluster, settings.engine.slots)


def data_routers(
    engine: JoinedEngine,
    objects: ObjectStore,
    secret: bytes,
    find_lock: Callable[[str], data.LockText | None],
) -> Sequence[APIRouter]:
    """Give the door's routes for tasks' objects, logs, progress and locks."""
    tools = data.DataTools(
        secret=secret,
        desk=choose_desk(objects, PREFIX),
        objects=objects,
        clock=SystemClock(),
        tell=engine.take_progress,
        find_lock=find_lock,
        runs=engine.runs,
        is_over=engine.is_over,
    )
    routers = [data.routes(tools)]
    if isinstance(objects, FolderStore | NodeStore):
        routers.append(object_routes.routes(objects))
    return routers


def make_hearing(
    settings: Settings, ledger: Ledger, note: Callable[[str, Mapping[str, Any]], str]
) -> Listener:
    """Make what hears each heartbeat: the store and the meters do, and the node is told the rules.

    Args:
        settings: the server's.
        ledger: knows the nodes' data disks, also while objects lie elsewhere: they may move there.
        note: takes a node's meters.
    """

    def hear(tx: Transaction, heard: Heard) -> Mapping[str, Any]:
        told = heard.heartbeat
        answer: dict[str, Any] = {"allow_unisolated": settings.engine.allow_unisolated}

        def keep() -> None:
            note(heard.node, told.meters)

        tx.after_commit(keep)
        if told.store is not None:
            facts, store = told.facts, told.store
            host = f"[{facts.address}]" if ":" in facts.address else facts.address
            epoch = int(store.epoch) if store.epoch.isdecimal() else 0
            disk = DiskFacts.from_json(vars(store) | {"epoch": epoch})
            url = f"https://{host}:{facts.data_port}"
            answer["store_epoch"] = ledger.note_node(tx, heard.node, url, disk)
            ledger.note_draining(tx, heard.node, is_draining=heard.is_draining)
        return answer

    return hear
