"""Routes of sessions: where one is signed in."""

from fastapi import APIRouter

from millpond.ground.page import Page
from millpond.people.accounts.sessions import actions
from millpond.people.values import Session
from millpond.web.frame import CallIn, PageIn, needs


def routes() -> APIRouter:
    """Give the routes."""
    router = APIRouter()

    @router.get("/sessions", tags=["sessions"], **needs("token.read"))
    def list_sessions(call: CallIn, page: PageIn) -> Page[Session]:
        """List where one is signed in, the newest first."""
        return call.read(
            lambda tx: actions.list_sessions(tx, call.actor, cursor=page.cursor, limit=page.limit)
        )

    @router.delete("/sessions", status_code=204, tags=["sessions"], **needs("token.write"))
    def end_sessions(call: CallIn) -> None:
        """Sign out everywhere: end every session of one's own; API tokens stay."""
        call.change(lambda tx: actions.end_all(tx, call.actor))

    return router
