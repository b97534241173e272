"""What can be done about a forgotten password: ask for a link, hand one over, use it."""

from datetime import timedelta
from urllib.parse import quote

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError
from millpond.ground.ids import new_secret
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import store as account_store
from millpond.people.accounts.resets import rules, store
from millpond.people.accounts.resets.values import ResetLink
from millpond.people.actions import require
from millpond.people.letters import Letter, Post
from millpond.people.values import Device, NewToken, User
from millpond.storage.database import Transaction


def make_link(tx: Transaction, actor: Actor, name: str, *, url: str) -> ResetLink:
    """Make a link that sets somebody's password, for an administrator to hand over.

    Any link made before is good no more.

    Args:
        tx: the transaction.
        actor: the administrator.
        name: whose password.
        url: the server's address.

    Raises:
        NotFoundError: there is no such user.
        ConflictError: the account is disabled.
    """
    require(tx, actor, "user.write")
    user = accounts.user_named(tx, name)
    if user.is_disabled:
        raise ConflictError(
            f"The account {name!r} is disabled.",
            next_step=f"Let them in again first: `millpond user enable {name}`.",
            user=name,
        )
    made = _keep(tx, user, rules.HANDED_LIFE, url)
    note(
        tx, actor, "user.reset.made", f"user/{name}",
        after={"expires_at": made.expires_at.isoformat()},
    )  # fmt: skip
    return made


def send_link(tx: Transaction, who: str, *, url: str, post: Post) -> None:
    """Send a link to the address of whoever has this name or address, if there is somebody.

    The caller learns nothing of that.
    """
    user = _find(tx, who)
    if user is None or user.is_disabled or not user.email:
        return
    if rules.is_too_soon(store.made_at(tx, user.id), tx.now):
        return
    made = _keep(tx, user, rules.MAILED_LIFE, url)
    post(
        tx, Letter(user.email, "A new password for Millpond", rules.letter_of(user.name, made.link))
    )
    note(
        tx, SYSTEM, "user.reset.mailed", f"user/{user.name}",
        after={"expires_at": made.expires_at.isoformat()},
    )  # fmt: skip


def user_of(tx: Transaction, code: str) -> User | None:
    """Give whose password a code sets; None when it is wrong, used or over."""
    user_id = store.find_user_id(tx, accounts.digest_of_token(code.strip()))
    user = None if user_id is None else account_store.find_user(tx, user_id=user_id)
    return None if user is None or user.is_disabled else user


def use_link(tx: Transaction, code: str, password_hash: str, device: Device) -> NewToken | None:
    """Set the password and sign in; None when the code is wrong, used or over.

    Whoever knew the old password is out: all sessions and API tokens end.
    """
    user = user_of(tx, code)
    if user is None or not store.use(tx, accounts.digest_of_token(code.strip())):
        return None
    account_store.change_user(tx, user.id, password_hash=password_hash)
    account_store.withdraw_tokens(tx, user.id, kinds=("session", "api"))
    actor = Actor(user.id, user.name, user.is_admin)
    note(tx, actor, "user.password.reset", f"user/{user.name}")
    return accounts.add_session(tx, user, "new password", device)


def _find(tx: Transaction, who: str) -> User | None:
    found = account_store.find_user(tx, name=who)
    if found is not None:
        return found
    ids = store.user_ids_with_address(tx, who)
    # An address that two people share tells not who has forgotten theirs.
    return account_store.find_user(tx, user_id=ids[0]) if len(ids) == 1 else None


def _keep(tx: Transaction, user: User, life: timedelta, url: str) -> ResetLink:
    code = new_secret("mr")
    expires_at = tx.now + life
    store.keep(tx, user.id, accounts.digest_of_token(code), expires_at)
    return ResetLink(user.name, f"{url.rstrip('/')}/reset?code={quote(code)}", expires_at)
