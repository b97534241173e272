"""The server itself over the SDK."""

from typing import Any

from millpond.client.room import Room
from millpond.machines.trust.values import AuthorityShown


class SystemRoom(Room):
    """How the server is."""

    def health(self) -> dict[str, Any]:
        """Say whether the server answers and what state it is in; asked without a token."""
        found = self._transport.get("/healthz")
        return found if isinstance(found, dict) else {"status": str(found)}

    def facts(self) -> dict[str, Any]:
        """Say what the server runs on: versions, sandbox, nodes, store; for administrators."""
        found: dict[str, Any] = self._transport.get("/system")
        return found

    def settings(self) -> dict[str, Any]:
        """Give every setting with where its value comes from; for administrators."""
        found: dict[str, Any] = self._transport.get("/system/settings")
        return found

    def findings(self) -> dict[str, Any]:
        """Look at the database, objects, disk, sandbox and queue; for administrators."""
        found: dict[str, Any] = self._transport.get("/system/health")
        return found

    def authority(self) -> AuthorityShown:
        """Show the server's own authority and its fingerprint; asked without a token."""
        return self._transport.read(AuthorityShown, "/authority")
