"""People over the SDK: the account, users, projects, members, tokens and secrets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.client.transport import place
from millpond.people.accounts.resets.values import ResetLink
from millpond.people.values import (
    Me,
    Member,
    NewToken,
    Project,
    Secret,
    Session,
    SetupState,
    Token,
    User,
)


class AccountRoom(Room):
    """The one who is signed in."""

    def is_setup_needed(self) -> bool:
        """Say whether the first administrator is still to be made."""
        return self._transport.read(SetupState, "/setup").is_needed

    def set_up(self, code: str, name: str, password: str) -> NewToken:
        """Make the first administrator with the one-time code that the server printed."""
        body = {"code": code, "name": name, "password": password}
        return decode(NewToken, self._transport.post("/setup", body))

    def sign_in(self, name: str, password: str) -> NewToken:
        """Sign in with a name and a password; gives a session's token."""
        body = {"name": name, "password": password}
        return decode(NewToken, self._transport.post("/sessions", body))

    def ask_reset(self, name: str) -> None:
        """Ask for a link that sets a new password, sent to the mail address of that account."""
        self._transport.post("/resets", {"name": name})

    def use_reset(self, code: str, password: str) -> NewToken:
        """Set a new password with the code of such a link, and sign in; works once."""
        body = {"code": code, "password": password}
        return decode(NewToken, self._transport.post("/resets/use", body))

    def me(self) -> Me:
        """Say who is signed in, and what the token allows."""
        return self._transport.read(Me, "/me")

    def sign_out(self) -> None:
        """Withdraw the session this client came with."""
        self._transport.delete("/sessions/current")

    def sessions(self) -> Sequence[Session]:
        """List where one is signed in, the newest first."""
        return list(self._transport.pages(Session, "/sessions"))

    def end_sessions(self) -> None:
        """Sign out everywhere: every session ends; API tokens stay."""
        self._transport.delete("/sessions")

    def set_password(self, new: str, old: str | None = None) -> None:
        """Change the own password; ``old`` is left out when none was set before."""
        self._transport.put("/me/password", {"old": old, "new": new})

    def set_email(self, email: str | None) -> User:
        """Change the own mail address, or forget it."""
        return decode(User, self._transport.patch("/me", {"email": email}))


class UsersRoom(Room):
    """The accounts of the site; for administrators."""

    def make(
        self,
        name: str,
        password: str | None = None,
        *,
        email: str | None = None,
        is_admin: bool = False,
    ) -> User:
        """Make an account; without a password they can't sign in until one is set."""
        body = {"name": name, "password": password, "email": email, "is_admin": is_admin}
        return decode(User, self._transport.make("/users", body))

    def list(self, *, text: str | None = None) -> Sequence[User]:
        """List the accounts by name, all or those whose name or mail address holds a text."""
        return list(self._transport.pages(User, "/users", {"text": text}))

    def get(self, name: str) -> User:
        """Show one account."""
        return self._transport.read(User, place("users", name))

    def disable(self, name: str) -> User:
        """Refuse someone's sign-in and tokens from now on."""
        return self._change(name, {"is_disabled": True})

    def enable(self, name: str) -> User:
        """Let someone in again."""
        return self._change(name, {"is_disabled": False})

    def set_password(self, name: str, password: str) -> None:
        """Give someone a new password; their sessions end."""
        self._transport.put(place("users", name, "password"), {"new": password})

    def make_reset_link(self, name: str) -> ResetLink:
        """Make a link that sets someone's password; it is shown this once, and works once."""
        return decode(ResetLink, self._transport.make(place("users", name, "reset-link"), None))

    def set_admin(self, name: str, *, is_admin: bool) -> User:
        """Make someone a site administrator, or an ordinary user."""
        return self._change(name, {"is_admin": is_admin})

    def _change(self, name: str, change: dict[str, object]) -> User:
        return decode(User, self._transport.patch(place("users", name), change))


class ProjectsRoom(Room):
    """Projects: each holds its own data, environments, pipelines, runs and record."""

    def make(self, name: str, description: str = "") -> Project:
        """Make a project; its maker owns it."""
        body = {"name": name, "description": description}
        return decode(Project, self._transport.make("/projects", body))

    def list(
        self, *, text: str | None = None, is_archived: bool | None = None, is_all: bool = False
    ) -> Sequence[Project]:
        """List the projects that one is a member of.

        Args:
            text: only those whose name or description holds it.
            is_archived: archived ones only, or none of them.
            is_all: all of the site's; for administrators.
        """
        query = {
            "text": text,
            "archived": None if is_archived is None else str(is_archived).lower(),
            "all": "true" if is_all else None,
        }
        return list(self._transport.pages(Project, "/projects", query))

    def get(self, name: str | None = None) -> Project:
        """Show one project."""
        return self._transport.read(Project, self._in(name))

    def change(
        self,
        name: str,
        *,
        new_name: str | None = None,
        description: str | None = None,
        is_archived: bool | None = None,
    ) -> Project:
        """Rename, describe, archive or revive a project.

        With another name, addresses that hold the old one stop working.
        """
        asked = {"name": new_name, "description": description, "is_archived": is_archived}
        change = {key: value for key, value in asked.items() if value is not None}
        return decode(Project, self._transport.patch(place("projects", name), change))


class MembersRoom(Room):
    """Who belongs to a project, and as what."""

    def list(self, *, project: str | None = None) -> Sequence[Member]:
        """List a project's members."""
        return list(self._transport.pages(Member, self._in(project, "members")))

    def add(self, user: str, role: str = "viewer", *, project: str | None = None) -> Member:
        """Give someone a role (owner, editor, viewer); also to change it."""
        path = self._in(project, "members", user)
        return decode(Member, self._transport.put(path, {"role": role}))

    def remove(self, user: str, *, project: str | None = None) -> None:
        """Take someone out of a project."""
        self._transport.delete(self._in(project, "members", user))

    def leave(self, *, project: str | None = None) -> None:
        """Leave a project oneself; its last owner cannot."""
        self._transport.delete(self._in(project, "members", "me"))


class TokensRoom(Room):
    """The caller's own sessions and API tokens."""

    def make(
        self, name: str, *, scopes: Sequence[str] | None = None, days: int | None = None
    ) -> NewToken:
        """Make an API token; its text is shown this once.

        Args:
            name: what to call it.
            scopes: permissions it is limited to, such as ``run.read`` or ``dataset.*``.
            days: for how long it is good; the server's default when left out.
        """
        body: dict[str, object] = {"name": name}
        if scopes is not None:
            body["scopes"] = list(scopes)
        if days is not None:
            body["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        return decode(NewToken, self._transport.make("/tokens", body))

    def list(self) -> Sequence[Token]:
        """List sessions and tokens that still work."""
        return list(self._transport.pages(Token, "/tokens"))

    def revoke(self, token_id: str) -> None:
        """Withdraw one; it is refused from now on."""
        self._transport.delete(place("tokens", token_id))


class SecretsRoom(Room):
    """A project's secrets: written, never read back."""

    def set(self, name: str, value: str, *, project: str | None = None) -> Secret:
        """Keep a secret under a name, or replace it."""
        path = self._in(project, "secrets", name)
        return decode(Secret, self._transport.put(path, {"value": value}))

    def list(self, *, project: str | None = None) -> Sequence[Secret]:
        """List the secrets' names and dates."""
        return list(self._transport.pages(Secret, self._in(project, "secrets")))

    def remove(self, name: str, *, project: str | None = None) -> None:
        """Forget a secret."""
        self._transport.delete(self._in(project, "secrets", name))
