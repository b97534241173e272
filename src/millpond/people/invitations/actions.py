"""What can be done with invitations: make, list, withdraw, accept."""

from datetime import timedelta

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, MillpondError, NotAllowedError, NotFoundError
from millpond.ground.ids import new_id, new_secret
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people import rules
from millpond.people import store as people_store
from millpond.people.accounts import actions as accounts
from millpond.people.accounts import store as account_store
from millpond.people.actions import open_project, require
from millpond.people.invitations import store
from millpond.people.invitations.values import Invitation, NewInvitation, SignUpState
from millpond.people.values import Device, NewToken
from millpond.storage.database import Transaction

OPEN, CLOSED = "open", "closed"
"""Policies: anybody makes themselves an account, or nobody does. Between them: who is invited."""


def invite(
    tx: Transaction, actor: Actor, url: str, *, email: str | None = None, days: int = 7
) -> NewInvitation:
    """Invite somebody to make an account; administrators do.

    Args:
        tx: the transaction.
        actor: who invites.
        url: this server's address, for the link.
        email: their address for mail, if it is known.
        days: for how long the invitation is good.
    """
    require(tx, actor, "user.write")
    return _make(tx, actor, url, None, "", email, days)


def invite_into(
    tx: Transaction,
    actor: Actor,
    project: str,
    role: str,
    url: str,
    *,
    email: str | None = None,
    days: int = 7,
) -> NewInvitation:
    """Invite somebody into a project, with an account that they make or have."""
    found = open_project(tx, actor, project, "member.write")
    return _make(tx, actor, url, found.id, role, email, days)


def _make(
    tx: Transaction,
    actor: Actor,
    url: str,
    project_id: str | None,
    role: str,
    email: str | None,
    days: int,
) -> NewInvitation:
    rules.refuse("The invitation", rules.faults_of_email(email))
    code = new_secret("mpi")
    values = {
        "id": new_id("invitation"),
        "digest": accounts.digest_of_token(code),
        "project_id": project_id,
        "role": role,
        "email": email,
        "made_by": actor.user_id,
        "made_at": tx.now,
        "expires_at": tx.now + timedelta(days=days),
    }
    made = store.add(tx, values)
    note(
        tx, actor, "invitation.made", f"invitation/{made.id}", project_id=project_id,
        after={"role": role, "email": email, "expires_at": made.expires_at.isoformat()},
    )  # fmt: skip
    return NewInvitation(code, f"{url}/sign-up?invitation={code}", made)


def list_invitations(
    tx: Transaction, actor: Actor, project: str = "", *, cursor: str | None, limit: int
) -> Page[Invitation]:
    """Give invitations that are still good, the newest first: of a project, or all."""
    project_id = None
    if project:
        project_id = open_project(tx, actor, project, "member.write").id
    else:
        require(tx, actor, "user.read")
    key = decode_cursor(cursor, str)
    before = str(key[0]) if key else ""
    found = store.list_open(tx, project_id, before=before, limit=limit + 1)
    return make_page(found, limit, lambda one: [one.id])


def withdraw(tx: Transaction, actor: Actor, invitation_id: str, project: str = "") -> None:
    """Withdraw an invitation: one of a project, or any as an administrator."""
    project_id = None
    if project:
        project_id = open_project(tx, actor, project, "member.write").id
    else:
        require(tx, actor, "user.write")
    if not store.withdraw(tx, invitation_id, project_id):
        raise NotFoundError(
            f"There is no invitation {invitation_id!r} that is still good.",
            next_step="List them with `millpond invitation list`.",
            invitation=invitation_id,
        )
    note(tx, actor, "invitation.withdrawn", f"invitation/{invitation_id}", project_id=project_id)


# Accepting -------------------------------------------------------------------------------------


def look(tx: Transaction, policy: str, code: str = "") -> SignUpState:
    """Tell who may make an account, and what an invitation is for."""
    found = _find(tx, code) if code and policy != CLOSED else None
    return SignUpState(policy, None if found is None else found.invitation)


def check_sign_up(tx: Transaction, policy: str, code: str | None) -> store.FoundInvitation | None:
    """Refuse whoever may not make themselves an account; give the invitation, if they need one.

    Raises:
        NotAllowedError: nobody may, or only the invited.
        NotFoundError: the code is good no more.
    """
    if policy == CLOSED:
        raise NotAllowedError(
            "Nobody can make themselves an account here.",
            next_step="Ask an administrator to make one for you.",
        )
    if code:
        return _good(tx, code)
    if policy != OPEN:
        raise NotAllowedError(
            "An account needs an invitation here.",
            next_step="Ask an administrator, or the owner of the project that you want to join,"
            " to invite you.",
        )
    return None


def sign_up(
    tx: Transaction,
    policy: str,
    code: str | None,
    name: str,
    password_hash: str,
    email: str | None,
    device: Device,
) -> NewToken:
    """Make an account for whoever may, and with it the membership that the invitation gives."""
    found = check_sign_up(tx, policy, code)
    kept = email or (found.invitation.email if found else None)
    user = accounts.add_user(tx, SYSTEM, name, email=kept, password_hash=password_hash)
    if found is not None:
        _use(tx, Actor(user.id, user.name, is_admin=False), found)
    return accounts.add_session(tx, user, "sign-up", device)


def accept(tx: Transaction, actor: Actor, code: str) -> Invitation:
    """Join the project of an invitation with the account that one has.

    Raises:
        NotFoundError: the invitation is good no more.
        ConflictError: it leads into no project, or one is a member already.
    """
    require(tx, actor, "project.create")
    found = _good(tx, code)
    if found.project_id is None:
        raise ConflictError(
            "This invitation is for somebody who has no account yet.",
            next_step="Sign out first to make another account with it.",
        )
    _use(tx, actor, found)
    return found.invitation


def _good(tx: Transaction, code: str) -> store.FoundInvitation:
    found = _find(tx, code)
    if found is None:
        raise NotFoundError(
            "This invitation is wrong, used, withdrawn or too old.",
            next_step="Ask whoever sent it for a new one.",
        )
    return found


def _find(tx: Transaction, code: str) -> store.FoundInvitation | None:
    """Find a good invitation whose maker may still make such."""
    found = store.find_open(tx, accounts.digest_of_token(code.strip()))
    if found is None:
        return None
    maker = account_store.find_user(tx, user_id=found.made_by)
    if maker is None or maker.is_disabled:
        return None
    actor = Actor(maker.id, maker.name, maker.is_admin)
    try:
        if found.project_id is None:
            require(tx, actor, "user.write")
        else:
            require(tx, actor, "member.write", found.project_id)
    except MillpondError:
        return None
    return found


def _use(tx: Transaction, actor: Actor, found: store.FoundInvitation) -> None:
    project_id, role = found.project_id, found.invitation.role
    if not store.use(tx, found.invitation.id, actor.user_id):
        raise NotFoundError(
            "This invitation was used a moment ago.", next_step="Ask for a new one."
        )
    target = f"invitation/{found.invitation.id}"
    note(tx, actor, "invitation.accepted", target, project_id=project_id)
    if project_id is None:
        return
    people_store.lock_project(tx, project_id)
    if people_store.role_of(tx, project_id, actor.user_id) is not None:
        raise ConflictError(
            f"You are a member of {found.invitation.project!r} already.",
            next_step="Open the project; its owner can change your role.",
        )
    people_store.set_role(tx, project_id, actor.user_id, role)
    note(tx, actor, "member.added", f"member/{actor.name}", project_id=project_id, after=role)
