"""Making a passkey and signing in with one, in moves: nothing is checked inside a transaction."""

import secrets
from typing import Any

from millpond.ground.actor import Actor
from millpond.ground.errors import NotSignedInError, TooManyError
from millpond.people.accounts import store as account_store
from millpond.people.accounts.actions import add_session, digest_of_token, get_me
from millpond.people.accounts.tasks import Change
from millpond.people.passkeys import actions, ceremony, rules, store
from millpond.people.passkeys.requests import MadeCredential, SignedCredential
from millpond.people.passkeys.values import Passkey, Place
from millpond.people.tries import count_try, forgive_tries
from millpond.people.values import Device, NewToken
from millpond.storage.database import Transaction

_BYTES = 32


def begin_making(
    tx: Transaction, actor: Actor, name: str, place: Place, browser: str, address: str
) -> dict[str, Any]:
    """Give what the browser is asked to make a passkey.

    Args:
        tx: the transaction.
        actor: whose it becomes.
        name: what they call it.
        place: where it is to be good.
        browser: the secret of the browser that asks; no other may answer.
        address: where it asks from.
    """
    actions.refuse_another(tx, actor, name)
    challenge = _give_out(tx, browser, actor.user_id, address)
    taken = store.credentials_of(tx, actor.user_id, place.name)
    return ceremony.ask_to_make(place, get_me(tx, actor).user, challenge, taken)


def finish_making(
    change: Change, actor: Actor, name: str, place: Place, browser: str, sent: MadeCredential
) -> Passkey:
    """Keep the passkey that a browser has made.

    Raises:
        NotSignedInError: the answer does not hold.
    """
    challenge = _take_back(change, browser, sent, actor.user_id)
    made = ceremony.check_made(place, sent, challenge)
    return change(lambda tx: actions.add_passkey(tx, actor, name, place, made))


def begin_sign_in(tx: Transaction, place: Place, browser: str, address: str) -> dict[str, Any]:
    """Give what the browser is asked to sign in with a passkey."""
    return ceremony.ask_to_sign(place, _give_out(tx, browser, None, address))


def sign_in(
    change: Change, place: Place, browser: str, sent: SignedCredential, device: Device
) -> NewToken:
    """Give a session for what a passkey has signed.

    Raises:
        NotSignedInError: it does not hold, nobody has that passkey, or the account is disabled.
        TooManyError: too many wrong tries in the last quarter of an hour.
    """
    digest = digest_of_token(sent.id.rstrip("="))
    name = f"passkey {digest[:40]}"
    change(lambda tx: count_try(tx, name, device.address))
    challenge = _take_back(change, browser, sent, None)
    kept = change(lambda tx: store.find_passkey(tx, digest))
    if kept is None:
        raise _unknown()
    count = ceremony.check_signed(place, sent, challenge, kept)

    def settle(tx: Transaction) -> NewToken:
        user = account_store.find_user(tx, user_id=kept.user_id)
        if user is None or user.is_disabled:
            raise _unknown()
        if not store.mark_used(tx, kept, count, tx.now):
            raise ceremony.refused("It was used or removed at the same moment")
        forgive_tries(tx, name, device.address)
        return add_session(tx, user, "passkey", device)

    return change(settle)


def _give_out(tx: Transaction, browser: str, user_id: str | None, address: str) -> bytes:
    challenge = secrets.token_bytes(_BYTES)
    given = store.Challenge(digest_of_token(challenge.hex()), user_id)
    ends = tx.now + rules.CHALLENGE_LIFE
    opened = store.add_challenge(tx, digest_of_token(browser), given, address, ends)
    if opened > rules.CHALLENGES_PER_ADDRESS:
        raise TooManyError(
            "Too many passkeys are asked for from this address at once.",
            next_step="Try again in some minutes.",
            retry_after_seconds=rules.CHALLENGE_LIFE.total_seconds(),
        )
    return challenge


def _take_back(
    change: Change, browser: str, sent: MadeCredential | SignedCredential, user_id: str | None
) -> bytes:
    """Use the browser's challenge up, whether or not the answer holds; give what was answered."""
    given = change(lambda tx: store.use_challenge(tx, digest_of_token(browser)))
    challenge = ceremony.challenge_in(sent)
    is_ours = given == store.Challenge(digest_of_token(challenge.hex()), user_id)
    if not is_ours:
        raise NotSignedInError(
            "This answers a question that was not asked here, was answered, or is too old.",
            next_step="Begin again: it must be done within five minutes, in one browser.",
        )
    return challenge


def _unknown() -> NotSignedInError:
    return NotSignedInError(
        "Nobody here has this passkey any more, or the account is disabled.",
        next_step="Sign in another way; you can add a passkey in your profile.",
    )
