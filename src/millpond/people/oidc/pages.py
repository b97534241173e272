"""Pages of signing in through another place, and of one's own accounts there."""

import secrets
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from millpond.ground.errors import ConflictError, NotAllowedError
from millpond.ground.settings import ProviderSettings
from millpond.people.accounts.devices import address_of, device_of
from millpond.people.oidc import actions, rules, tasks
from millpond.people.oidc.provider import Provider
from millpond.people.oidc.values import Back, Identity
from millpond.web.calls import PageIn
from millpond.web.portal import AnyVisit, AnyVisitIn, Portal, Visit, VisitIn, open_page, page
from millpond.web.site import own_path

_PATH, _COOKIE = "/profile/identities", "millpond_away"
_Text = Annotated[str, Query(max_length=4000)]
_Next = Annotated[str, Query(alias="next", max_length=4000)]


def pages(portal: Portal, chosen: Mapping[str, ProviderSettings]) -> APIRouter:
    """Give the pages; the page of signing in shows a button for each of the chosen providers."""
    router = APIRouter()
    providers = {
        name: Provider(name, settings, f"{portal.url}/sign-in/back/{name}")
        for name, settings in sorted(chosen.items())
    }
    portal.give("oidc_providers", list(providers.values()))
    _add_way_there(router, portal, providers)
    _add_way_back(router, portal, providers)
    _add_identities(router, portal)
    return router


def _add_way_there(router: APIRouter, portal: Portal, providers: Mapping[str, Provider]) -> None:
    @router.get("/sign-in/with/{name}", **open_page())
    def go_there(visit: AnyVisitIn, name: str, wanted: _Next = "/") -> Response:
        """Send somebody to a provider to sign in; a link, since forms lead nowhere else."""
        provider, browser = tasks.find_provider(providers, name), _browser(visit)
        if _is_other_name(portal, visit):
            asked = urlencode({"next": own_path(wanted)})
            return RedirectResponse(f"{portal.url}/sign-in/with/{name}?{asked}", 303)
        address = tasks.begin(
            visit.change, provider, browser, address_of(visit.request), then=own_path(wanted)
        )
        return _sent(portal, address, browser)

    @router.get(_PATH + "/link/{name}", **page("token.write"))
    def go_and_link(visit: VisitIn, name: str) -> Response:
        """Send somebody to a provider to link their account there."""
        _check_own_page(visit)
        if _is_other_name(portal, visit):
            raise ConflictError(
                f"Providers send people back to {portal.url}, where you are not now.",
                next_step=f"Open {portal.url}{_PATH}, sign in, and link the account there.",
            )
        provider, browser = tasks.find_provider(providers, name), _browser(visit)
        address = tasks.begin(
            visit.change,
            provider,
            browser,
            address_of(visit.request),
            link_to=visit.actor,
            then=_PATH,
        )
        return _sent(portal, address, browser)


def _add_way_back(router: APIRouter, portal: Portal, providers: Mapping[str, Provider]) -> None:
    @router.get("/sign-in/back/{name}", **open_page())
    def come_back(
        visit: AnyVisitIn,
        name: str,
        state: _Text = "",
        code: _Text = "",
        error: _Text = "",
        error_description: _Text = "",
        iss: _Text = "",
    ) -> Response:
        """Take somebody back from a provider: sign them in, or link their account there."""
        provider = tasks.find_provider(providers, name)
        made, path = tasks.finish(
            visit.change,
            provider,
            visit.request.cookies.get(_COOKIE, ""),
            Back(state, code, error, error_description, iss),
            device_of(visit.request),
            actor=visit.actor,
        )
        if isinstance(made, Identity):
            said = f"You can sign in with {made.shown} at {provider.label} from now on."
            return portal.go(visit, path, said)
        answer = portal.go(visit, path)
        portal.sign_in_cookie(answer, made.text, made.token.expires_at)
        return answer


def _add_identities(router: APIRouter, portal: Portal) -> None:
    @router.get(_PATH, **page("token.read"))
    def show_identities(visit: VisitIn, asked: PageIn) -> HTMLResponse:
        """Show one's own accounts at other places, and link another."""
        found = visit.read(
            lambda tx: actions.list_identities(
                tx, visit.actor, cursor=asked.cursor, limit=asked.limit
            )
        )
        return portal.render(visit, "people/oidc/list.html", found=found)

    @router.post(_PATH + "/{identity}/remove", **page("token.write"))
    def unlink(visit: VisitIn, identity: str) -> Response:
        """Unlink an account."""
        visit.change(lambda tx: actions.unlink(tx, visit.actor, identity))
        return portal.go(visit, _PATH, "The account is unlinked: nobody signs in with it here.")


def _check_own_page(visit: Visit) -> None:
    """Refuse a link of another site: it could link an account of its own choice.

    Browsers say where a click comes from by Sec-Fetch-Site; where they do not, which is without
    TLS, by Referer.
    """
    headers = visit.request.headers
    site = headers.get("sec-fetch-site", "")
    before = urlsplit(headers.get("referer", "")).netloc
    if site != "same-origin" and (site or before != headers.get("host", "")):
        raise NotAllowedError(
            "This did not come from a page of Millpond.",
            next_step=f"Open {_PATH} and link the account from there.",
        )


def _is_other_name(portal: Portal, visit: AnyVisit | Visit) -> bool:
    """Tell whether a server of this machine alone was opened by another name than its own.

    Providers send people back to its own, where the browser does not show its cookies of here.
    """
    own, asked = urlsplit(portal.url), urlsplit(f"//{visit.request.headers.get('host', '')}")
    near = ("127.0.0.1", "localhost", "::1")
    is_near = own.scheme == "http" and own.hostname in near and asked.hostname in near
    return is_near and own.hostname != asked.hostname


def _sent(portal: Portal, address: str, browser: str) -> Response:
    answer = RedirectResponse(address, 303, {"Cache-Control": "no-store"})
    answer.set_cookie(
        _COOKIE,
        browser,
        max_age=int(rules.VISIT_LIFE.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",  # It must come along when the provider sends them back.
        secure=portal.is_secure,
    )
    return answer


def _browser(visit: AnyVisit | Visit) -> str:
    """Give the browser's secret; the same for all tabs that are away at once."""
    return visit.request.cookies.get(_COOKIE, "") or secrets.token_urlsafe(32)
