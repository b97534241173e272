"""Routes of invitations and of signing up."""

from typing import Annotated

from fastapi import APIRouter, Query

from millpond.ground.page import Page
from millpond.people.accounts.devices import device_of
from millpond.people.invitations import actions, tasks
from millpond.people.invitations.letters import sent
from millpond.people.invitations.requests import (
    AcceptRequest,
    InvitationRequest,
    ProjectInvitationRequest,
    SignUpRequest,
)
from millpond.people.invitations.values import Invitation, NewInvitation, SignUpState
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.people.values import NewToken
from millpond.web.frame import AnyoneIn, CallIn, PageIn, needs, open_route

_Code = Annotated[str, Query(max_length=200, description="The code of an invitation.")]


def routes(*, passwords: Passwords, policy: str, url: str, post: Post | None = None) -> APIRouter:
    """Give the routes.

    Args:
        passwords: hashes new passwords.
        policy: who may make themselves an account.
        url: this server's address, for links.
        post: takes letters; None where no mail server is set.
    """
    router = APIRouter()
    _add_sign_up(router, passwords, policy)
    _add_of_site(router, url, post)
    _add_of_projects(router, url, post)
    return router


def _add_sign_up(router: APIRouter, passwords: Passwords, policy: str) -> None:
    @router.get("/sign-up", tags=["invitations"], **open_route())
    def look(call: AnyoneIn, invitation: _Code = "") -> SignUpState:
        """Tell who may make an account, and what an invitation is for."""
        return call.read(lambda tx: actions.look(tx, policy, invitation))

    @router.post("/sign-up", status_code=201, tags=["invitations"], **open_route())
    def sign_up(call: AnyoneIn, body: SignUpRequest) -> NewToken:
        """Make oneself an account, and sign in."""
        password = body.password.get_secret_value()
        return tasks.sign_up(
            call.change,
            passwords,
            policy,
            body.invitation,
            body.name,
            password,
            body.email,
            device_of(call.request),
        )

    @router.post("/invitations/accept", tags=["invitations"], **needs("project.create"))
    def accept(call: CallIn, body: AcceptRequest) -> Invitation:
        """Join the project of an invitation with the account that one has."""
        return call.change(lambda tx: actions.accept(tx, call.actor, body.code))


def _add_of_site(router: APIRouter, url: str, post: Post | None) -> None:
    @router.get("/invitations", tags=["invitations"], **needs("user.read"))
    def list_invitations(call: CallIn, page: PageIn) -> Page[Invitation]:
        """List all invitations that are still good, the newest first."""
        return call.read(
            lambda tx: actions.list_invitations(
                tx, call.actor, cursor=page.cursor, limit=page.limit
            )
        )

    @router.post("/invitations", status_code=201, tags=["invitations"], **needs("user.write"))
    def invite(call: CallIn, body: InvitationRequest) -> NewInvitation:
        """Invite somebody to make an account; the code is shown this once."""
        return call.make(
            lambda tx: sent(
                tx, actions.invite(tx, call.actor, url, email=body.email, days=body.days), post
            ),
            keep=False,
        )

    path = "/invitations/{invitation}"

    @router.delete(path, status_code=204, tags=["invitations"], **needs("user.write"))
    def withdraw(call: CallIn, invitation: str) -> None:
        """Withdraw an invitation."""
        call.change(lambda tx: actions.withdraw(tx, call.actor, invitation))


def _add_of_projects(router: APIRouter, url: str, post: Post | None) -> None:
    path = "/projects/{project}/invitations"

    @router.get(path, tags=["invitations"], **needs("member.write"))
    def list_invitations_into(call: CallIn, project: str, page: PageIn) -> Page[Invitation]:
        """List a project's invitations that are still good, the newest first."""
        return call.read(
            lambda tx: actions.list_invitations(
                tx, call.actor, project, cursor=page.cursor, limit=page.limit
            )
        )

    @router.post(path, status_code=201, tags=["invitations"], **needs("member.write"))
    def invite_into(call: CallIn, project: str, body: ProjectInvitationRequest) -> NewInvitation:
        """Invite somebody into a project; the code is shown this once."""
        return call.make(
            lambda tx: sent(
                tx,
                actions.invite_into(
                    tx, call.actor, project, body.role, url, email=body.email, days=body.days
                ),
                post,
            ),
            keep=False,
        )

    one = path + "/{invitation}"

    @router.delete(one, status_code=204, tags=["invitations"], **needs("member.write"))
    def withdraw_into(call: CallIn, project: str, invitation: str) -> None:
        """Withdraw an invitation into a project."""
        call.change(lambda tx: actions.withdraw(tx, call.actor, invitation, project))
