"""Set a forgotten password: long work in three moves, since a hash is made outside of them."""

from millpond.ground.errors import ConflictError, NotSignedInError
from millpond.people import rules
from millpond.people.accounts.resets import actions
from millpond.people.accounts.tasks import Change
from millpond.people.letters import Post
from millpond.people.passwords import Passwords
from millpond.people.tries import count_try, forgive_tries
from millpond.people.values import Device, NewToken
from millpond.storage.database import Transaction

_WORD = "(forgotten)"
"""Under this no user's name can be: the tries of one address, whatever the code."""


def ask(change: Change, who: str, *, url: str, post: Post | None, device: Device) -> None:
    """Send a link to whoever has this name or address; the answer is always the same.

    Raises:
        ConflictError: no mail server is set.
        TooManyError: too often from this address, or for this name.
    """
    if post is None:
        raise ConflictError(
            "This server sends no mail.",
            next_step="Ask an administrator for a link: `millpond user reset-link NAME`.",
        )

    def send(tx: Transaction) -> None:
        actions.send_link(tx, who.strip(), url=url, post=post)

    # Counted in a transaction of its own, and never forgiven: each may send a letter.
    change(lambda tx: count_try(tx, f"{_WORD} {who.strip()}"[:64], device.address))
    change(send)


def reset(
    change: Change, passwords: Passwords, code: str, password: str, device: Device
) -> NewToken:
    """Set a new password with the code of a link, and sign in.

    Raises:
        InvalidError: the password is not good; the code stays good.
        NotSignedInError: the code is wrong, used or over.
        TooManyError: too many wrong codes from this address.
    """

    def begin(tx: Transaction) -> None:
        user = actions.user_of(tx, code)
        if user is None:
            raise _wrong()
        rules.refuse("The password", rules.faults_of_password(user.name, password))

    change(lambda tx: count_try(tx, _WORD, device.address))
    change(begin)
    hashed = passwords.hash(password)

    def settle(tx: Transaction) -> NewToken | None:
        forgive_tries(tx, _WORD, device.address)
        return actions.use_link(tx, code, hashed, device)

    made = change(settle)
    if made is None:
        raise _wrong()
    return made


def _wrong() -> NotSignedInError:
    return NotSignedInError(
        "The link is wrong, was used, or is too old.",
        next_step="Ask for a new one.",
    )
