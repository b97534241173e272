"""Pages of environments: list, one with its lock and its build, a new one."""

import re
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from millpond.environments import actions
from millpond.environments.logs import log_prefix, read_log
from millpond.environments.requests import EnvironmentIn
from millpond.environments.values import EnvironmentVersion
from millpond.ground.errors import InvalidError
from millpond.people.actions import open_project
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.calls import PageIn
from millpond.web.portal import FormIn, NavItem, Portal, Visit, VisitIn, page

_ALL = "/projects/{project}/environments"
_ONE = _ALL + "/{name}"
_VERSIONS_SHOWN = 20

NAV = (NavItem("Environments", _ALL, icon="package", permission="environment.read", order=40),)

NumberIn = Annotated[int | None, Query(alias="version", ge=1, lt=10**9)]


def pages(portal: Portal, objects: ObjectStore) -> APIRouter:
    """Make the pages; logs lie in the object store."""
    router = APIRouter()
    _add_list(router, portal)
    _add_new(router, portal)
    _add_one(router, portal, objects)
    return router


def _add_list(router: APIRouter, portal: Portal) -> None:
    @router.get(_ALL, **page("environment.read"))
    def show_environments(visit: VisitIn, project: str, asked: PageIn) -> HTMLResponse:
        """List the project's environments by name."""
        found = visit.read(
            lambda tx: actions.list_environments(
                tx,
                visit.actor,
                open_project(tx, visit.actor, project, "environment.read").id,
                cursor=asked.cursor,
                limit=asked.limit,
            )
        )
        return portal.render(visit, "environments/list.html", found=found)


def _add_new(router: APIRouter, portal: Portal) -> None:
    @router.get(_ALL + "/new", **page("environment.write"))
    def show_new(visit: VisitIn, project: str, name: str = "") -> HTMLResponse:
        """Show the form of a new environment, or of a new version of one."""

        def look(tx: Transaction) -> EnvironmentVersion | None:
            project_id = open_project(tx, visit.actor, project, "environment.write").id
            return actions.get_version(tx, project_id, name) if name else None

        return portal.render(visit, "environments/new.html", before=visit.read(look))

    @router.post(_ALL + "/new", **page("environment.write"))
    def make_version(visit: VisitIn, project: str, form: FormIn) -> Response:
        """Ask for a version; it is locked and built in the background."""
        names = re.split(r"[\s,]+", form.values.get("build_from_source", "").strip())
        text = form.values.get("requirements", "").replace("\r\n", "\n")
        try:
            asked = form.to(
                EnvironmentIn,
                requirements=text,
                build_from_source=[name for name in names if name],
                upgrade=form.values.get("upgrade") == "true",
            )
            made = visit.change(
                lambda tx: actions.add_version(
                    tx,
                    visit.actor,
                    open_project(tx, visit.actor, project, "environment.write").id,
                    asked.name,
                    asked.requirements,
                    upgrade=asked.upgrade,
                    build_from_source=asked.build_from_source,
                )
            )
        except InvalidError as fault:
            return portal.render(
                visit, "environments/new.html", 422, form=form, fault=fault, before=None
            )
        said = f"{made.address} is being made." if not made.unchanged else (
            f"{made.address} has these very requirements already."
        )  # fmt: skip
        return portal.go(visit, f"/projects/{project}/environments/{made.name}", said)


def _add_one(router: APIRouter, portal: Portal, objects: ObjectStore) -> None:
    @router.get(_ONE, **page("environment.read"))
    def show_environment(
        visit: VisitIn, project: str, name: str, number: NumberIn = None
    ) -> HTMLResponse:
        """Show a version, the newest when none is named: state, packages, lock, build."""

        def look(tx: Transaction) -> dict[str, object]:
            project_id = open_project(tx, visit.actor, project, "environment.read").id
            version = actions.get_version(tx, project_id, _address(name, number))
            listed = actions.list_versions(tx, visit.actor, project_id, name, limit=_VERSIONS_SHOWN)
            return {"found": version, "versions": listed}

        facts = visit.read(look)
        template = "build.html" if visit.is_fragment else "one.html"
        return portal.render(
            visit, f"environments/{template}", 200, is_pinned=bool(number), **facts
        )

    @router.get(_ONE + "/log", **page("environment.read"))
    def show_log(
        visit: VisitIn,
        project: str,
        name: str,
        number: NumberIn = None,
        after: Annotated[int, Query(ge=0, lt=10**8)] = 0,
    ) -> HTMLResponse:
        """Give the next piece of a build's log, which asks for the one after it."""
        project_id, version = _find(visit, project, _address(name, number))
        has_ended = version.state in ("ready", "failed")
        part = read_log(objects, log_prefix(project_id, version.id), after, has_ended=has_ended)
        return portal.render(visit, "environments/log.html", part=part, found=version)

    @router.get(_ONE + "/lock", **page("environment.read"))
    def get_lock(visit: VisitIn, project: str, name: str, number: NumberIn = None) -> Response:
        """Download the lock: a requirements file with hashes."""

        def look(tx: Transaction) -> tuple[str, str]:
            project_id = open_project(tx, visit.actor, project, "environment.read").id
            version = actions.get_version(tx, project_id, _address(name, number))
            return version.address, actions.lock_text(tx, project_id, version.address)

        address, text = visit.read(look)
        told = f'attachment; filename="{address.replace("@", "-")}.txt"'
        headers = {"Content-Disposition": told, "X-Content-Type-Options": "nosniff"}
        return PlainTextResponse(text, headers=headers)


def _address(name: str, number: int | None) -> str:
    return name if number is None else f"{name}@{number}"


def _find(visit: Visit, project: str, address: str) -> tuple[str, EnvironmentVersion]:
    def look(tx: Transaction) -> tuple[str, EnvironmentVersion]:
        project_id = open_project(tx, visit.actor, project, "environment.read").id
        return project_id, actions.get_version(tx, project_id, address)

    return visit.read(look)
