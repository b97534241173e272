"""The portal: joins the rooms' pages. Made at the first visit, so that a server starts quickly.

A room adds its ``NAV`` and its ``pages(...)`` in one line each.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from fastapi import APIRouter, FastAPI

from millpond.audit import pages as audit_pages
from millpond.audit.targets import Targets
from millpond.audit.values import ProjectRef
from millpond.engine import pages as engine_pages
from millpond.environments import pages as environment_pages
from millpond.ground.actor import Actor
from millpond.ground.errors import MillpondError
from millpond.house import ENDINGS, House, installation_of
from millpond.jobs import pages as job_pages
from millpond.lake import pages as lake_pages
from millpond.lake.recent import show_datasets
from millpond.lake.values import LakeLimits
from millpond.machines import pages as node_pages
from millpond.machines.prices import list_prices
from millpond.machines.trust.rules import NOT_ENCRYPTED, is_pinned, is_plain, login_line
from millpond.people import pages as people_pages
from millpond.people.accounts import pages as account_pages
from millpond.people.accounts.profile import pages as profile_pages
from millpond.people.accounts.resets import pages as reset_pages
from millpond.people.accounts.sessions import pages as session_pages
from millpond.people.accounts.tokens import pages as token_pages
from millpond.people.actions import (
    open_project,
    permissions_in,
    permissions_on_site,
    require,
)
from millpond.people.invitations import pages as invitation_pages
from millpond.people.oidc import pages as oidc_pages
from millpond.people.passkeys import pages as passkey_pages
from millpond.people.rules import needs_project
from millpond.people.users import pages as user_pages
from millpond.pipelines import pages as pipeline_pages
from millpond.pipelines.runs.recent import show_runs
from millpond.pipelines.specs.recent import show_pipelines
from millpond.storage.database import Transaction
from millpond.watch import pages as watch_pages
from millpond.watch.usage import pages as usage_pages
from millpond.web import assets, live
from millpond.web.portal import Later, NavItem, Portal, Surroundings
from millpond.web.site import SiteMount, build_site, without_portal

_STATIC = Path(assets.__file__).parent / "static"
_NAV: tuple[tuple[NavItem, ...], ...] = (
    people_pages.NAV,
    lake_pages.NAV,
    audit_pages.NAV,
    user_pages.NAV,
    profile_pages.NAV,
    invitation_pages.NAV,
    job_pages.NAV,
    engine_pages.NAV,
    environment_pages.NAV,
    pipeline_pages.NAV,
    node_pages.NAV,
    watch_pages.NAV,
    usage_pages.NAV,
)

_TARGETS = Targets(
    {
        "dataset": "/projects/{project}/datasets/{name}",
        "environment": "/projects/{project}/environments/{name}",
        "job": "/admin/queue/{name}",
        "node": "/admin/nodes/{name}",
        "pipeline": "/projects/{project}/pipelines/{name}",
        "project": "/projects/{name}",
        "run": "/projects/{project}/runs/{name}",
        "user": "/admin/users/{name}",
    }
)


def hang_pages(app: FastAPI, house: House, version: str) -> None:
    """Hang the pages below the REST interface; without assets, an answer that says so."""
    built = assets.Assets(_STATIC)
    if not built.is_there:
        app.add_route("/", without_portal)
        return
    portal = Portal(
        built,
        survey,
        url=house.url,
        version=version,
        nav=chain.from_iterable(_NAV),
        warning=NOT_ENCRYPTED if is_plain(house.tls.way, house.url) else "",
    )
    app.state.session_cookie = portal.session_cookie

    def make() -> FastAPI:
        return build_site(app, portal, check, (*_frame(house, built), *_rooms(house, portal)))

    site = Later(make)
    app.state.site = site
    app.router.routes.append(SiteMount(site))


def check(tx: Transaction, actor: Actor, permission: str, project: str) -> None:
    """Refuse unless an actor has a page's permission, in its project or on the site."""
    if project and needs_project(permission):
        open_project(tx, actor, project, permission)
    else:
        require(tx, actor, permission)


def survey(tx: Transaction, actor: Actor, name: str) -> Surroundings:
    """Tell what an actor may do on the site, and in the project of this name if they see it."""
    permissions = permissions_on_site(actor)
    if not name:
        return Surroundings(permissions)
    try:
        project = open_project(tx, actor, name, "project.read")
    except MillpondError:
        return Surroundings(permissions)
    return Surroundings(
        permissions | permissions_in(actor, project), project.name, project.is_archived
    )


def find_project(tx: Transaction, actor: Actor, name: str, permission: str) -> ProjectRef:
    """Give what the log must know of a project, if the actor may do this in it."""
    found = open_project(tx, actor, name, permission)
    return ProjectRef(found.id, found.name)


def _frame(house: House, built: assets.Assets) -> Iterator[APIRouter]:
    def may_listen(tx: Transaction, actor: Actor, name: str) -> str:
        return open_project(tx, actor, name, "project.read").id

    yield assets.routes(built)
    yield live.routes(house.hub, may_listen)


def _rooms(house: House, portal: Portal) -> Iterator[APIRouter]:
    policy = house.settings.people.sign_up
    yield people_pages.pages(
        portal,
        box=house.box,
        panels=(show_runs, show_datasets, show_pipelines),
        targets=_TARGETS,
    )
    yield audit_pages.pages(
        portal, may=require, find_project=find_project, key=house.seal_key, targets=_TARGETS
    )
    yield account_pages.pages(portal, passwords=house.passwords, is_sign_up_open=policy == "open")
    yield invitation_pages.pages(portal, passwords=house.passwords, policy=policy, post=house.post)
    yield profile_pages.pages(portal, passwords=house.passwords)
    yield session_pages.pages(portal)
    yield reset_pages.pages(portal, passwords=house.passwords, url=house.url, post=house.post)
    yield token_pages.pages(portal)
    yield user_pages.pages(portal, passwords=house.passwords)
    yield passkey_pages.pages(portal)
    yield oidc_pages.pages(portal, house.settings.oidc)
    yield job_pages.pages(portal, ENDINGS.keys(), ENDINGS)
    yield engine_pages.pages(portal, installation_of(house), **_reached(house))
    yield environment_pages.pages(portal, house.objects)
    yield node_pages.pages(portal, house.cluster, links={"Plots": "/admin/monitor/{node}"})
    yield watch_pages.pages(portal, house.recorder, house.cluster.tasks_on)
    yield usage_pages.pages(portal, list_prices)
    limits = LakeLimits(**asdict(house.settings.lake))
    yield lake_pages.pages(portal, house.objects, limits)
    yield from pipeline_pages.pages(portal, house.objects, limits, live=house.cluster.tasks)


def _reached(house: House) -> dict[str, str]:
    """Say how others sign in from their machines."""
    way, fingerprint = house.tls.way, house.tls.authority.fingerprint
    if is_pinned(house.settings.server, way):
        return {"sign_in": login_line(house.url, fingerprint), "fingerprint": fingerprint}
    return {} if way == "near" else {"sign_in": login_line(house.url)}
