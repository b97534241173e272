"""Sign up: in moves, since a password is hashed outside of transactions."""

from millpond.people import rules
from millpond.people.accounts import actions as accounts
from millpond.people.accounts.tasks import Change
from millpond.people.invitations import actions
from millpond.people.passwords import Passwords
from millpond.people.tries import count_try
from millpond.people.values import Device, NewToken
from millpond.storage.database import Transaction

_ADDRESS_MOST = 64


def sign_up(
    change: Change,
    passwords: Passwords,
    policy: str,
    code: str | None,
    name: str,
    password: str,
    email: str | None,
    device: Device,
) -> NewToken:
    """Make oneself an account, and sign in.

    Raises:
        InvalidError: name, address or password are not good; an invitation stays good.
        NotAllowedError: one needs an invitation, or nobody can make themselves an account.
        NotFoundError: the invitation is good no more.
        ConflictError: the name is taken.
        TooManyError: very many tries from this address.
    """

    def begin(tx: Transaction) -> None:
        faults = rules.faults_of_name("name", name, accounts.USER_NAME_LENGTH)
        faults += rules.faults_of_email(email) + rules.faults_of_password(name, password)
        rules.refuse("The account", faults)
        # Counted apart from signing in: many may make their accounts from behind one address.
        count_try(tx, name[:_ADDRESS_MOST], f"sign-up {device.address}"[:_ADDRESS_MOST])

    change(begin)
    change(lambda tx: actions.check_sign_up(tx, policy, code))
    hashed = passwords.hash(password)
    return change(lambda tx: actions.sign_up(tx, policy, code, name, hashed, email, device))
