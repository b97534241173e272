"""Passkeys over the SDK; they are made and used by browsers."""

from collections.abc import Sequence

from millpond.client.room import Room
from millpond.client.transport import place
from millpond.people.passkeys.values import Passkey


class PasskeysRoom(Room):
    """The caller's own passkeys."""

    def list(self) -> Sequence[Passkey]:
        """List passkeys by which the caller can sign in."""
        return list(self._transport.pages(Passkey, "/me/passkeys"))

    def remove(self, passkey_id: str) -> None:
        """Remove one; nobody signs in with it any more."""
        self._transport.delete(place("me", "passkeys", passkey_id))
