"""Routes of accounts: setting up, signing in, users, tokens."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from millpond.ground.errors import NotAllowedError
from millpond.ground.page import Page
from millpond.people import rules
from millpond.people.accounts import actions, tasks
from millpond.people.accounts.devices import device_of
from millpond.people.actions import require
from millpond.people.passwords import Passwords
from millpond.people.requests import (
    LocalSignInRequest,
    NewPasswordRequest,
    PasswordRequest,
    ProfileRequest,
    SetupRequest,
    SignInRequest,
    TokenRequest,
    UserChange,
    UserRequest,
)
from millpond.people.values import LocalChallenge, Me, NewToken, SetupState, Token, User
from millpond.web.frame import AnyoneIn, CallIn, OpenCall, PageIn, is_local, needs, open_route

_Text = Annotated[str, Query(max_length=200, description="What name or address shall hold.")]


@dataclass(frozen=True)
class _Tools:
    passwords: Passwords
    local_key: bytes


def routes(*, passwords: Passwords, local_key: bytes) -> APIRouter:
    """Give the routes.

    Args:
        passwords: hashes and checks passwords.
        local_key: what a caller on this machine proves to have read.
    """
    router, tools = APIRouter(), _Tools(passwords, local_key)
    _add_setup(router, tools)
    _add_sessions(router, tools)
    _add_me(router, tools)
    _add_tokens(router)
    _add_users(router, tools)
    return router


def _refuse_from_afar(call: OpenCall) -> None:
    if not is_local(call.request):
        raise NotAllowedError(
            "This way of signing in is for the machine that the server runs on.",
            next_step="Sign in with a password: `millpond login`.",
        )


def _add_setup(router: APIRouter, tools: _Tools) -> None:
    @router.get("/setup", tags=["sessions"], **open_route())
    def get_setup_state(call: AnyoneIn) -> SetupState:
        """Tell whether the first administrator is still to be made."""
        return call.read(actions.get_setup_state)

    @router.post("/setup", status_code=201, tags=["sessions"], **open_route())
    def set_up(call: AnyoneIn, body: SetupRequest) -> NewToken:
        """Make the first administrator with the one-time code; works once."""
        return tasks.set_up(
            call.change,
            tools.passwords,
            body.code,
            body.name,
            body.password.get_secret_value(),
            device_of(call.request),
        )


def _add_sessions(router: APIRouter, tools: _Tools) -> None:
    @router.post("/sessions", status_code=201, tags=["sessions"], **open_route())
    def sign_in(call: AnyoneIn, body: SignInRequest) -> NewToken:
        """Sign in with a name and a password."""
        password = body.password.get_secret_value()
        return tasks.sign_in(
            call.change, tools.passwords, body.name, password, device_of(call.request)
        )

    @router.post("/sessions/challenge", status_code=201, tags=["sessions"], **open_route())
    def make_challenge(call: AnyoneIn) -> LocalChallenge:
        """Get a text to answer with a proof; on the server's own machine only."""
        _refuse_from_afar(call)
        return call.change(tasks.make_challenge)

    @router.post("/sessions/local", status_code=201, tags=["sessions"], **open_route())
    def sign_in_locally(call: AnyoneIn, body: LocalSignInRequest) -> NewToken:
        """Sign in as an administrator by proof of reading the server's key file."""
        _refuse_from_afar(call)
        return tasks.sign_in_locally(
            call.change,
            tools.local_key,
            body.challenge,
            body.name,
            body.proof,
            device_of(call.request),
        )

    @router.delete("/sessions/current", status_code=204, tags=["sessions"], **needs("profile.read"))
    def sign_out(call: CallIn) -> None:
        """Withdraw the token that the call came with."""
        call.change(lambda tx: actions.sign_out(tx, call.actor))


def _add_me(router: APIRouter, tools: _Tools) -> None:
    @router.get("/me", tags=["users"], **needs("profile.read"))
    def get_me(call: CallIn) -> Me:
        """Tell who the caller is."""
        return call.read(lambda tx: actions.get_me(tx, call.actor))

    @router.patch("/me", tags=["users"], **needs("profile.write"))
    def change_me(call: CallIn, body: ProfileRequest) -> User:
        """Change one's own profile."""
        return call.change(lambda tx: actions.change_me(tx, call.actor, email=body.email))

    @router.put("/me/password", status_code=204, tags=["users"], **needs("profile.write"))
    def change_password(call: CallIn, body: PasswordRequest) -> None:
        """Change one's own password; other sessions end."""
        old = None if body.old is None else body.old.get_secret_value()
        new = body.new.get_secret_value()
        tasks.change_own_password(call.change, tools.passwords, call.actor, old, new)


def _add_tokens(router: APIRouter) -> None:
    @router.get("/tokens", tags=["tokens"], **needs("token.read"))
    def list_tokens(call: CallIn, page: PageIn) -> Page[Token]:
        """List one's own sessions and API tokens."""
        return call.read(
            lambda tx: actions.list_tokens(tx, call.actor, cursor=page.cursor, limit=page.limit)
        )

    @router.post("/tokens", status_code=201, tags=["tokens"], **needs("token.write"))
    def add_token(call: CallIn, body: TokenRequest) -> NewToken:
        """Make an API token; its text is shown this once."""
        return call.make(
            lambda tx: actions.add_token(
                tx, call.actor, body.name, scopes=body.scopes, expires_at=body.expires_at
            ),
            keep=False,
        )

    @router.delete("/tokens/{token}", status_code=204, tags=["tokens"], **needs("token.write"))
    def withdraw_token(call: CallIn, token: str) -> None:
        """Withdraw one of one's own tokens or sessions."""
        call.change(lambda tx: actions.withdraw_token(tx, call.actor, token))


def _add_users(router: APIRouter, tools: _Tools) -> None:
    def hashed(call: CallIn, name: str, password: str) -> str:
        call.read(lambda tx: require(tx, call.actor, "user.write"))
        rules.refuse("The password", rules.faults_of_password(name, password))
        return tools.passwords.hash(password)

    @router.get("/users", tags=["users"], **needs("user.read"))
    def list_users(call: CallIn, page: PageIn, text: _Text = "") -> Page[User]:
        """List users, all or those whose name or address for mail holds a text."""
        return call.read(
            lambda tx: actions.list_users(
                tx, call.actor, text=text, cursor=page.cursor, limit=page.limit
            )
        )

    @router.post("/users", status_code=201, tags=["users"], **needs("user.write"))
    def add_user(call: CallIn, body: UserRequest) -> User:
        """Make a user."""
        given = body.password
        password = None if given is None else hashed(call, body.name, given.get_secret_value())
        return call.make(
            lambda tx: actions.add_user(
                tx,
                call.actor,
                body.name,
                email=body.email,
                is_admin=body.is_admin,
                password_hash=password,
            )
        )

    @router.get("/users/{user}", tags=["users"], **needs("user.read"))
    def get_user(call: CallIn, user: str) -> User:
        """Show a user."""
        return call.read(lambda tx: actions.get_user(tx, call.actor, user))

    @router.patch("/users/{user}", tags=["users"], **needs("user.write"))
    def change_user(call: CallIn, user: str, body: UserChange) -> User:
        """Change a user; what is left out stays."""
        wanted = body.model_dump(exclude_unset=True)
        return call.change(lambda tx: actions.change_user(tx, call.actor, user, **wanted))

    @router.put("/users/{user}/password", status_code=204, tags=["users"], **needs("user.write"))
    def set_password(call: CallIn, user: str, body: NewPasswordRequest) -> None:
        """Set somebody's password; they are signed out everywhere."""
        password = hashed(call, user, body.new.get_secret_value())
        call.change(lambda tx: actions.set_password(tx, call.actor, user, password))
