"""REST: the authority that others may trust."""

from fastapi import APIRouter

from millpond.machines.trust.host import HostTls
from millpond.machines.trust.values import AuthorityShown
from millpond.web.frame import open_route


def routes(host: HostTls) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["system"])

    @router.get("/authority", **open_route(), summary="Show the installation's authority")
    def get_authority() -> AuthorityShown:
        """Show whose certificates to trust; compare the fingerprint with what you were told."""
        return host.shown

    return router
