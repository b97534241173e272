"""Pages of one's own API tokens: for programs and the command line."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import Fault, InvalidError, MillpondError
from millpond.people import rules
from millpond.people.accounts import actions
from millpond.people.accounts.pages import as_told
from millpond.people.requests import TokenRequest
from millpond.web.calls import PageAsked, PageIn
from millpond.web.portal import Form, FormIn, Portal, Visit, VisitIn, page

_TOKENS = "/profile/tokens"
_DAYS = ("7", "30", "90", "365")


def pages(portal: Portal) -> APIRouter:
    """Give the pages."""
    router = APIRouter()

    @router.get(_TOKENS, **page("token.read"))
    def show_tokens(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show one's tokens, and the form of a new one."""
        return _show(portal, visit, asked)

    @router.post(_TOKENS, **page("token.write"))
    def make_token(visit: VisitIn, asked: PageIn, form: FormIn) -> Response:
        """Make a token; its text stands on this page and never again."""
        try:
            body = _read(form)
            made = visit.change(
                lambda tx: actions.add_token(
                    tx, visit.actor, body.name, scopes=body.scopes, expires_at=body.expires_at
                )
            )
        except MillpondError as fault:
            if fault.status not in (403, 422):
                raise
            return _show(portal, visit, asked, fault.status, form=form, fault=as_told(fault))
        return _show(portal, visit, asked, made=made)

    @router.post(_TOKENS + "/{token}/withdraw", **page("token.write"))
    def withdraw_token(visit: VisitIn, token: str) -> Response:
        """Withdraw a token."""
        visit.change(lambda tx: actions.withdraw_token(tx, visit.actor, token))
        return portal.go(visit, _TOKENS, "That token is refused from now on.")

    return router


def _read(form: Form) -> TokenRequest:
    days = form.values.get("days", "90")
    if days not in _DAYS:
        raise InvalidError(
            "The token cannot be made as it is.",
            next_step="Choose one of the times.",
            faults=[Fault("days", f"is none of {', '.join(_DAYS)}")],
        )
    scopes = [scope for scope in form.many("scopes") if scope]
    if form.values.get("limit") == "some" and not scopes:
        raise InvalidError(
            "The token cannot be made as it is.",
            next_step="Choose what it may do.",
            faults=[Fault("scopes", "names nothing that the token may do")],
        )
    expires_at = datetime.now(UTC) + timedelta(days=int(days))
    is_some = form.values.get("limit") == "some"
    more = {"scopes": scopes if is_some else None, "expires_at": expires_at}
    return form.to(TokenRequest, **more)


def _show(
    portal: Portal, visit: Visit, asked: PageAsked, status: int = 200, **facts: object
) -> HTMLResponse:
    found = visit.read(
        lambda tx: actions.list_tokens(
            tx, visit.actor, kind="api", cursor=asked.cursor, limit=asked.limit
        )
    )
    nouns: dict[str, list[str]] = {}
    for permission in rules.PERMISSIONS:
        nouns.setdefault(permission.split(".", 1)[0], []).append(permission)
    form = facts.get("form")
    chosen = form.many("scopes") if isinstance(form, Form) else []
    given = {"made": None, "found": found, "nouns": nouns, "chosen": chosen, "days": _DAYS}
    return portal.render(visit, "people/accounts/tokens/list.html", status, **(given | facts))
