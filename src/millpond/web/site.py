"""The application of the pages: the rooms' pages, and faults as pages that help."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

from millpond.ground.errors import InvalidError, MillpondError
from millpond.web.calls import find_caller
from millpond.web.portal import Later, Portal
from millpond.web.problems import as_error, problem_of, problem_of_http
from millpond.web.visits import (
    AnyVisit,
    AnyVisitIn,
    CheckVisit,
    FormIn,
    SignInFirst,
    open_page,
    sign_in_address,
)

_PROGRAMS = re.compile(r"^/(api|objects|healthz|metrics)(/|$)")
"""What programs ask for: it is answered as they understand."""
_PROJECT = re.compile(r"^/projects/([^/]+)/")
_HEADINGS = {
    403: "You may not do this",
    404: "There is nothing here",
    405: "This address does not take that",
    409: "That cannot be done now",
    413: "That is too large",
    422: "Something is wrong with what was sent",
    429: "Too many tries",
    503: "Millpond is busy",
}


def build_site(
    outer: FastAPI, portal: Portal, check: CheckVisit, routers: Iterable[APIRouter]
) -> FastAPI:
    """Build the application of the pages.

    Args:
        outer: the frame; both share what it knows of callers.
        portal: makes the pages.
        check: refuses whoever lacks a page's permission.
        routers: the rooms' pages.
    """
    site = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    site.state = outer.state
    site.state.portal = portal
    site.state.check_visit = check
    site.include_router(_own_pages(portal))
    for router in routers:
        site.include_router(router)
    site.add_exception_handler(SignInFirst, _to_sign_in)
    site.add_exception_handler(MillpondError, _told)
    site.add_exception_handler(RequestValidationError, _told)
    site.add_exception_handler(HTTPException, _told)
    return site


class SiteMount(Mount):
    """Hangs the pages below everything that programs ask for."""

    def __init__(self, site: Later) -> None:
        super().__init__("", app=site)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what is no program's address, so that those keep their own 404 and 405."""
        if scope["type"] != "http" or _PROGRAMS.match(scope["path"]):
            return Match.NONE, {}
        return super().matches(scope)


def _own_pages(portal: Portal) -> APIRouter:
    router = APIRouter()

    @router.post("/theme", **open_page())
    def set_theme(visit: AnyVisitIn, form: FormIn) -> Response:
        """Dress pages light, dark, or as the reader's system is."""
        answer = portal.go(visit, own_path(form.values.get("next", "")))
        portal.theme_cookie(answer, form.values.get("theme", ""))
        return answer

    return router


def own_path(path: str) -> str:
    """Give the path if it is one of this server's, else the home page: nobody is led elsewhere."""
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if is_own and path.isprintable() else "/"


async def _to_sign_in(request: Request, _: Exception) -> Response:
    address = sign_in_address(request)
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


async def _told(request: Request, fault: Exception) -> Response:
    """Tell of a fault: as a page to people, as a problem to programs."""
    status, heading, message, step, faults = _read(fault)
    request_id = str(request.scope["state"]["request_id"])
    if request.headers.get("hx-request") == "true" or not _wants_page(request):
        if isinstance(fault, HTTPException):
            return problem_of_http(fault, request_id)
        mended = as_error(fault) if isinstance(fault, RequestValidationError) else fault
        assert isinstance(mended, MillpondError)  # noqa: S101 - no other comes here.
        return problem_of(mended, request_id)
    try:
        actor = await find_caller(request)
    except MillpondError:
        actor = None
    inside = _PROJECT.match(request.url.path)
    if inside:  # An address that is none has no project; its menu still leads on.
        request.scope["path_params"] = {"project": inside[1]}
    visit = AnyVisit(request, request.app.state.database, actor)
    portal: Portal = request.app.state.portal
    return portal.render(
        visit,
        "web/fault.html",
        status,
        heading=heading,
        message=message,
        next_step=step,
        fault_list=faults,
        request_id=request_id,
    )


def _read(fault: Exception) -> tuple[int, str, str, str, list[Any]]:
    if isinstance(fault, RequestValidationError):
        fault = as_error(fault)
    if isinstance(fault, MillpondError):
        faults = list(fault.faults) if isinstance(fault, InvalidError) else []
        status, message, step = fault.status, fault.message, fault.next_step
    else:
        assert isinstance(fault, HTTPException)  # noqa: S101 - no other comes here.
        status, faults = fault.status_code, []
        message = f"Millpond has no page at this address ({HTTPStatus(status).phrase})."
        step = "Check the address, or begin at the home page."
    return status, _HEADINGS.get(status, "This did not work"), message, step, faults


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def without_portal(_: Request) -> JSONResponse:
    """Tell that this installation has no portal."""
    return JSONResponse(
        {
            "detail": "Millpond was installed without the portal: its assets could not be built.",
            "next_step": "Use the command line or the REST interface, or install Millpond anew"
            " where the npm registry can be reached.",
        },
        404,
    )
