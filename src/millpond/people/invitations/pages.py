"""Pages of invitations and of signing up."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import InvalidError, MillpondError
from millpond.people.accounts.devices import device_of
from millpond.people.accounts.pages import as_told, check_again, enter
from millpond.people.invitations import actions, tasks
from millpond.people.invitations.letters import sent
from millpond.people.invitations.requests import (
    AcceptRequest,
    InvitationRequest,
    ProjectInvitationRequest,
    SignUpRequest,
)
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.web.calls import PageAsked, PageIn
from millpond.web.portal import (
    AnyVisit,
    AnyVisitIn,
    FormIn,
    NavItem,
    Portal,
    Visit,
    VisitIn,
    open_page,
    page,
)

_ALL = "/admin/invitations"
_OF_PROJECT = "/projects/{project}/invitations"
NAV = (NavItem("Invitations", _ALL, icon="mail", permission="user.write", place="admin", order=15),)
_Code = Annotated[str, Query(alias="invitation", max_length=200)]


def pages(
    portal: Portal, *, passwords: Passwords, policy: str, post: Post | None = None
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        passwords: hashes new passwords.
        policy: who may make themselves an account.
        post: takes letters; None where no mail server is set.
    """
    router = APIRouter()
    _add_sign_up(router, portal, passwords, policy)
    _add_of_site(router, portal, post)
    _add_of_projects(router, portal, post)
    return router


def _add_sign_up(router: APIRouter, portal: Portal, passwords: Passwords, policy: str) -> None:
    def show(visit: AnyVisit, code: str, status: int = 200, **facts: object) -> HTMLResponse:
        state = visit.read(lambda tx: actions.look(tx, policy, code))
        return portal.render(
            visit, "people/invitations/sign_up.html", status, state=state, code=code, **facts
        )

    @router.get("/sign-up", **open_page())
    def show_sign_up(visit: AnyVisitIn, code: _Code = "") -> Response:
        """Show the form of one's own new account, or what an invitation leads to."""
        if visit.actor is not None and not code:
            return portal.go(visit, "/")
        return show(visit, code)

    @router.post("/sign-up", **open_page())
    def sign_up(visit: AnyVisitIn, form: FormIn) -> Response:
        """Make an account and sign in."""
        code = form.values.get("invitation", "")
        try:
            body = form.to(SignUpRequest)
            check_again(form)
            made = tasks.sign_up(
                visit.change,
                passwords,
                policy,
                body.invitation,
                body.name,
                body.password.get_secret_value(),
                body.email,
                device_of(visit.request),
            )
        except MillpondError as fault:
            if fault.status not in (403, 404, 409, 422, 429):
                raise
            return show(visit, code, fault.status, form=form, fault=as_told(fault))
        return enter(portal, visit, made, "/", f"Welcome, {body.name}.")

    @router.post("/invitations/accept", **page("project.create"))
    def accept(visit: VisitIn, form: FormIn) -> Response:
        """Join a project with the account that one has."""
        code = form.to(AcceptRequest).code
        found = visit.change(lambda tx: actions.accept(tx, visit.actor, code))
        said = f"You are a member of {found.project}: {found.role}."
        return portal.go(visit, f"/projects/{found.project}", said)


def _show(
    portal: Portal, visit: Visit, project: str, asked: PageAsked, status: int = 200, **facts: object
) -> HTMLResponse:
    found = visit.read(
        lambda tx: actions.list_invitations(
            tx, visit.actor, project, cursor=asked.cursor, limit=asked.limit
        )
    )
    given = {"made": None, "found": found, "base": _ALL} | facts
    if project:
        given["base"] = f"/projects/{project}/invitations"
    return portal.render(visit, "people/invitations/list.html", status, **given)


def _add_of_site(router: APIRouter, portal: Portal, post: Post | None) -> None:
    @router.get(_ALL, **page("user.write"))
    def show_invitations(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show all invitations that are still good."""
        return _show(portal, visit, "", asked)

    @router.post(_ALL, **page("user.write"))
    def invite(visit: VisitIn, asked: PageIn, form: FormIn) -> Response:
        """Invite somebody to make an account; the link stands on this page and never again."""
        try:
            body = form.to(InvitationRequest)
            made = visit.change(
                lambda tx: sent(
                    tx,
                    actions.invite(tx, visit.actor, portal.url, email=body.email, days=body.days),
                    post,
                )
            )
        except InvalidError as fault:
            return _show(portal, visit, "", asked, 422, form=form, fault=fault)
        return _show(portal, visit, "", asked, made=made)

    @router.post(_ALL + "/{invitation}/withdraw", **page("user.write"))
    def withdraw(visit: VisitIn, invitation: str) -> Response:
        """Withdraw an invitation."""
        visit.change(lambda tx: actions.withdraw(tx, visit.actor, invitation))
        return portal.go(visit, _ALL, "That invitation is good no more.")


def _add_of_projects(router: APIRouter, portal: Portal, post: Post | None) -> None:
    @router.get(_OF_PROJECT, **page("member.write"))
    def show_invitations_into(visit: VisitIn, project: str, asked: PageIn) -> HTMLResponse:
        """Show a project's invitations that are still good."""
        return _show(portal, visit, project, asked)

    @router.post(_OF_PROJECT, **page("member.write"))
    def invite_into(visit: VisitIn, project: str, asked: PageIn, form: FormIn) -> Response:
        """Invite somebody into a project; the link stands on this page and never again."""
        try:
            body = form.to(ProjectInvitationRequest)
            made = visit.change(
                lambda tx: sent(
                    tx,
                    actions.invite_into(
                        tx,
                        visit.actor,
                        project,
                        body.role,
                        portal.url,
                        email=body.email,
                        days=body.days,
                    ),
                    post,
                )
            )
        except InvalidError as fault:
            return _show(portal, visit, project, asked, 422, form=form, fault=fault)
        return _show(portal, visit, project, asked, made=made)

    @router.post(_OF_PROJECT + "/{invitation}/withdraw", **page("member.write"))
    def withdraw_into(visit: VisitIn, project: str, invitation: str) -> Response:
        """Withdraw an invitation into a project."""
        visit.change(lambda tx: actions.withdraw(tx, visit.actor, invitation, project))
        said = "That invitation is good no more."
        return portal.go(visit, f"/projects/{project}/invitations", said)
