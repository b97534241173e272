"""Routes of one's own accounts at other places; browsers alone link them."""

from fastapi import APIRouter

from millpond.ground.page import Page
from millpond.people.oidc import actions
from millpond.people.oidc.values import Identity
from millpond.web.frame import CallIn, PageIn, needs


def routes() -> APIRouter:
    """Give the routes."""
    router = APIRouter()

    @router.get("/me/identities", tags=["users"], **needs("token.read"))
    def list_identities(call: CallIn, page: PageIn) -> Page[Identity]:
        """List one's own accounts at other places."""
        return call.read(
            lambda tx: actions.list_identities(tx, call.actor, cursor=page.cursor, limit=page.limit)
        )

    path = "/me/identities/{identity}"

    @router.delete(path, status_code=204, tags=["users"], **needs("token.write"))
    def unlink(call: CallIn, identity: str) -> None:
        """Unlink one of one's own accounts; nobody signs in with it any more."""
        call.change(lambda tx: actions.unlink(tx, call.actor, identity))

    return router
