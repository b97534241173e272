"""Pages of where one is signed in."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.people.accounts import actions as accounts
from millpond.people.accounts.sessions import actions
from millpond.web.calls import PageIn
from millpond.web.portal import Portal, VisitIn, page

_SESSIONS = "/profile/sessions"


def pages(portal: Portal) -> APIRouter:
    """Give the pages."""
    router = APIRouter()

    @router.get(_SESSIONS, **page("token.read"))
    def show_sessions(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show where one is signed in."""
        found = visit.read(
            lambda tx: actions.list_sessions(
                tx, visit.actor, cursor=asked.cursor, limit=asked.limit
            )
        )
        return portal.render(visit, "people/accounts/sessions/list.html", found=found)

    @router.post(_SESSIONS + "/{session}/end", **page("token.write"))
    def end_session(visit: VisitIn, session: str) -> Response:
        """End one session; when it is this one, that is signing out."""
        visit.change(lambda tx: accounts.withdraw_token(tx, visit.actor, session))
        if session != visit.actor.token_id:
            return portal.go(visit, _SESSIONS, "That session is ended.")
        answer = portal.go(visit, "/sign-in", "You are signed out.")
        portal.sign_out_cookie(answer)
        return answer

    @router.post("/profile/sign-out-everywhere", **page("token.write"))
    def sign_out_everywhere(visit: VisitIn) -> Response:
        """End all sessions, this one too."""
        visit.change(lambda tx: actions.end_all(tx, visit.actor))
        answer = portal.go(visit, "/sign-in", "You are signed out everywhere.")
        portal.sign_out_cookie(answer)
        return answer

    return router
