"""Tries to sign in: each counts as wrong until it has proved right."""

from millpond.ground.errors import TooManyError
from millpond.people import rules
from millpond.people.accounts import store
from millpond.storage.database import Transaction


def count_try(tx: Transaction, name: str, address: str) -> None:
    """Count a try as wrong before it is looked at, so that many at once cannot slip through.

    Raises:
        TooManyError: there were too many in the last quarter of an hour.
    """
    if rules.are_too_many(store.count_faults(tx, name, address)):
        raise TooManyError(
            "Too many wrong tries in the last quarter of an hour.",
            next_step="Wait some minutes, then try again.",
            retry_after_seconds=rules.SIGN_IN_WINDOW.total_seconds() / 3,
        )
    store.add_fault(tx, name, address)


def forgive_tries(tx: Transaction, name: str, address: str) -> None:
    """Forget the tries with this name from this address, since one was right."""
    store.forgive(tx, name, address)
