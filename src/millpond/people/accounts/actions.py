"""What can be done with accounts: users, tokens, the first administrator, who is calling."""

import hashlib
import secrets
from datetime import datetime, timedelta

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import (
    ConflictError,
    Fault,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
)
from millpond.ground.ids import new_id, new_secret
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people import rules
from millpond.people.accounts import store
from millpond.people.accounts.resets import store as reset_store
from millpond.people.accounts.uses import LastUses
from millpond.people.actions import require
from millpond.people.values import NOWHERE, Device, Me, NewToken, SetupState, Token, User
from millpond.storage.database import Transaction

USER_NAME_LENGTH = 40
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TOKEN_LIFE = timedelta(days=90)


def digest_of_token(text: str) -> str:
    """Give the digest that is kept of a token, code or challenge."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


# Who is calling --------------------------------------------------------------------------------


def find_actor(
    tx: Transaction, token: str, is_local: bool, *, uses: LastUses | None = None
) -> Actor | None:
    """Find who a token belongs to; None when it was never given out.

    Raises:
        NotSignedInError: it is expired or withdrawn, or its user is disabled.
    """
    found = store.find_token(tx, digest_of_token(token))
    if found is None:
        return None
    why = rules.why_refused(
        expires_at=found.token.expires_at,
        withdrawn_at=found.withdrawn_at,
        is_disabled=found.user.is_disabled,
        now=tx.now,
    )
    if why:
        raise NotSignedInError(
            why, next_step="Sign in again with `millpond login`, or use another token."
        )
    if uses is not None:
        uses.saw(found.token, tx.now)
    scopes = found.token.scopes
    return Actor(
        user_id=found.user.id,
        name=found.user.name,
        is_admin=found.user.is_admin,
        token_id=found.token.id,
        scopes=None if scopes is None else frozenset(scopes),
        is_local=is_local,
    )


def get_me(tx: Transaction, actor: Actor) -> Me:
    """Give who the caller is."""
    require(tx, actor, "profile.read")
    scopes = None if actor.scopes is None else sorted(actor.scopes)
    return Me(_user_with_id(tx, actor.user_id), actor.token_id, scopes)


def change_me(tx: Transaction, actor: Actor, *, email: str | None) -> User:
    """Change one's own address for mail."""
    require(tx, actor, "profile.write")
    rules.refuse("The profile", rules.faults_of_email(email))
    before = _user_with_id(tx, actor.user_id)
    store.change_user(tx, before.id, email=email)
    return _noted(tx, actor, "user.changed", before)


# Users -----------------------------------------------------------------------------------------


def add_user(
    tx: Transaction,
    actor: Actor,
    name: str,
    *,
    email: str | None = None,
    is_admin: bool = False,
    password_hash: str | None = None,
) -> User:
    """Make a user.

    Raises:
        InvalidError: the name or the address is not good.
        ConflictError: the name is taken.
    """
    require(tx, actor, "user.write")
    faults = rules.faults_of_name("name", name, USER_NAME_LENGTH)
    rules.refuse("The user", faults + rules.faults_of_email(email))
    user = User(new_id("user"), name, email, is_admin, is_disabled=False, made_at=tx.now)
    if not store.add_user(tx, user, password_hash):
        raise ConflictError(
            f"There is a user {name!r} already.", next_step="Choose another name.", name=name
        )
    return _noted(tx, actor, "user.added", None, user.id)


def list_users(
    tx: Transaction, actor: Actor, *, text: str = "", cursor: str | None, limit: int
) -> Page[User]:
    """Give users in the order of their names; with a text those whose name or address holds it."""
    require(tx, actor, "user.read")
    key = decode_cursor(cursor, str)
    found = store.list_users(tx, text=text, after=str(key[0]) if key else "", limit=limit + 1)
    return make_page(found, limit, lambda user: [user.name])


def get_user(tx: Transaction, actor: Actor, name: str) -> User:
    """Give one user."""
    require(tx, actor, "user.read")
    return user_named(tx, name)


def change_user(
    tx: Transaction,
    actor: Actor,
    name: str,
    *,
    email: str | None = None,
    is_admin: bool | None = None,
    is_disabled: bool | None = None,
) -> User:
    """Change a user; what is None stays.

    Raises:
        ConflictError: the last administrator would be gone.
    """
    require(tx, actor, "user.write")
    rules.refuse("The user", rules.faults_of_email(email))
    store.lock_admins(tx)
    before = user_named(tx, name)
    wanted = {"email": email, "is_admin": is_admin, "is_disabled": is_disabled}
    values = {field: value for field, value in wanted.items() if value is not None}
    if values:
        store.change_user(tx, before.id, **values)
    if not store.active_admins(tx):
        raise ConflictError(
            f"{name!r} is the last site administrator who can sign in.",
            next_step="Make someone else an administrator first.",
            name=name,
        )
    return _noted(tx, actor, "user.changed", before)


def set_password(tx: Transaction, actor: Actor, name: str, password_hash: str) -> None:
    """Set somebody's password; they are signed out everywhere, their API tokens too."""
    require(tx, actor, "user.write")
    user = user_named(tx, name)
    store.change_user(tx, user.id, password_hash=password_hash)
    store.withdraw_tokens(tx, user.id, kinds=("session", "api"), keep=actor.token_id)
    reset_store.forget(tx, user.id)
    note(tx, actor, "user.password.set", f"user/{user.name}")


def change_password(tx: Transaction, actor: Actor, old_hash: str | None, new_hash: str) -> None:
    """Change one's own password, whose hash before is given; other sessions end.

    Raises:
        ConflictError: the password was changed by someone else in the meantime.
    """
    require(tx, actor, "profile.write")
    if store.password_of(tx, actor.user_id) != old_hash:
        raise ConflictError(
            "The password was changed a moment ago.", next_step="Try again with the new one."
        )
    store.change_user(tx, actor.user_id, password_hash=new_hash)
    store.withdraw_tokens(tx, actor.user_id, kinds=("session",), keep=actor.token_id)
    reset_store.forget(tx, actor.user_id)
    note(tx, actor, "user.password.changed", f"user/{actor.name}")


def has_password(tx: Transaction, actor: Actor) -> bool:
    """Tell whether one has a password, and not other ways in alone."""
    require(tx, actor, "profile.read")
    return store.password_of(tx, actor.user_id) is not None


def user_named(tx: Transaction, name: str) -> User:
    """Give the user with this name."""
    user = store.find_user(tx, name=name)
    if user is None:
        raise NotFoundError(
            f"There is no user {name!r}.",
            next_step="Check the name, or ask an administrator to make the account.",
            user=name,
        )
    return user


def _user_with_id(tx: Transaction, user_id: str) -> User:
    user = store.find_user(tx, user_id=user_id)
    if user is None:
        raise NotFoundError(
            f"There is no user with the id {user_id!r}.", next_step="Sign in as a user."
        )
    return user


def _noted(
    tx: Transaction, actor: Actor, verb: str, before: User | None, user_id: str = ""
) -> User:
    user = _user_with_id(tx, before.id if before else user_id)
    note(tx, actor, verb, f"user/{user.name}", before=before and _facts(before), after=_facts(user))
    return user


def _facts(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "email": user.email,
        "is_admin": user.is_admin,
        "is_disabled": user.is_disabled,
    }


# Tokens ----------------------------------------------------------------------------------------


def add_token(
    tx: Transaction,
    actor: Actor,
    name: str,
    *,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> NewToken:
    """Make an API token for oneself; its text is given this once.

    Args:
        tx: the transaction.
        actor: whose token it becomes.
        name: what to call it.
        scopes: what to limit it to; None for all that the user may do.
        expires_at: from when it is refused; 90 days from now without, at most 366.

    Raises:
        InvalidError: a scope is none, or the time is past or too far off.
        NotAllowedError: the token that the call came with allows less than this one would.
    """
    require(tx, actor, "token.write")
    faults = rules.faults_of_scopes(scopes)
    ends = expires_at or tx.now + _TOKEN_LIFE
    if ends.tzinfo is None:
        faults.append(Fault("expires_at", "has no zone; write for example 2027-01-31T12:00:00Z"))
    elif not tx.now < ends <= tx.now + timedelta(days=rules.TOKEN_DAYS_MOST):
        faults.append(Fault("expires_at", f"lies not within {rules.TOKEN_DAYS_MOST} days from now"))
    rules.refuse("The token", faults)
    if not rules.are_scopes_within(None if scopes is None else set(scopes), actor.scopes):
        raise NotAllowedError(
            "A token cannot make one that allows more than itself.",
            next_step="Ask for fewer scopes, or sign in with your password.",
            scopes=sorted(actor.scopes or ()),
        )
    made = _new_token(tx, actor.user_id, "api", name, ends, scopes)
    note(
        tx, actor, "token.added", f"token/{made.token.id}",
        after={"name": name, "scopes": scopes, "expires_at": ends.isoformat()},
    )  # fmt: skip
    return made


def list_tokens(
    tx: Transaction, actor: Actor, *, kind: str = "", cursor: str | None, limit: int
) -> Page[Token]:
    """Give one's own sessions and API tokens that are still good, or those of one kind."""
    require(tx, actor, "token.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_tokens(tx, actor.user_id, kind=kind, after=after, limit=limit + 1)
    return make_page(found, limit, lambda token: [token.id])


def withdraw_token(tx: Transaction, actor: Actor, token_id: str) -> None:
    """Withdraw one of one's own tokens or sessions."""
    require(tx, actor, "token.write")
    _withdraw(tx, actor, token_id)


def sign_out(tx: Transaction, actor: Actor) -> None:
    """Withdraw the token that the call came with."""
    require(tx, actor, "profile.read")
    _withdraw(tx, actor, actor.token_id)


def _withdraw(tx: Transaction, actor: Actor, token_id: str) -> None:
    if not store.withdraw_token(tx, actor.user_id, token_id):
        raise NotFoundError(
            f"You have no token {token_id!r}.",
            next_step="List your tokens with `millpond token list`.",
            token=token_id,
        )
    note(tx, actor, "token.withdrawn", f"token/{token_id}")


def add_session(tx: Transaction, user: User, where: str, device: Device) -> NewToken:
    """Make a session for somebody who has proved who they are."""
    made = _new_token(tx, user.id, "session", where, tx.now + rules.SESSION_LIFE, None, device)
    actor = Actor(user.id, user.name, user.is_admin, token_id=made.token.id)
    note(tx, actor, "session.started", f"token/{made.token.id}", after={"where": where})
    return made


def _new_token(
    tx: Transaction,
    user_id: str,
    kind: str,
    name: str,
    expires_at: datetime,
    scopes: list[str] | None,
    device: Device = NOWHERE,
) -> NewToken:
    text = new_secret("mp")
    token = Token(new_id("token"), kind, name, scopes, tx.now, expires_at, None)
    store.add_token(tx, user_id, token, digest_of_token(text), device)
    return NewToken(text, token)


# The first administrator -----------------------------------------------------------------------


def get_setup_state(tx: Transaction) -> SetupState:
    """Tell whether the first administrator is still to be made."""
    return SetupState(is_needed=not store.active_admins(tx))


def make_setup_code(tx: Transaction) -> str | None:
    """Make the one-time code that makes the first administrator; None when there is one.

    A code made before is good no more.
    """
    if store.active_admins(tx):
        return None
    letters = [secrets.choice(_ALPHABET) for _ in range(16)]
    code = "-".join("".join(letters[place : place + 4]) for place in range(0, 16, 4))
    store.keep_setup_code(tx, digest_of_token(code))
    return code


def set_up(
    tx: Transaction, code: str, name: str, password_hash: str, device: Device = NOWHERE
) -> NewToken | None:
    """Make the first administrator with the one-time code; None when the code is wrong.

    Raises:
        ConflictError: there is an administrator already.
    """
    refuse_second_setup(tx)
    if not store.use_setup_code(tx, digest_of_token(code.strip().upper())):
        return None
    user = add_user(tx, SYSTEM, name, is_admin=True, password_hash=password_hash)
    return add_session(tx, user, "setup", device)


def set_up_locally(tx: Transaction, name: str) -> User:
    """Make the first administrator for somebody who has proved to run the server."""
    refuse_second_setup(tx)
    return add_user(tx, SYSTEM, name, is_admin=True)


def refuse_second_setup(tx: Transaction) -> None:
    """Refuse when there is an administrator already."""
    store.lock_admins(tx)
    if store.active_admins(tx):
        raise ConflictError(
            "This installation is set up: it has an administrator.",
            next_step="Sign in with `millpond login`, or ask an administrator for an account.",
        )
