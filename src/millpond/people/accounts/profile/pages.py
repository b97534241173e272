"""Pages of one's own account: name, address for mail, password."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import Fault, InvalidError, MillpondError
from millpond.people.accounts import actions, tasks
from millpond.people.accounts.pages import as_told, check_again
from millpond.people.passwords import Passwords
from millpond.people.requests import PasswordRequest, ProfileRequest
from millpond.web.portal import FormIn, NavItem, Portal, Visit, VisitIn, page

_PROFILE = "/profile"
NAV = (
    NavItem("Profile", _PROFILE, icon="user", permission="profile.read", place="user", order=10),
    NavItem(
        "API tokens", "/profile/tokens", icon="key", permission="token.read", place="user", order=20
    ),
)


def pages(portal: Portal, *, passwords: Passwords) -> APIRouter:
    """Give the pages; ``passwords`` hashes and checks passwords."""
    router = APIRouter()

    @router.get(_PROFILE, **page("profile.read"))
    def show_profile(visit: VisitIn) -> HTMLResponse:
        """Show one's own account."""
        return _show(portal, visit)

    @router.post(_PROFILE, **page("profile.write"))
    def change_profile(visit: VisitIn, form: FormIn) -> Response:
        """Change one's own address for mail; an empty one is forgotten."""
        try:
            body = form.to(ProfileRequest, email=form.values.get("email") or None)
            visit.change(lambda tx: actions.change_me(tx, visit.actor, email=body.email))
        except InvalidError as fault:
            return _show(portal, visit, 422, form=form, fault=fault)
        return portal.go(visit, _PROFILE, "Your mail address is changed.")

    @router.post(_PROFILE + "/password", **page("profile.write"))
    def change_password(visit: VisitIn, form: FormIn) -> Response:
        """Change one's own password; other sessions end."""
        try:
            body = form.to(PasswordRequest)
            check_again(form, "new")
            old = None if body.old is None else body.old.get_secret_value()
            new = body.new.get_secret_value()
            tasks.change_own_password(visit.change, passwords, visit.actor, old, new)
        except MillpondError as fault:
            if fault.status not in (403, 409, 422, 429):
                raise
            return _show(portal, visit, fault.status, form=form, fault=_at_field(fault))
        return portal.go(
            visit, _PROFILE, "Your password is changed; your other sessions are ended."
        )

    return router


def _at_field(fault: MillpondError) -> InvalidError:
    """Name the fields of this form, which has a new password and an old one."""
    told = as_told(fault)
    faults = [
        Fault("new" if each.field == "password" else each.field, each.message)
        for each in told.faults
    ]
    return InvalidError(told.message, next_step=told.next_step, faults=faults)


def _show(portal: Portal, visit: Visit, status: int = 200, **facts: object) -> HTMLResponse:
    me = visit.read(lambda tx: actions.get_me(tx, visit.actor))
    has_password = visit.read(lambda tx: actions.has_password(tx, visit.actor))
    return portal.render(
        visit,
        "people/accounts/profile/account.html",
        status,
        me=me,
        has_password=has_password,
        **facts,
    )
