"""REST of environments."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse

from millpond.environments import actions
from millpond.environments.logs import log_prefix, read_log
from millpond.environments.requests import EnvironmentIn
from millpond.environments.values import Environment, EnvironmentVersion, LogPart
from millpond.ground.page import Page
from millpond.people.actions import open_project
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, PageIn, needs

Number = Annotated[int, Path(ge=1)]


def routes(objects: ObjectStore) -> APIRouter:
    """Make the routes; logs lie in the object store."""
    router = APIRouter(prefix="/projects/{project}/environments", tags=["environments"])
    _add_lists(router)
    _add_one(router)
    _add_versions(router, objects)
    return router


def _add_lists(router: APIRouter) -> None:
    @router.get("", **needs("environment.read"))
    def list_environments(call: CallIn, project: str, page: PageIn) -> Page[Environment]:
        """List the project's environments by name."""
        return call.read(
            lambda tx: actions.list_environments(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "environment.read").id,
                cursor=page.cursor,
                limit=page.limit,
            )
        )

    @router.post("", status_code=201, **needs("environment.write"))
    def add_version(call: CallIn, project: str, asked: EnvironmentIn) -> EnvironmentVersion:
        """Ask for a version; it is locked and built in the background.

        The same requirements as the newest version's give that one back, marked unchanged.
        """
        return call.make(
            lambda tx: actions.add_version(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "environment.write").id,
                asked.name,
                asked.requirements,
                upgrade=asked.upgrade,
                build_from_source=asked.build_from_source,
            )
        )


def _add_one(router: APIRouter) -> None:
    @router.get("/{name}", **needs("environment.read"))
    def get_newest(call: CallIn, project: str, name: str) -> EnvironmentVersion:
        """Show the newest version of an environment."""
        return _find(call, project, name)[1]

    @router.get("/{name}/versions", **needs("environment.read"))
    def list_versions(
        call: CallIn, project: str, name: str, page: PageIn
    ) -> Page[EnvironmentVersion]:
        """List an environment's versions, newest first."""
        return call.read(
            lambda tx: actions.list_versions(
                tx,
                call.actor,
                open_project(tx, call.actor, project, "environment.read").id,
                name,
                cursor=page.cursor,
                limit=page.limit,
            )
        )


def _add_versions(router: APIRouter, objects: ObjectStore) -> None:
    @router.get("/{name}/versions/{number}", **needs("environment.read"))
    def get_version(call: CallIn, project: str, name: str, number: Number) -> EnvironmentVersion:
        """Show a version with its state and what its lock pins."""
        return _find(call, project, f"{name}@{number}")[1]

    @router.get("/{name}/versions/{number}/log", **needs("environment.read"))
    def get_log(
        call: CallIn,
        project: str,
        name: str,
        number: Number,
        after: Annotated[int, Query(ge=0, lt=10**8, description="`next` of the part before.")] = 0,
    ) -> LogPart:
        """Read the log of a build, live; go on with ``after`` until it is complete."""
        project_id, version = _find(call, project, f"{name}@{number}")
        has_ended = version.state in ("ready", "failed")
        prefix = log_prefix(project_id, version.id)
        return read_log(objects, prefix, after, has_ended=has_ended)

    @router.get(
        "/{name}/versions/{number}/lock",
        response_class=PlainTextResponse,
        **needs("environment.read"),
    )
    def get_lock(call: CallIn, project: str, name: str, number: Number) -> str:
        """Give the lock: a requirements file with hashes."""
        return call.read(
            lambda tx: actions.lock_text(
                tx,
                open_project(tx, call.actor, project, "environment.read").id,
                f"{name}@{number}",
            )
        )


def _find(call: Call, project: str, address: str) -> tuple[str, EnvironmentVersion]:
    def find(tx: Transaction) -> tuple[str, EnvironmentVersion]:
        project_id = open_project(tx, call.actor, project, "environment.read").id
        return project_id, actions.get_version(tx, project_id, address)

    return call.read(find)
