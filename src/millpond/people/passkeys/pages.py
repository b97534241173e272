"""Pages of one's own passkeys, and what a browser asks and sends on the way."""

import secrets

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from millpond.ground.errors import ConflictError
from millpond.people.accounts.devices import address_of, device_of
from millpond.people.passkeys import actions, rules, tasks
from millpond.people.passkeys.requests import (
    NewPasskeyName,
    NewPasskeyRequest,
    PasskeySignInRequest,
)
from millpond.people.passkeys.values import Place
from millpond.web.calls import PageIn
from millpond.web.portal import AnyVisit, AnyVisitIn, Portal, Visit, VisitIn, open_page, page
from millpond.web.site import own_path

_PATH, _SIGN_IN = "/profile/passkeys", "/sign-in/passkey"
_COOKIE = "millpond_passkey"


def pages(portal: Portal) -> APIRouter:
    """Give the pages."""
    router = APIRouter()
    _add_list(router, portal)
    _add_making(router, portal)
    _add_sign_in(router, portal)
    return router


def _add_list(router: APIRouter, portal: Portal) -> None:
    @router.get(_PATH, **page("token.read"))
    def show_passkeys(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show one's own passkeys, and make another."""
        found = visit.read(
            lambda tx: actions.list_passkeys(
                tx, visit.actor, cursor=asked.cursor, limit=asked.limit
            )
        )
        address = rules.local_address(portal.url)
        return portal.render(
            visit,
            "people/passkeys/list.html",
            found=found,
            place=_find_place(portal, visit),
            local_address=address and address + _PATH,
        )

    @router.post(_PATH + "/{passkey}/remove", **page("token.write"))
    def remove_passkey(visit: VisitIn, passkey: str) -> Response:
        """Remove a passkey."""
        visit.change(lambda tx: actions.remove_passkey(tx, visit.actor, passkey))
        return portal.go(visit, _PATH, "The passkey is removed: nobody signs in with it any more.")


def _add_making(router: APIRouter, portal: Portal) -> None:
    @router.post(_PATH + "/options", **page("token.write"))
    def ask_to_make(visit: VisitIn, body: NewPasskeyName) -> Response:
        """Give what the browser is asked to make a passkey."""
        browser, place = secrets.token_urlsafe(32), _place(portal, visit)
        return _asked(
            portal,
            browser,
            visit.change(
                lambda tx: tasks.begin_making(
                    tx, visit.actor, body.name.strip(), place, browser, address_of(visit.request)
                )
            ),
        )

    @router.post(_PATH, **page("token.write"))
    def keep_passkey(visit: VisitIn, body: NewPasskeyRequest) -> Response:
        """Keep the passkey that the browser has made."""
        made = tasks.finish_making(
            visit.change,
            visit.actor,
            body.name.strip(),
            _place(portal, visit),
            _browser(visit),
            body.credential,
        )
        return _done(portal.go(visit, _PATH, f"You can sign in with {made.name} from now on."))


def _add_sign_in(router: APIRouter, portal: Portal) -> None:
    @router.post(_SIGN_IN + "/options", **open_page())
    def ask_to_sign(visit: AnyVisitIn) -> Response:
        """Give what the browser is asked to sign in with a passkey."""
        browser, place = secrets.token_urlsafe(32), _place(portal, visit)
        return _asked(
            portal,
            browser,
            visit.change(
                lambda tx: tasks.begin_sign_in(tx, place, browser, address_of(visit.request))
            ),
        )

    @router.post(_SIGN_IN, **open_page())
    def sign_in(visit: AnyVisitIn, body: PasskeySignInRequest) -> Response:
        """Sign in with what a passkey has signed."""
        place, device = _place(portal, visit), device_of(visit.request)
        made = tasks.sign_in(visit.change, place, _browser(visit), body.credential, device)
        answer = _done(portal.go(visit, own_path(body.next)))
        portal.sign_in_cookie(answer, made.text, made.token.expires_at)
        return answer


def _asked(portal: Portal, browser: str, options: object) -> Response:
    answer = JSONResponse(options, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        _COOKIE,
        browser,
        max_age=int(rules.CHALLENGE_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=portal.is_secure,
    )
    return answer


def _done(answer: Response) -> Response:
    answer.delete_cookie(_COOKIE)
    return answer


def _browser(visit: AnyVisit | Visit) -> str:
    return visit.request.cookies.get(_COOKIE, "")


def _find_place(portal: Portal, visit: AnyVisit | Visit) -> Place | None:
    return rules.place_of(portal.url, visit.request.headers.get("host", ""))


def _place(portal: Portal, visit: AnyVisit | Visit) -> Place:
    found = _find_place(portal, visit)
    if found is None:
        raise ConflictError(
            "Browsers use passkeys by TLS or at the name localhost only.",
            next_step=f"Open {rules.local_address(portal.url)}."
            if rules.local_address(portal.url)
            else "Open this server by https:// and its name; an administrator sets that as"
            " `server.url`.",
        )
    return found
