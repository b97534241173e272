"""REST of the installation itself: versions, where tasks run, settings, health."""

from fastapi import APIRouter

from millpond.engine import system
from millpond.engine.system import Installation, SystemHealth, SystemInfo, SystemSettings
from millpond.web.frame import CallIn, needs


def routes(installation: Installation) -> APIRouter:
    """Make the routes of the installation."""
    router = APIRouter(tags=["system"])

    @router.get("/system", **needs("system.read"), summary="Show the server")
    def get_system(call: CallIn) -> SystemInfo:
        """Show versions, where tasks run, and every setting with secrets masked."""
        return call.read(lambda tx: system.get_system(tx, call.actor, installation))

    @router.get("/system/settings", **needs("system.read"))
    def get_settings(call: CallIn) -> SystemSettings:
        """Show every setting, secrets masked, with where its value comes from."""
        return call.read(lambda tx: system.get_settings(tx, call.actor, installation))

    @router.get("/system/health", **needs("system.read"))
    def get_system_health(call: CallIn) -> SystemHealth:
        """Look at the database, the objects, the disk, the sandbox and the queue."""
        return system.get_health(call.actor, installation)

    return router
