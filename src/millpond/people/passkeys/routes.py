"""Routes of one's own passkeys; they are made and used by browsers alone."""

from fastapi import APIRouter

from millpond.ground.page import Page
from millpond.people.passkeys import actions
from millpond.people.passkeys.values import Passkey
from millpond.web.frame import CallIn, PageIn, needs


def routes() -> APIRouter:
    """Give the routes."""
    router = APIRouter()

    @router.get("/me/passkeys", tags=["users"], **needs("token.read"))
    def list_passkeys(call: CallIn, page: PageIn) -> Page[Passkey]:
        """List one's own passkeys."""
        return call.read(
            lambda tx: actions.list_passkeys(tx, call.actor, cursor=page.cursor, limit=page.limit)
        )

    @router.delete(
        "/me/passkeys/{passkey}", status_code=204, tags=["users"], **needs("token.write")
    )
    def remove_passkey(call: CallIn, passkey: str) -> None:
        """Remove one of one's own passkeys; nobody signs in with it any more."""
        call.change(lambda tx: actions.remove_passkey(tx, call.actor, passkey))

    return router
