"""The portal: pages made of the rooms' templates, all in one frame.

Public here, for rooms' ``pages``: ``Portal``, ``NavItem``, and from ``visits`` all that a page
declares and takes.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from millpond.ground.actor import Actor
from millpond.storage.database import Transaction
from millpond.web import words
from millpond.web.assets import Assets
from millpond.web.visits import (
    AnyVisit,
    AnyVisitIn,
    Form,
    FormIn,
    Visit,
    VisitIn,
    open_page,
    page,
    sign_in_address,
)

__all__ = [
    "AnyVisit",
    "AnyVisitIn",
    "Form",
    "FormIn",
    "NavItem",
    "Portal",
    "Surroundings",
    "Visit",
    "VisitIn",
    "open_page",
    "page",
    "sign_in_address",
]

_HOUSE = Path(__file__).parent.parent
_SAID, _THEME = "millpond_said", "millpond_theme"
_THEMES = ("auto", "light", "dark")
_SAID_MOST = 1000
_PACK_BYTES, _PACK_LEVEL = 1000, 5
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none';"
    " base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    # With no-referrer a browser would not say where a form comes from.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class NavItem:
    """One entry of a menu.

    Attributes:
        path: may hold ``{project}``.
        permission: who lacks it does not see the entry.
        place: ``project``, ``site``, ``user`` or ``admin``.
    """

    label: str
    path: str
    icon: str
    permission: str
    place: str = "project"
    order: int = 50


@dataclass(frozen=True)
class Surroundings:
    """Where a visitor is, and what they may do there.

    Attributes:
        permissions: all that the visitor may do, on the site and in the project.
        project: its name; empty outside of projects, or where the visitor may not see it.
        is_archived: whether the project takes no changes.
    """

    permissions: frozenset[str]
    project: str = ""
    is_archived: bool = False


Survey = Callable[[Transaction, Actor, str], Surroundings]
"""Tell of an actor's surroundings: the last is the project's name or empty."""


class Portal:
    """Makes pages."""

    def __init__(
        self,
        assets: Assets,
        survey: Survey,
        *,
        url: str,
        version: str,
        nav: Iterable[NavItem] = (),
        warning: str = "",
    ) -> None:
        """Take what every page needs.

        Args:
            assets: the front end's build.
            survey: tells what a visitor may do where they are.
            url: the address by which this server is reached.
            version: Millpond's, shown at the foot.
            nav: the rooms' menu entries.
            warning: stands at the top of every page; empty when there is none.
        """
        self.url = url
        self.session_cookie = cookie_name(url)
        self._survey, self._version = survey, version
        self._nav = sorted(nav, key=lambda item: item.order)
        self._templates = jinja2.Environment(
            loader=jinja2.FunctionLoader(_load),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
        )
        self._templates.globals.update(asset=assets.url, warning=warning)
        self._templates.filters.update(
            amount=words.write_amount,
            coded=words.write_coded,
            duration=words.write_duration,
            json=words.write_json,
            number=words.write_number,
            pretty=words.write_pretty,
            size=words.write_size,
            when=words.write_time,
        )

    def give(self, name: str, value: object) -> None:
        """Give every template a fact that is the same for all visitors."""
        self._templates.globals[name] = value

    @property
    def is_secure(self) -> bool:
        """Tell whether browsers reach this server by TLS."""
        return self.url.startswith("https:")

    def render(
        self, visit: AnyVisit | Visit, template: str, status: int = 200, **facts: object
    ) -> HTMLResponse:
        """Make a page or a part of one.

        Args:
            visit: whose it is.
            template: ``ROOM/FILE.html`` for ``ROOM/templates/FILE.html`` of the house.
            status: 422 for a form with faults.
            facts: what the template shows.
        """
        given = {"form": Form(), "fault": None} | facts | self._frame(visit)
        text = self._templates.get_template(template).render(given)
        answer = _packed(visit, text, status)
        if _SAID in visit.request.cookies and not visit.is_fragment:
            answer.delete_cookie(_SAID)
        return answer

    def go(self, visit: AnyVisit | Visit, path: str, said: str = "") -> Response:
        """Send the visitor to a page of ours; there, what is said is shown once."""
        answer: Response
        if visit.is_fragment:
            answer = Response(status_code=204, headers={"HX-Redirect": path, **_HEADERS})
        else:
            answer = RedirectResponse(path, 303, dict(_HEADERS))
        if said:
            text = quote(said[:_SAID_MOST])
            answer.set_cookie(
                _SAID, text, max_age=60, httponly=True, samesite="lax", secure=self.is_secure
            )
        return answer

    def sign_in_cookie(self, answer: Response, token: str, expires_at: datetime | None) -> None:
        """Give the browser its session."""
        seconds = None
        if expires_at is not None:
            seconds = max(0, int((expires_at - datetime.now(UTC)).total_seconds()))
        answer.set_cookie(
            self.session_cookie,
            token,
            max_age=seconds,
            httponly=True,
            samesite="lax",
            secure=self.is_secure,
        )

    def sign_out_cookie(self, answer: Response) -> None:
        """Take the browser's session away."""
        answer.delete_cookie(
            self.session_cookie, httponly=True, samesite="lax", secure=self.is_secure
        )

    def theme_cookie(self, answer: Response, theme: str) -> None:
        """Remember how a reader wants pages dressed: ``auto``, ``light`` or ``dark``."""
        theme = theme if theme in _THEMES else "auto"
        answer.set_cookie(_THEME, theme, max_age=365 * 86_400, httponly=True, samesite="lax")

    def _frame(self, visit: AnyVisit | Visit) -> dict[str, object]:
        """Give what the frame around every page shows."""
        actor, request = visit.actor, visit.request
        name = str(request.path_params.get("project", ""))
        around = Surroundings(frozenset())
        if actor is not None:
            around = visit.read(lambda tx: self._survey(tx, actor, name))
        cookies, said = request.cookies, ""
        if not visit.is_fragment:
            said = unquote(cookies.get(_SAID, ""))[:_SAID_MOST]
        theme = cookies.get(_THEME, "auto")
        return {
            "actor": actor,
            "here": request.url.path,
            "query": dict(request.query_params),
            "is_archived": around.is_archived,
            "is_fragment": visit.is_fragment,
            "may": around.permissions.__contains__,
            "nav": self._menus(around),
            "project": around.project,
            "said": said,
            "theme": theme if theme in _THEMES else "auto",
            "url": self.url,
            "version": self._version,
        }

    def _menus(self, around: Surroundings) -> Mapping[str, list[NavItem]]:
        menus: dict[str, list[NavItem]] = {"project": [], "site": [], "user": [], "admin": []}
        for item in self._nav:
            if item.permission in around.permissions and (
                item.place != "project" or around.project
            ):
                menus[item.place].append(item)
        return menus


def _packed(visit: AnyVisit | Visit, text: str, status: int) -> HTMLResponse:
    """Write a page, gzipped where the browser takes that and it is worth it."""
    body, headers = text.encode(), {**_HEADERS, "Vary": "Accept-Encoding"}
    if len(body) >= _PACK_BYTES and "gzip" in visit.request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, _PACK_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return HTMLResponse(body, status, headers)


def cookie_name(url: str) -> str:
    """Name the session's cookie: no other server of this host may set or read it by accident."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        port = f"_{parts.port}" if parts.port else ""
        return f"__Host-millpond{port}"  # Taken only with Secure, Path=/ and no Domain.
    return f"millpond_{parts.port or 80}"


class Later:
    """An application that is made at its first request, so that a server starts quickly."""

    def __init__(self, make: Callable[[], FastAPI]) -> None:
        self._make = make
        self._app: FastAPI | None = None
        self._lock = asyncio.Lock()

    @property
    def app(self) -> FastAPI:
        """The application, made now if it was not yet."""
        if self._app is None:
            self._app = self._make()
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make it, if this is the first request, and pass the request on."""
        if self._app is None:
            async with self._lock:
                await asyncio.get_running_loop().run_in_executor(None, lambda: self.app)
        app: ASGIApp = self.app
        passed: Awaitable[None] = app(scope, receive, send)
        await passed


def _load(name: str) -> str | None:
    room, _, file = name.rpartition("/")
    path = _HOUSE / room / "templates" / file
    return path.read_text() if path.is_file() else None
