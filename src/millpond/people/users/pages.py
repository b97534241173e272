"""Pages of the site's users, for its administrators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import InvalidError, MillpondError
from millpond.people import rules
from millpond.people.accounts import actions
from millpond.people.actions import require
from millpond.people.passwords import Passwords
from millpond.people.requests import NewPasswordRequest, UserChange, UserRequest
from millpond.storage.database import Transaction
from millpond.web.calls import PageIn
from millpond.web.portal import FormIn, NavItem, Portal, Visit, VisitIn, page

_USERS = "/admin/users"
NAV = (NavItem("Users", _USERS, icon="users", permission="user.read", place="admin", order=10),)
_Text = Annotated[str, Query(max_length=200)]


def pages(portal: Portal, *, passwords: Passwords) -> APIRouter:
    """Give the pages; ``passwords`` hashes those that are set."""
    router = APIRouter()
    _add_list(router, portal)
    _add_making(router, portal, passwords)
    _add_user(router, portal)
    _add_password(router, portal, passwords)
    return router


def hash_for(visit: Visit, passwords: Passwords, name: str, password: str) -> str:
    """Hash a password that an administrator sets for somebody.

    Raises:
        NotAllowedError: the visitor may not.
        InvalidError: anybody would guess it.
    """
    visit.read(lambda tx: require(tx, visit.actor, "user.write"))
    rules.refuse("The password", rules.faults_of_password(name, password))
    return passwords.hash(password)


def _add_list(router: APIRouter, portal: Portal) -> None:
    @router.get(_USERS, **page("user.read"))
    def show_users(visit: VisitIn, asked: PageIn, text: _Text = "") -> HTMLResponse:
        """Show the accounts by name, with a search."""
        found = visit.read(
            lambda tx: actions.list_users(
                tx, visit.actor, text=text, cursor=asked.cursor, limit=asked.limit
            )
        )
        return portal.render(visit, "people/users/list.html", found=found, text=text)


def _add_making(router: APIRouter, portal: Portal, passwords: Passwords) -> None:
    @router.get(_USERS + "/new", **page("user.write"))
    def show_new_user(visit: VisitIn) -> HTMLResponse:
        """Show the form of a new account."""
        visit.read(lambda tx: require(tx, visit.actor, "user.write"))
        return portal.render(visit, "people/users/new.html")

    @router.post(_USERS + "/new", **page("user.write"))
    def make_user(visit: VisitIn, form: FormIn) -> Response:
        """Make an account."""
        try:
            body = form.to(UserRequest)
            given = body.password
            hashed = (
                None
                if given is None
                else hash_for(visit, passwords, body.name, given.get_secret_value())
            )
            visit.change(
                lambda tx: actions.add_user(
                    tx,
                    visit.actor,
                    body.name,
                    email=body.email,
                    is_admin=body.is_admin,
                    password_hash=hashed,
                )
            )
        except MillpondError as fault:
            if fault.status not in (409, 422):
                raise
            told = _as_invalid(fault)
            return portal.render(
                visit, "people/users/new.html", fault.status, form=form, fault=told
            )
        return portal.go(visit, f"{_USERS}/{body.name}", f"The account {body.name} is made.")


def _as_invalid(fault: MillpondError) -> InvalidError:
    if isinstance(fault, InvalidError):
        return fault
    return InvalidError(fault.message, next_step=fault.next_step)


def _show(portal: Portal, visit: Visit, user: str, status: int = 200, **facts: Any) -> HTMLResponse:
    found = visit.read(lambda tx: actions.get_user(tx, visit.actor, user))
    return portal.render(visit, "people/users/user.html", status, found=found, **facts)


def _add_user(router: APIRouter, portal: Portal) -> None:
    path = _USERS + "/{user}"

    @router.get(path, **page("user.read"))
    def show_user(visit: VisitIn, user: str) -> HTMLResponse:
        """Show an account, and what can be done with it."""
        return _show(portal, visit, user)

    @router.post(path, **page("user.write"))
    def change_user(visit: VisitIn, user: str, form: FormIn) -> Response:
        """Change an account: its address, whether it may sign in, whether it administers."""

        def change(tx: Transaction) -> None:
            actions.change_user(tx, visit.actor, user, **wanted)

        visit.read(lambda tx: require(tx, visit.actor, "user.write"))
        try:
            wanted = form.to(UserChange).model_dump(exclude_unset=True)
            visit.change(change)
        except MillpondError as fault:
            if fault.status not in (409, 422):
                raise
            return _show(portal, visit, user, fault.status, form=form, fault=_as_invalid(fault))
        return portal.go(visit, f"{_USERS}/{user}", f"The account {user} is changed.")


def _add_password(router: APIRouter, portal: Portal, passwords: Passwords) -> None:
    @router.post(_USERS + "/{user}/password", **page("user.write"))
    def set_password(visit: VisitIn, user: str, form: FormIn) -> Response:
        """Set somebody's password; they are signed out everywhere."""
        visit.read(lambda tx: require(tx, visit.actor, "user.write"))
        try:
            new = form.to(NewPasswordRequest).new.get_secret_value()
            hashed = hash_for(visit, passwords, user, new)
        except InvalidError as fault:
            return _show(portal, visit, user, 422, form=form, fault=fault)
        visit.change(lambda tx: actions.set_password(tx, visit.actor, user, hashed))
        said = f"The password of {user} is set, and {user} is signed out everywhere."
        return portal.go(visit, f"{_USERS}/{user}", said)
