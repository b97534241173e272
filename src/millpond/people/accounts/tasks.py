"""Sign in: long work in three moves, since a password's hash is checked outside of transactions."""

import hmac
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol, TypeVar

from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, NotAllowedError, NotSignedInError, TooManyError
from millpond.people import rules
from millpond.people.accounts import actions, store
from millpond.people.actions import require
from millpond.people.passwords import Passwords
from millpond.people.values import NOWHERE, Device, LocalChallenge, NewToken, User, local_proof
from millpond.storage.database import Transaction

T = TypeVar("T")
_CHALLENGE_LIFE = timedelta(minutes=1)
_CHALLENGES_OPEN = 200


class Change(Protocol):
    """Runs an action in one transaction, as ``Database.change`` does."""

    def __call__(self, action: Callable[[Transaction], T], /) -> T:
        """Run it."""
        ...


def sign_in(
    change: Change, passwords: Passwords, name: str, password: str, device: Device
) -> NewToken:
    """Give a session for a name and its password.

    A user who does not exist takes the same time and gets the same answer as a wrong password.

    Raises:
        NotSignedInError: they do not fit, or the account is disabled.
        TooManyError: too many wrong tries in the last quarter of an hour.
    """
    address = device.address
    user, hashed = change(lambda tx: _begin(tx, name, address))
    is_right = passwords.is_right(hashed, password)

    def settle(tx: Transaction) -> NewToken:
        store.forgive(tx, name[:64], address)
        # The hash is looked at again: it may have been changed while we were checking.
        if user is None or store.password_of(tx, user.id) != hashed:
            raise _wrong()
        return actions.add_session(tx, user, "password", device)

    if user is None or not is_right:
        raise _wrong()
    return change(settle)


def set_up(
    change: Change, passwords: Passwords, code: str, name: str, password: str, device: Device
) -> NewToken:
    """Make the first administrator with the one-time code, and sign them in.

    Raises:
        InvalidError: the name or the password is not good; the code stays good.
        ConflictError: there is an administrator already.
        NotSignedInError: the code is wrong.
        TooManyError: too many wrong codes from this address.
    """

    def begin(tx: Transaction) -> None:
        actions.refuse_second_setup(tx)
        rules.refuse("The password", rules.faults_of_password(name, password))
        _count(tx, "", device.address)

    change(begin)
    hashed = passwords.hash(password)
    made = change(lambda tx: actions.set_up(tx, code, name, hashed, device))
    if made is None:
        raise NotSignedInError(
            "The setup code is wrong, used, or replaced by a newer one.",
            next_step="Take the code that the server printed when it last started.",
        )
    change(lambda tx: store.forgive(tx, "", device.address))
    return made


def change_own_password(
    change: Change, passwords: Passwords, actor: Actor, old: str | None, new: str
) -> None:
    """Change one's own password, given the old one if there is one.

    Raises:
        InvalidError: the new password is not good.
        NotAllowedError: the old one is wrong.
    """

    def begin(tx: Transaction) -> str | None:
        require(tx, actor, "profile.write")
        rules.refuse("The password", rules.faults_of_password(actor.name, new))
        if store.password_of(tx, actor.user_id) is not None:
            _count(tx, actor.name, "old password")
        return store.password_of(tx, actor.user_id)

    hashed = change(begin)
    if hashed is None and actor.scopes is not None:
        raise NotAllowedError(
            "A token with scopes cannot set the first password, which would allow more than it.",
            next_step="Sign in without scopes, for example with `millpond login` on this machine.",
        )
    if hashed is not None and not passwords.is_right(hashed, old or ""):
        raise NotAllowedError(
            "The old password is wrong.",
            next_step="Try again, or ask an administrator to set a new one.",
        )
    made = passwords.hash(new)

    def settle(tx: Transaction) -> None:
        store.forgive(tx, actor.name, "old password")
        actions.change_password(tx, actor, hashed, made)

    change(settle)


def make_challenge(tx: Transaction) -> LocalChallenge:
    """Give out a text that can be answered once, within a minute.

    Raises:
        TooManyError: very many are open.
    """
    text = secrets.token_urlsafe(32)
    made = LocalChallenge(text, tx.now + _CHALLENGE_LIFE)
    if store.add_challenge(tx, actions.digest_of_token(text), made.expires_at) > _CHALLENGES_OPEN:
        raise TooManyError(
            "Too many challenges wait for their answer.",
            next_step="Try again in a minute.",
            retry_after_seconds=60,
        )
    return made


def sign_in_locally(
    change: Change, key: bytes, challenge: str, name: str, proof: str, device: Device = NOWHERE
) -> NewToken:
    """Give an administrator's session to whoever can read the server's local key file.

    An empty name is the first administrator. On an installation without any, the named user is
    made and becomes the first; they have no password until they set one.

    Raises:
        NotSignedInError: the challenge is used or too old, or the proof is of another key.
        NotAllowedError: the named user is no administrator who can sign in.
        ConflictError: there is no administrator yet and no name is given.
    """
    # In a transaction of its own: a challenge is used up even when its answer is wrong.
    is_open = change(lambda tx: store.use_challenge(tx, actions.digest_of_token(challenge)))
    is_right = hmac.compare_digest(
        local_proof(key, challenge, name).encode(), proof.encode(errors="replace")
    )
    if not is_open or not is_right:
        raise NotSignedInError(
            "The proof is wrong, or its challenge was used or is older than a minute.",
            next_step="Run the command as the account that runs the server, on the same machine,"
            " or sign in with `millpond login`.",
        )
    where = "this machine"
    return change(lambda tx: actions.add_session(tx, _local_user(tx, name), where, device))


def _local_user(tx: Transaction, name: str) -> User:
    admins = store.active_admins(tx)
    if not admins and not name:
        raise ConflictError(
            "This installation has no administrator yet.",
            next_step="Say who is to become the first, for example `millpond login --name ann`.",
        )
    if not admins:
        return actions.set_up_locally(tx, name)
    chosen = [user for user in admins if name in ("", user.name)]
    if not chosen:
        raise NotAllowedError(
            f"{name!r} is no administrator of this installation.",
            next_step="Sign in with a password: `millpond login`.",
        )
    return chosen[0]


def _begin(tx: Transaction, name: str, address: str) -> tuple[User | None, str | None]:
    _count(tx, name[:64], address)
    user = store.find_user(tx, name=name)
    if user is None or user.is_disabled:
        return None, None
    return user, store.password_of(tx, user.id)


def _count(tx: Transaction, name: str, address: str) -> None:
    """Count a try as wrong before it is looked at, so that many at once cannot slip through."""
    if rules.are_too_many(store.count_faults(tx, name, address)):
        raise TooManyError(
            "Too many wrong tries in the last quarter of an hour.",
            next_step="Wait some minutes; an administrator can set a new password.",
            retry_after_seconds=rules.SIGN_IN_WINDOW.total_seconds() / 3,
        )
    store.add_fault(tx, name, address)


def _wrong() -> NotSignedInError:
    return NotSignedInError(
        "The name or the password is wrong, or the account is disabled.",
        next_step="Try again; an administrator can set a new password.",
    )
