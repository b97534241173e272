"""Pages of projects, members and secrets, and the home page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response

from millpond.audit.targets import Targets
from millpond.ground.errors import ConflictError, Fault, InvalidError, MillpondError, NotFoundError
from millpond.people import actions, overview
from millpond.people.requests import MemberRequest, ProjectChange, ProjectRequest, SecretRequest
from millpond.people.rules import ROLES
from millpond.people.values import Project, ProjectFilter
from millpond.people.vault import SecretBox
from millpond.storage.database import Transaction
from millpond.web.calls import PageIn
from millpond.web.panels import FirstStep, Panel, PanelSource, Place
from millpond.web.portal import Form, FormIn, NavItem, Portal, Visit, VisitIn, page

_P = "/projects/{project}"
NAV = (
    NavItem(
        "Projects", "/projects", icon="folders", permission="project.list", place="site", order=10
    ),
    NavItem(
        "Overview", _P, icon="layout-dashboard", permission="project.read", place="project", order=0
    ),
    NavItem("Members", f"{_P}/members", icon="users", permission="member.read", order=85),
    NavItem("Secrets", f"{_P}/secrets", icon="key", permission="secret.list", order=90),
)
_BUSY_PROJECTS, _ROWS, _CHANGES, _FACES = 8, 6, 10, 12
_Place = Annotated[int, Path(ge=0, le=50)]
_Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class _Tools:
    portal: Portal
    box: SecretBox
    panels: Sequence[PanelSource]
    targets: Targets


def pages(
    portal: Portal, *, box: SecretBox, panels: Sequence[PanelSource], targets: Targets
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        box: encrypts secrets.
        panels: what the rooms above show on the home page and on a project's page.
        targets: knows the pages of what changes speak of.
    """
    router, tools = APIRouter(), _Tools(portal, box, panels, targets)
    _add_home(router, tools)
    _add_projects(router, tools)
    _add_project(router, tools)
    _add_settings(router, tools)
    _add_leaving(router, tools)
    _add_members(router, tools)
    _add_secrets(router, tools)
    return router


def at_field(field: str, action: Callable[[], Response]) -> Response:
    """Do something whose object a field names: that there is none is that field's fault."""
    try:
        return action()
    except NotFoundError as fault:
        raise InvalidError(
            fault.message, next_step=fault.next_step, faults=[Fault(field, fault.message)]
        ) from fault


# Home ------------------------------------------------------------------------------------------


def _add_home(router: APIRouter, tools: _Tools) -> None:
    @router.get("/", **page("project.list"))
    def show_home(visit: VisitIn) -> HTMLResponse:
        """Show what is mine, what runs now, what changed, and what to do first."""

        def read(tx: Transaction) -> dict[str, Any]:
            seen = overview.my_projects(tx, visit.actor)
            busy = [one.project for one in seen[:_BUSY_PROJECTS]]
            panels = _panels(tx, visit, tools, busy)
            make = FirstStep(
                10, "Make a project", "millpond project make NAME", "/projects/new", bool(seen)
            )
            steps = [make, *(step for panel in panels for step in panel.steps)]
            return {
                "steps": sorted(steps, key=lambda step: step.order),
                "seen": seen[:_BUSY_PROJECTS],
                "more": max(0, len(seen) - _BUSY_PROJECTS),
                "panels": panels,
                "changes": overview.newest_changes(tx, visit.actor, busy, tools.targets, _CHANGES),
            }

        return tools.portal.render(visit, "people/home.html", **visit.read(read))

    @router.get("/panels/{place}", **page("project.list"))
    def show_home_panel(visit: VisitIn, place: _Place) -> HTMLResponse:
        """Show one panel of the home page, to be put into it."""

        def read(tx: Transaction) -> Panel:
            seen = overview.my_projects(tx, visit.actor)
            return _panel(tx, visit, tools, [one.project for one in seen[:_BUSY_PROJECTS]], place)

        return tools.portal.render(
            visit, "people/panel.html", given=visit.read(read), place=place, base=""
        )


def _panel(
    tx: Transaction, visit: Visit, tools: _Tools, projects: Sequence[Project], place: int
) -> Panel:
    if place >= len(tools.panels):
        raise NotFoundError("There is no such panel.", next_step="Load the page anew.")
    places = [Place(project.id, project.name) for project in projects]
    return tools.panels[place](tx, visit.actor, places, _ROWS)


def _panels(
    tx: Transaction, visit: Visit, tools: _Tools, projects: Sequence[Project]
) -> list[Panel]:
    places = [Place(project.id, project.name) for project in projects]
    return [source(tx, visit.actor, places, _ROWS) for source in tools.panels]


# Projects --------------------------------------------------------------------------------------


def _add_projects(router: APIRouter, tools: _Tools) -> None:
    @router.get("/projects", **page("project.list"))
    def show_projects(
        visit: VisitIn, asked: PageIn, text: _Text = "", which: _Text = "mine"
    ) -> HTMLResponse:
        """Show a list of projects, with a search."""
        kinds = {
            "archived": ProjectFilter(text, is_archived=True),
            "all": ProjectFilter(text, is_all=True),
        }
        wanted = kinds.get(which, ProjectFilter(text, is_archived=False))
        found = visit.read(
            lambda tx: overview.see_projects(
                tx,
                actions.list_projects(
                    tx, visit.actor, wanted, cursor=asked.cursor, limit=asked.limit
                ),
            )
        )
        return tools.portal.render(
            visit, "people/projects.html", found=found, text=text, which=which
        )

    @router.get("/projects/new", **page("project.create"))
    def show_new_project(visit: VisitIn) -> HTMLResponse:
        """Show the form of a new project."""
        return tools.portal.render(visit, "people/new.html")

    @router.post("/projects/new", **page("project.create"))
    def make_project(visit: VisitIn, form: FormIn) -> Response:
        """Make a project."""
        try:
            body = form.to(ProjectRequest)
            made = visit.change(
                lambda tx: actions.add_project(tx, visit.actor, body.name, body.description)
            )
        except MillpondError as fault:
            return _again(tools, visit, "people/new.html", form, fault)
        said = f"The project {made.name} is made, and you own it."
        return tools.portal.go(visit, f"/projects/{made.name}", said)


def _again(
    tools: _Tools, visit: Visit, template: str, form: Form, fault: MillpondError, **facts: object
) -> Response:
    """Show a form again, with what was typed and what was wrong with it."""
    if isinstance(fault, InvalidError):
        told, status = fault, 422
    elif fault.status == 409:  # noqa: PLR2004 - a conflict, such as a name that is taken.
        told, status = InvalidError(fault.message, next_step=fault.next_step), 409
    else:
        raise fault
    return tools.portal.render(visit, template, status, form=form, fault=told, **facts)


# One project -----------------------------------------------------------------------------------


def _add_project(router: APIRouter, tools: _Tools) -> None:
    def read(tx: Transaction, visit: Visit, name: str) -> dict[str, Any]:
        found = actions.open_project(tx, visit.actor, name, "project.read")
        members = actions.list_members(tx, visit.actor, name, limit=_FACES)
        return {
            "found": found,
            "members": members,
            "panels": _panels(tx, visit, tools, [found]),
            "changes": overview.newest_changes(tx, visit.actor, [found], tools.targets, _CHANGES),
        }

    @router.get(_P, **page("project.read"))
    def show_project(visit: VisitIn, project: str) -> HTMLResponse:
        """Show a project: what it is, who is in it, what is new."""
        facts = visit.read(lambda tx: read(tx, visit, project))
        return tools.portal.render(visit, "people/project.html", **facts)

    @router.get(_P + "/panels/{place}", **page("project.read"))
    def show_panel(visit: VisitIn, project: str, place: _Place) -> HTMLResponse:
        """Show one panel of a project's page, to be put into it."""

        def read_panel(tx: Transaction) -> Panel:
            found = actions.open_project(tx, visit.actor, project, "project.read")
            return _panel(tx, visit, tools, [found], place)

        given = visit.read(read_panel)
        return tools.portal.render(
            visit, "people/panel.html", given=given, place=place, base=f"/projects/{project}"
        )


def _add_settings(router: APIRouter, tools: _Tools) -> None:
    @router.get(_P + "/settings", **page("project.write"))
    def show_settings(visit: VisitIn, project: str) -> HTMLResponse:
        """Show what can be changed of a project."""
        found = visit.read(
            lambda tx: actions.open_project(tx, visit.actor, project, "project.write")
        )
        return tools.portal.render(visit, "people/settings.html", found=found)

    @router.post(_P + "/settings", **page("project.write"))
    def change_project(visit: VisitIn, project: str, form: FormIn) -> Response:
        """Describe a project, rename it, archive it or bring it back."""
        is_archived = form.values.get("is_archived")
        words = {
            "true": "It is archived and takes no changes.",
            "false": "It can be changed again.",
        }
        try:
            body = form.to(ProjectChange, **_typed(form, "name"), **_typed(form, "description"))
            wanted = body.model_dump(exclude_unset=True)
            wanted["new_name"] = wanted.pop("name", None)
            found = visit.change(
                lambda tx: actions.change_project(tx, visit.actor, project, **wanted)
            )
        except (InvalidError, ConflictError) as fault:
            found = visit.read(
                lambda tx: actions.open_project(tx, visit.actor, project, "project.write")
            )
            return _again(tools, visit, "people/settings.html", form, fault, found=found)
        said = words.get(is_archived or "", "The description is changed.")
        if found.name != project:
            said = f"The project {project} is called {found.name} now."
        return tools.portal.go(visit, f"/projects/{found.name}", said)


def _add_leaving(router: APIRouter, tools: _Tools) -> None:
    @router.post(_P + "/leave", **page("project.leave"))
    def leave_project(visit: VisitIn, project: str) -> Response:
        """Leave a project oneself."""
        visit.change(lambda tx: actions.leave_project(tx, visit.actor, project))
        return tools.portal.go(visit, "/", f"You have left {project}.")


def _typed(form: Form, field: str) -> dict[str, str]:
    """Give a field that was sent, also when it was emptied."""
    return {field: form.values[field]} if field in form.values else {}


# Members ---------------------------------------------------------------------------------------


def _add_members(router: APIRouter, tools: _Tools) -> None:
    path = _P + "/members"

    def show(
        visit: Visit, project: str, asked: PageIn, form: Form | None, fault: MillpondError | None
    ) -> Response:
        found = visit.read(
            lambda tx: actions.list_members(
                tx, visit.actor, project, cursor=asked.cursor, limit=asked.limit
            )
        )
        facts: dict[str, Any] = {"found": found, "roles": ROLES}
        if form is None or fault is None:
            return tools.portal.render(visit, "people/members.html", **facts)
        return _again(tools, visit, "people/members.html", form, fault, **facts)

    @router.get(path, **page("member.read"))
    def show_members(visit: VisitIn, project: str, asked: PageIn) -> Response:
        """Show who belongs to a project, and as what."""
        return show(visit, project, asked, None, None)

    @router.post(path, **page("member.write"))
    def add_member(visit: VisitIn, project: str, form: FormIn, asked: PageIn) -> Response:
        """Give somebody a role in a project."""
        user = form.values.get("user", "").strip()

        def add() -> Response:
            role = form.to(MemberRequest).role
            visit.change(lambda tx: actions.set_member(tx, visit.actor, project, user, role))
            return tools.portal.go(
                visit, f"/projects/{project}/members", f"{user} is {role} of {project} now."
            )

        visit.read(lambda tx: actions.open_project(tx, visit.actor, project, "member.write"))
        try:
            return at_field("user", add)
        except (InvalidError, MillpondError) as fault:
            return show(visit, project, asked, form, fault)

    @router.post(path + "/{user}/remove", **page("member.write"))
    def remove_member(visit: VisitIn, project: str, user: str) -> Response:
        """Take somebody's role in a project away."""
        visit.change(lambda tx: actions.remove_member(tx, visit.actor, project, user))
        is_out = user == visit.actor.name and not visit.actor.is_admin
        path = "/" if is_out else f"/projects/{project}/members"
        return tools.portal.go(visit, path, f"{user} is no member of {project} any more.")


# Secrets ---------------------------------------------------------------------------------------


def _add_secrets(router: APIRouter, tools: _Tools) -> None:
    path = _P + "/secrets"

    def show(
        visit: Visit, project: str, asked: PageIn, form: Form | None, fault: MillpondError | None
    ) -> Response:
        found = visit.read(
            lambda tx: actions.list_secrets(
                tx, visit.actor, project, cursor=asked.cursor, limit=asked.limit
            )
        )
        if form is None or fault is None:
            return tools.portal.render(visit, "people/secrets.html", found=found)
        return _again(tools, visit, "people/secrets.html", form, fault, found=found)

    @router.get(path, **page("secret.list"))
    def show_secrets(visit: VisitIn, project: str, asked: PageIn) -> Response:
        """Show the names of a project's secrets."""
        return show(visit, project, asked, None, None)

    @router.post(path, **page("secret.write"))
    def set_secret(visit: VisitIn, project: str, form: FormIn, asked: PageIn) -> Response:
        """Keep a secret, in place of the one before if there is one."""
        name = form.values.get("name", "").strip()
        try:
            value = form.to(SecretRequest).value.get_secret_value()
            value = value.replace("\r\n", "\n")  # Browsers end the lines of a form so.
            visit.change(
                lambda tx: actions.set_secret(tx, visit.actor, project, name, value, box=tools.box)
            )
        except InvalidError as fault:
            return show(visit, project, asked, form, fault)
        said = f"{name} is kept. It is never shown again."
        return tools.portal.go(visit, f"/projects/{project}/secrets", said)

    @router.post(path + "/{name}/remove", **page("secret.write"))
    def remove_secret(visit: VisitIn, project: str, name: str) -> Response:
        """Forget a secret."""
        visit.change(lambda tx: actions.remove_secret(tx, visit.actor, project, name))
        return tools.portal.go(visit, f"/projects/{project}/secrets", f"{name} is forgotten.")
