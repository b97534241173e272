"""Routes of projects, members and secrets."""

from typing import Annotated

from fastapi import APIRouter, Query

from millpond.ground.page import Page
from millpond.people import actions
from millpond.people.requests import MemberRequest, ProjectChange, ProjectRequest, SecretRequest
from millpond.people.values import Member, Project, ProjectFilter, Secret
from millpond.people.vault import SecretBox
from millpond.web.frame import CallIn, PageIn, needs

_All = Annotated[bool, Query(alias="all", description="All of the site's, for administrators.")]

_Text = Annotated[str, Query(max_length=200, description="What name or description shall hold.")]
_Archived = Annotated[
    bool | None, Query(alias="archived", description="Archived ones only, or none of them.")
]


def routes(*, box: SecretBox) -> APIRouter:
    """Give the routes; ``box`` encrypts secrets."""
    router = APIRouter()
    _add_projects(router)
    _add_members(router)
    _add_secrets(router, box)
    return router


def _add_projects(router: APIRouter) -> None:
    @router.get("/projects", tags=["projects"], **needs("project.list"))
    def list_projects(
        call: CallIn, page: PageIn, is_all: _All = False, text: _Text = "",
        is_archived: _Archived = None,
    ) -> Page[Project]:  # fmt: skip
        """List one's projects."""
        asked = ProjectFilter(text, is_archived, is_all)
        return call.read(
            lambda tx: actions.list_projects(
                tx, call.actor, asked, cursor=page.cursor, limit=page.limit
            )
        )

    @router.post("/projects", status_code=201, tags=["projects"], **needs("project.create"))
    def add_project(call: CallIn, body: ProjectRequest) -> Project:
        """Make a project, and become its owner."""
        return call.make(
            lambda tx: actions.add_project(tx, call.actor, body.name, body.description)
        )

    @router.get("/projects/{project}", tags=["projects"], **needs("project.read"))
    def get_project(call: CallIn, project: str) -> Project:
        """Show a project."""
        return call.read(lambda tx: actions.open_project(tx, call.actor, project, "project.read"))

    @router.patch("/projects/{project}", tags=["projects"], **needs("project.write"))
    def change_project(call: CallIn, project: str, body: ProjectChange) -> Project:
        """Change a project; what is left out stays.

        With another name, addresses that hold the old one stop working.
        """
        wanted = body.model_dump(exclude_unset=True)
        wanted["new_name"] = wanted.pop("name", None)
        return call.change(lambda tx: actions.change_project(tx, call.actor, project, **wanted))


def _add_members(router: APIRouter) -> None:
    path = "/projects/{project}/members"

    @router.get(path, tags=["members"], **needs("member.read"))
    def list_members(call: CallIn, project: str, page: PageIn) -> Page[Member]:
        """List a project's members."""
        return call.read(
            lambda tx: actions.list_members(
                tx, call.actor, project, cursor=page.cursor, limit=page.limit
            )
        )

    @router.put(path + "/{user}", tags=["members"], **needs("member.write"))
    def set_member(call: CallIn, project: str, user: str, body: MemberRequest) -> Member:
        """Give someone a role in a project."""
        return call.change(lambda tx: actions.set_member(tx, call.actor, project, user, body.role))

    # Before the one for any user; nobody can be called "me".
    @router.delete(path + "/me", status_code=204, tags=["members"], **needs("project.leave"))
    def leave_project(call: CallIn, project: str) -> None:
        """Leave a project oneself, whatever one's role; its last owner cannot."""
        call.change(lambda tx: actions.leave_project(tx, call.actor, project))

    @router.delete(path + "/{user}", status_code=204, tags=["members"], **needs("member.write"))
    def remove_member(call: CallIn, project: str, user: str) -> None:
        """Take someone's role in a project away."""
        call.change(lambda tx: actions.remove_member(tx, call.actor, project, user))


def _add_secrets(router: APIRouter, box: SecretBox) -> None:
    path = "/projects/{project}/secrets"

    @router.get(path, tags=["secrets"], **needs("secret.list"))
    def list_secrets(call: CallIn, project: str, page: PageIn) -> Page[Secret]:
        """List the names of a project's secrets."""
        return call.read(
            lambda tx: actions.list_secrets(
                tx, call.actor, project, cursor=page.cursor, limit=page.limit
            )
        )

    @router.put(path + "/{name}", tags=["secrets"], **needs("secret.write"))
    def set_secret(call: CallIn, project: str, name: str, body: SecretRequest) -> Secret:
        """Keep a secret; its value is never shown again."""
        value = body.value.get_secret_value()
        return call.change(
            lambda tx: actions.set_secret(tx, call.actor, project, name, value, box=box)
        )

    @router.delete(path + "/{name}", status_code=204, tags=["secrets"], **needs("secret.write"))
    def remove_secret(call: CallIn, project: str, name: str) -> None:
        """Forget a secret."""
        call.change(lambda tx: actions.remove_secret(tx, call.actor, project, name))
