"""Pages of the way in and out: signing in, signing out, the first administrator."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import Fault, InvalidError, MillpondError
from millpond.people.accounts import actions, tasks
from millpond.people.accounts.devices import device_of
from millpond.people.passwords import Passwords
from millpond.people.requests import SetupRequest, SignInRequest
from millpond.people.values import NewToken
from millpond.web.portal import AnyVisit, AnyVisitIn, Form, FormIn, Portal, Visit, open_page
from millpond.web.site import own_path

_Next = Annotated[str, Query(alias="next", max_length=4000)]
_Code = Annotated[str, Query(max_length=100)]


def pages(portal: Portal, *, passwords: Passwords, is_sign_up_open: bool) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes them.
        passwords: hashes and checks passwords.
        is_sign_up_open: whether strangers may make themselves an account.
    """
    router = APIRouter()
    _add_sign_in(router, portal, passwords, is_sign_up_open=is_sign_up_open)
    _add_sign_out(router, portal)
    _add_setup(router, portal, passwords)
    return router


def enter(
    portal: Portal, visit: AnyVisit | Visit, made: NewToken, path: str, said: str
) -> Response:
    """Give the browser a session and lead it on, to a page of this server alone."""
    answer = portal.go(visit, own_path(path), said)
    portal.sign_in_cookie(answer, made.text, made.token.expires_at)
    return answer


def as_told(fault: MillpondError) -> InvalidError:
    """Give a fault as one that a form shows on its top."""
    if isinstance(fault, InvalidError):
        return fault
    return InvalidError(fault.message, next_step=fault.next_step)


def check_again(form: Form, name: str = "password") -> None:
    """Refuse when a new password was not typed twice the same.

    Raises:
        InvalidError: so it is.
    """
    if form.values.get(name, "") != form.values.get("again", ""):
        raise InvalidError(
            "The two passwords are not the same.",
            next_step="Type the same password twice.",
            faults=[Fault("again", "is not the same")],
        )


def _add_sign_in(
    router: APIRouter, portal: Portal, passwords: Passwords, *, is_sign_up_open: bool
) -> None:
    def show(visit: AnyVisit, wanted: str, status: int = 200, **facts: object) -> HTMLResponse:
        return portal.render(
            visit,
            "people/accounts/sign_in.html",
            status,
            wanted=wanted,
            is_sign_up_open=is_sign_up_open,
            **facts,
        )

    @router.get("/sign-in", **open_page())
    def show_sign_in(visit: AnyVisitIn, wanted: _Next = "/") -> Response:
        """Ask who it is, or lead on whoever has said so."""
        if visit.actor is not None:
            return portal.go(visit, own_path(wanted))
        if visit.read(actions.get_setup_state).is_needed:
            return portal.go(visit, "/setup")
        return show(visit, own_path(wanted))

    @router.post("/sign-in", **open_page())
    def sign_in(visit: AnyVisitIn, form: FormIn) -> Response:
        """Sign in with a name and a password."""
        wanted = own_path(form.values.get("next", "/"))
        try:
            body = form.to(SignInRequest)
            password = body.password.get_secret_value()
            device = device_of(visit.request)
            made = tasks.sign_in(visit.change, passwords, body.name, password, device)
        except MillpondError as fault:
            if fault.status not in (401, 422, 429):
                raise
            return show(visit, wanted, fault.status, form=form, fault=as_told(fault))
        return enter(portal, visit, made, wanted, "")


def _add_sign_out(router: APIRouter, portal: Portal) -> None:
    @router.post("/sign-out", **open_page())
    def sign_out(visit: AnyVisitIn) -> Response:
        """End the session that this browser has; without one there is nothing to end."""
        actor = visit.actor
        if actor is not None:
            visit.change(lambda tx: actions.sign_out(tx, actor))
        answer = portal.go(visit, "/sign-in", "You are signed out.")
        portal.sign_out_cookie(answer)
        return answer


def _add_setup(router: APIRouter, portal: Portal, passwords: Passwords) -> None:
    def show(visit: AnyVisit, code: str, status: int = 200, **facts: object) -> HTMLResponse:
        return portal.render(visit, "people/accounts/setup.html", status, code=code, **facts)

    @router.get("/setup", **open_page())
    def show_setup(visit: AnyVisitIn, code: _Code = "") -> Response:
        """Ask who becomes the first administrator."""
        if not visit.read(actions.get_setup_state).is_needed:
            return portal.go(visit, "/sign-in")
        return show(visit, code)

    @router.post("/setup", **open_page())
    def set_up(visit: AnyVisitIn, form: FormIn) -> Response:
        """Make the first administrator and sign them in."""
        try:
            body = form.to(SetupRequest)
            check_again(form)
            password = body.password.get_secret_value()
            device = device_of(visit.request)
            made = tasks.set_up(visit.change, passwords, body.code, body.name, password, device)
        except MillpondError as fault:
            if fault.status not in (401, 422, 429):
                raise
            return show(visit, "", fault.status, form=form, fault=as_told(fault))
        said = f"Millpond is set up, and you, {body.name}, are its administrator."
        return enter(portal, visit, made, "/", said)
