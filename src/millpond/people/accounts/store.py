"""All statements about users, tokens and signing in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from millpond.ground.ids import new_id
from millpond.people.rules import SIGN_IN_WINDOW, Faults
from millpond.people.tables import (
    access_token,
    local_challenge,
    setup_code,
    sign_in_fault,
    user_account,
)
from millpond.people.values import Device, Token, User
from millpond.storage.database import Transaction

_ADMIN_LOCK, _SIGN_IN_LOCK = 7_301_003, 7_301_004  # Advisory locks of PostgreSQL.
_user = user_account.c
_USER_FIELDS = ("id", "name", "email", "is_admin", "is_disabled", "made_at")
_USER = sa.select(*[_user[name] for name in _USER_FIELDS])
_TOKEN = sa.select(
    access_token.c.id,
    access_token.c.kind,
    access_token.c.name,
    access_token.c.scopes,
    access_token.c.made_at,
    access_token.c.expires_at,
    access_token.c.last_used_at,
)


# Users -----------------------------------------------------------------------------------------


def lock_admins(tx: Transaction) -> None:
    """Let one transaction at a time change who is an administrator."""
    if not tx.is_sqlite:
        tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_ADMIN_LOCK})"))


def find_user(tx: Transaction, *, name: str = "", user_id: str = "") -> User | None:
    """Find a user by name or id."""
    row = tx.one(_USER.where(_user.id == user_id if user_id else _user.name == name))
    return None if row is None else User(**row._mapping)  # noqa: SLF001 - its public name.


def list_users(tx: Transaction, *, text: str = "", after: str, limit: int) -> list[User]:
    """Give users in the order of their names, those alone whose name or address holds a text."""
    query = _USER.where(_user.name > after).order_by(_user.name).limit(limit)
    if text:
        searched = (_user.name, _user.email)
        query = query.where(sa.or_(*(one.icontains(text, autoescape=True) for one in searched)))
    return [User(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def add_user(tx: Transaction, user: User, password_hash: str | None) -> bool:
    """Write a new user; tell whether the name was free."""
    if find_user(tx, name=user.name) is not None:
        return False
    tx.execute(user_account.insert().values(**vars(user), password_hash=password_hash))
    return True


def change_user(tx: Transaction, user_id: str, **values: Any) -> None:
    """Change columns of a user."""
    tx.execute(user_account.update().where(_user.id == user_id).values(**values))


def password_of(tx: Transaction, user_id: str) -> str | None:
    """Give a user's password hash, None when there is none."""
    found = tx.scalar(sa.select(_user.password_hash).where(_user.id == user_id))
    return None if found is None else str(found)


def active_admins(tx: Transaction) -> list[User]:
    """Give the administrators who can sign in, the first one first."""
    query = _USER.where(_user.is_admin.is_(True), _user.is_disabled.is_(False))
    rows = tx.rows(query.order_by(_user.made_at, _user.id))
    return [User(**row._mapping) for row in rows]  # noqa: SLF001 - its public name.


def count_users(tx: Transaction) -> int:
    """Tell how many users there are."""
    return int(tx.scalar(sa.select(sa.func.count()).select_from(user_account)))


# Tokens ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundToken:
    """A token with what must be known of its user."""

    token: Token
    withdrawn_at: datetime | None
    user: User


@dataclass(frozen=True)
class FoundSession:
    """A session with where it was begun."""

    token: Token
    device: Device


def find_token(tx: Transaction, digest: str) -> FoundToken | None:
    """Find a token by the sha256 of its text."""
    query = (
        sa.select(access_token, *[_user[name].label(f"of_user_{name}") for name in _USER_FIELDS])
        .join(user_account, _user.id == access_token.c.user_id)
        .where(access_token.c.digest == digest)
    )
    row = tx.one(query)
    if row is None:
        return None
    facts = row._mapping  # noqa: SLF001 - its public name.
    token = Token(**{column.name: facts[column.name] for column in _TOKEN.selected_columns})
    user = User(**{name: facts[f"of_user_{name}"] for name in _USER_FIELDS})
    return FoundToken(token, facts["withdrawn_at"], user)


def list_tokens(
    tx: Transaction, user_id: str, *, kind: str = "", after: str, limit: int
) -> list[Token]:
    """Give a user's tokens that are still good, all or one kind, in the order of their making."""
    column = access_token.c
    query = (
        _TOKEN.where(column.user_id == user_id, column.withdrawn_at.is_(None), column.id > after)
        .where(column.expires_at > tx.now)
        .order_by(column.id)
        .limit(limit)
    )
    if kind:
        query = query.where(column.kind == kind)
    return [Token(**row._mapping) for row in tx.rows(query)]  # noqa: SLF001 - its public name.


def add_token(tx: Transaction, user_id: str, token: Token, digest: str, device: Device) -> None:
    """Write a new token."""
    values = vars(token) | vars(device) | {"user_id": user_id, "digest": digest}
    tx.execute(access_token.insert().values(**values))


def list_sessions(tx: Transaction, user_id: str, *, after: str, limit: int) -> list[FoundSession]:
    """Give a user's sessions that are still good, the newest first."""
    column = access_token.c
    query = (
        _TOKEN.add_columns(column.address, column.agent)
        .where(column.user_id == user_id, column.kind == "session", column.withdrawn_at.is_(None))
        .where(column.expires_at > tx.now)
        .order_by(column.id.desc())
        .limit(limit)
    )
    if after:
        query = query.where(column.id < after)
    found = []
    for row in tx.rows(query):
        facts = dict(row._mapping)  # noqa: SLF001 - its public name.
        device = Device(facts.pop("address"), facts.pop("agent"))
        found.append(FoundSession(Token(**facts), device))
    return found


def withdraw_token(tx: Transaction, user_id: str, token_id: str) -> bool:
    """Withdraw one token of a user; tell whether it was there and good."""
    column = access_token.c
    mine = (column.user_id == user_id) & (column.id == token_id) & column.withdrawn_at.is_(None)
    return bool(tx.execute(access_token.update().where(mine).values(withdrawn_at=tx.now)).rowcount)


def withdraw_tokens(tx: Transaction, user_id: str, *, kinds: Sequence[str], keep: str = "") -> int:
    """Withdraw a user's tokens of some kinds, but for one; tell how many."""
    column = access_token.c
    chosen = (
        (column.user_id == user_id)
        & column.kind.in_(kinds)
        & (column.id != keep)
        & column.withdrawn_at.is_(None)
    )
    return tx.execute(access_token.update().where(chosen).values(withdrawn_at=tx.now)).rowcount


def mark_used(tx: Transaction, token_id: str, at: datetime) -> None:
    """Keep when a token was used last, never going back."""
    column = access_token.c
    older = column.last_used_at.is_(None) | (column.last_used_at < at)
    tx.execute(access_token.update().where(column.id == token_id, older).values(last_used_at=at))


# Signing in ------------------------------------------------------------------------------------


def count_faults(tx: Transaction, name: str, address: str) -> Faults:
    """Count the wrong tries of the last quarter of an hour, one transaction at a time."""
    if not tx.is_sqlite:
        tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_SIGN_IN_LOCK})"))
    column = sign_in_fault.c
    since = column.at > tx.now - SIGN_IN_WINDOW

    def count(*conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(sign_in_fault).where(since, *conditions)
        return int(tx.scalar(query))

    return Faults(
        of_pair=count(column.name == name, column.address == address),
        of_address=count(column.address == address),
        of_name=count(column.name == name),
    )


def add_fault(tx: Transaction, name: str, address: str) -> str:
    """Count a try as wrong until it proves right; forget those that count no more."""
    column = sign_in_fault.c
    tx.execute(sign_in_fault.delete().where(column.at <= tx.now - SIGN_IN_WINDOW))
    fault_id = new_id("try")
    tx.execute(sign_in_fault.insert().values(id=fault_id, name=name, address=address, at=tx.now))
    return fault_id


def forgive(tx: Transaction, name: str, address: str) -> None:
    """Forget the wrong tries with this name from this address."""
    column = sign_in_fault.c
    tx.execute(sign_in_fault.delete().where(column.name == name, column.address == address))


def keep_setup_code(tx: Transaction, digest: str) -> None:
    """Keep a setup code instead of any before."""
    tx.execute(setup_code.delete())
    tx.execute(setup_code.insert().values(digest=digest, made_at=tx.now))


def use_setup_code(tx: Transaction, digest: str) -> bool:
    """Use a setup code up; tell whether it was right."""
    return bool(tx.execute(setup_code.delete().where(setup_code.c.digest == digest)).rowcount)


def add_challenge(tx: Transaction, digest: str, expires_at: datetime) -> int:
    """Keep a challenge; tell how many are open."""
    tx.execute(local_challenge.delete().where(local_challenge.c.expires_at <= tx.now))
    tx.execute(local_challenge.insert().values(digest=digest, expires_at=expires_at))
    return int(tx.scalar(sa.select(sa.func.count()).select_from(local_challenge)))


def use_challenge(tx: Transaction, digest: str) -> bool:
    """Use a challenge up; tell whether it was open."""
    column = local_challenge.c
    fresh = (column.digest == digest) & (column.expires_at > tx.now)
    return bool(tx.execute(local_challenge.delete().where(fresh)).rowcount)
