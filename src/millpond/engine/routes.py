"""REST of the installation itself: versions, where tasks run, settings."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from millpond.engine.port import Engine
from millpond.engine.values import NodeInfo
from millpond.people.actions import require
from millpond.web.frame import CallIn, needs


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


def routes(
    engine: Engine,
    *,
    version: str,
    database: str,
    objects: str,
    settings: Callable[[], dict[str, dict[str, Any]]],
) -> APIRouter:
    """Make the routes of the installation."""
    router = APIRouter(tags=["system"])

    @router.get("/system", **needs("system.read"), summary="Show the server")
    def get_system(call: CallIn) -> SystemInfo:
        """Show versions, where tasks run, and every setting with secrets masked."""
        call.read(lambda tx: require(tx, call.actor, "system.read"))
        return SystemInfo(
            version=version,
            python=platform.python_version(),
            machine=f"{platform.node()}, {platform.system()} {platform.machine()}",
            database=database,
            objects=objects,
            nodes=engine.nodes(),
            settings=settings(),
        )

    return router
