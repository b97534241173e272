"""Accounts at other places over the SDK; browsers link them."""

from collections.abc import Sequence

from millpond.client.room import Room
from millpond.client.transport import place
from millpond.people.oidc.values import Identity


class IdentitiesRoom(Room):
    """The caller's own accounts at other places, by which they sign in here."""

    def list(self) -> Sequence[Identity]:
        """List the accounts that are linked."""
        return list(self._transport.pages(Identity, "/me/identities"))

    def unlink(self, identity_id: str) -> None:
        """Unlink one; nobody signs in with it any more."""
        self._transport.delete(place("me", "identities", identity_id))
