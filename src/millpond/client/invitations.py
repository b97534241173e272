"""Invitations over the SDK."""

from collections.abc import Sequence

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.client.transport import place
from millpond.people.invitations.values import Invitation, NewInvitation, SignUpState
from millpond.people.values import NewToken


class InvitationsRoom(Room):
    """Links by which somebody makes their own account, into a project or none."""

    def make(self, *, email: str | None = None, days: int = 7) -> NewInvitation:
        """Invite somebody to make an account; for administrators. The code is shown this once."""
        body = {"email": email, "days": days}
        return decode(NewInvitation, self._transport.make("/invitations", body))

    def make_into(
        self,
        role: str = "viewer",
        *,
        email: str | None = None,
        days: int = 7,
        project: str | None = None,
    ) -> NewInvitation:
        """Invite somebody into a project; for its owners. The code is shown this once."""
        body = {"role": role, "email": email, "days": days}
        path = self._in(project, "invitations")
        return decode(NewInvitation, self._transport.make(path, body))

    def list(self) -> Sequence[Invitation]:
        """List all invitations that are still good; for administrators."""
        return list(self._transport.pages(Invitation, "/invitations"))

    def list_into(self, *, project: str | None = None) -> Sequence[Invitation]:
        """List a project's invitations that are still good; for its owners."""
        return list(self._transport.pages(Invitation, self._in(project, "invitations")))

    def withdraw(self, invitation_id: str) -> None:
        """Withdraw any invitation; for administrators."""
        self._transport.delete(place("invitations", invitation_id))

    def withdraw_into(self, invitation_id: str, *, project: str | None = None) -> None:
        """Withdraw an invitation into a project; for its owners."""
        self._transport.delete(self._in(project, "invitations", invitation_id))

    def accept(self, code: str) -> Invitation:
        """Join the project of an invitation with the account that one has."""
        return decode(Invitation, self._transport.post("/invitations/accept", {"code": code}))

    def look(self, code: str | None = None) -> SignUpState:
        """Say who may make an account, and what an invitation is for."""
        return self._transport.read(SignUpState, "/sign-up", {"invitation": code})

    def sign_up(
        self, name: str, password: str, *, email: str | None = None, code: str | None = None
    ) -> NewToken:
        """Make oneself an account; gives a session's token."""
        body = {"name": name, "password": password, "email": email, "invitation": code}
        return decode(NewToken, self._transport.post("/sign-up", body))
