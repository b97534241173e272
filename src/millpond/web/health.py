"""Whether the server can work: its database and its objects answer."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Response

from millpond.ground.errors import MillpondError
from millpond.storage.database import Database
from millpond.storage.events import last_number
from millpond.storage.port import ObjectStore
from millpond.web.calls import open_route


@dataclass(frozen=True)
class Health:
    """What a watcher wants to know.

    Attributes:
        status: ``ok`` when everything below is, else ``failing``.
        version: of Millpond.
        database: ``ok``, or why it does not answer and the next step, in our own words.
        objects: the same of the object store.
    """

    status: str
    version: str
    database: str
    objects: str


def routes(database: Database, objects: ObjectStore, version: str) -> APIRouter:
    """Give the route, which stands at the root."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz",
        **open_route(),
        summary="Tell whether the server works",
        responses={503: {"model": Health, "description": "It does not."}},
    )
    def get_health(response: Response) -> Health:
        """Ask the database and the object store for something small."""
        health = look(database, objects, version)
        if health.status != "ok":
            response.status_code = 503
        return health

    return router


def look(database: Database, objects: ObjectStore, version: str) -> Health:
    """Ask the database and the object store for something small."""
    of_database = _ask(lambda: database.read(last_number))
    of_objects = _ask(lambda: objects.exists("healthz"))
    is_well = of_database == of_objects == "ok"
    return Health("ok" if is_well else "failing", version, of_database, of_objects)


def _ask(action: Callable[[], object]) -> str:
    try:
        action()
    except MillpondError as fault:
        return f"{fault.message} {fault.next_step}"
    return "ok"
