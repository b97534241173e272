"""Pages of forgotten passwords."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import MillpondError
from millpond.people.accounts.devices import device_of
from millpond.people.accounts.pages import as_told, check_again, enter
from millpond.people.accounts.resets import actions, tasks
from millpond.people.accounts.resets.requests import ForgottenRequest, ResetRequest
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.web.portal import AnyVisit, AnyVisitIn, FormIn, Portal, VisitIn, open_page, page

_Code = Annotated[str, Query(max_length=100)]
_ASK, _NEW = "people/accounts/resets/ask.html", "people/accounts/resets/new.html"
_TOLD = (401, 409, 422, 429)


def pages(portal: Portal, *, passwords: Passwords, url: str, post: Post | None) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        passwords: hashes passwords.
        url: the server's address, which links begin with.
        post: takes letters; None where no mail server is set.
    """
    router = APIRouter()
    _add_asking(router, portal, url, post)
    _add_using(router, portal, passwords)
    _add_link(router, portal, url)
    return router


def _add_asking(router: APIRouter, portal: Portal, url: str, post: Post | None) -> None:
    @router.get("/reset", **open_page())
    def show_reset(visit: AnyVisitIn, code: _Code = "") -> HTMLResponse:
        """Ask for the new password of who comes by a link, and for the name of who does not."""
        if code:
            user = visit.read(lambda tx: actions.user_of(tx, code))
            return portal.render(visit, _NEW, code=code, user=user)
        return portal.render(visit, _ASK, can_mail=post is not None)

    @router.post("/reset", **open_page())
    def ask_reset(visit: AnyVisitIn, form: FormIn) -> HTMLResponse:
        """Send a link, if there is somebody to send it to."""
        try:
            body = form.to(ForgottenRequest)
            device = device_of(visit.request)
            tasks.ask(visit.change, body.name, url=url, post=post, device=device)
        except MillpondError as fault:
            if fault.status not in _TOLD:
                raise
            facts = {"form": form, "fault": as_told(fault), "can_mail": post is not None}
            return portal.render(visit, _ASK, fault.status, **facts)
        return portal.render(visit, _ASK, can_mail=True, asked=body.name)


def _add_using(router: APIRouter, portal: Portal, passwords: Passwords) -> None:
    def show(visit: AnyVisit, code: str, status: int, **facts: object) -> HTMLResponse:
        user = visit.read(lambda tx: actions.user_of(tx, code))
        return portal.render(visit, _NEW, status, code=code, user=user, **facts)

    @router.post("/reset/new", **open_page())
    def reset(visit: AnyVisitIn, form: FormIn) -> Response:
        """Set the new password and sign in."""
        try:
            check_again(form)
            body = form.to(ResetRequest)
            password = body.password.get_secret_value()
            made = tasks.reset(
                visit.change, passwords, body.code, password, device_of(visit.request)
            )
        except MillpondError as fault:
            if fault.status not in _TOLD:
                raise
            code = form.values.get("code", "")[:100]
            return show(visit, code, fault.status, form=form, fault=as_told(fault))
        said = "Your new password is set. Other sessions and your API tokens have ended."
        return enter(portal, visit, made, "/", said)


def _add_link(router: APIRouter, portal: Portal, url: str) -> None:
    @router.post("/admin/users/{user}/reset-link", **page("user.write"))
    def make_reset_link(visit: VisitIn, user: str) -> HTMLResponse:
        """Make a link that sets somebody's password, and show it this once."""
        made = visit.change(lambda tx: actions.make_link(tx, visit.actor, user, url=url))
        return portal.render(visit, "people/accounts/resets/link.html", made=made)
