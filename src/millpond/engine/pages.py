"""Pages of the installation itself, for site administrators: settings and health."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.engine import system
from millpond.engine.system import Installation
from millpond.web.portal import NavItem, Portal, VisitIn, page

_HEALTH, _SETTINGS = "/admin/health", "/admin/settings"
NAV = (
    NavItem("Health", _HEALTH, icon="heartbeat", permission="system.read", place="admin", order=20),
    NavItem(
        "Settings",
        _SETTINGS,
        icon="adjustments",
        permission="system.read",
        place="admin",
        order=30,
    ),
)


def pages(
    portal: Portal, installation: Installation, *, sign_in: str = "", fingerprint: str = ""
) -> APIRouter:
    """Give the pages.

    Args:
        portal: makes the pages.
        installation: what is shown.
        sign_in: the command by which others sign in from their machines; empty where none do.
        fingerprint: of the authority that they then trust; empty where it is not ours.
    """
    router = APIRouter()

    @router.get("/admin", **page("system.read"))
    def lead_on(visit: VisitIn) -> Response:
        """Lead to the first page of the administration."""
        return portal.go(visit, _HEALTH)

    @router.get(_HEALTH, **page("system.read"))
    def show_health(visit: VisitIn) -> HTMLResponse:
        """Show how the database, the objects, the disk, the sandbox and the queue are."""
        health = system.get_health(visit.actor, installation)
        info = visit.read(lambda tx: system.get_system(tx, visit.actor, installation))
        return portal.render(
            visit,
            "engine/health.html",
            health=health,
            info=info,
            sign_in=sign_in,
            fingerprint=fingerprint,
        )

    @router.get(_SETTINGS, **page("system.read"))
    def show_settings(visit: VisitIn) -> HTMLResponse:
        """Show every setting as the server sees it, and where it comes from."""
        found = visit.read(lambda tx: system.get_settings(tx, visit.actor, installation))
        rooms: dict[str, list[object]] = {}
        for one in found.settings:
            rooms.setdefault(one.key.partition(".")[0], []).append(one)
        return portal.render(visit, "engine/settings.html", file=found.file, rooms=rooms)

    return router
