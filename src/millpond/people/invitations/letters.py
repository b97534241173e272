"""The letter that brings an invitation, where mail is set and the address is known."""

from millpond.people.invitations.values import NewInvitation
from millpond.people.letters import Letter, Post
from millpond.storage.database import Transaction


def sent(tx: Transaction, made: NewInvitation, post: Post | None) -> NewInvitation:
    """Send an invitation to its address when this transaction commits; give it back."""
    one = made.invitation
    if post is not None and one.email:
        place = f"into the project {one.project} " if one.project else ""
        text = (
            f"{one.made_by} invites you {place}on Millpond.\n\n"
            "Open this page to make your account, or to join with the one you have:\n\n"
            f"{made.link}\n\n"
            f"It works once, until {one.expires_at:%Y-%m-%d %H:%M} UTC."
            " Whoever has the link can use it, so pass it on to nobody.\n"
        )
        post(tx, Letter(one.email, "An invitation to Millpond", text))
    return made
