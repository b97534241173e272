"""Commands for invitations, and for making oneself an account."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.client import Client
from millpond.client.commands.people import read_line
from millpond.client.commands.trusting import fingerprint_option, meet
from millpond.client.invitations import InvitationsRoom
from millpond.client.screen import Column

_ROLES = click.Choice(["viewer", "editor", "owner"])
_into = click.option(
    "--role", type=_ROLES, help="Into the project that you work in, and as what they join it."
)


@click.group()
def invitation() -> None:
    """Invite people: they make their own account with a link, good once."""


@invitation.command("make")
@_into
@click.option("--email", help="Their mail address, which their account begins with.")
@click.option(
    "--days",
    type=click.IntRange(1, 90),
    default=7,
    show_default=True,
    help="For how many days it is good.",
)
@shared
def make_invitation(call: Call, role: str | None, email: str | None, days: int) -> None:
    """Make an invitation; its link is shown this once, on standard output.

    With --role it leads into a project, and its owners make it; without, administrators do.
    """
    with call.client() as client:
        if role is None:
            made = client.invitations.make(email=email, days=days)
        else:
            made = client.invitations.make_into(role, email=email, days=days)
    until = f"{made.invitation.expires_at:%Y-%m-%d}"
    call.tell(f"{made.invitation.id}, good once and until {until}; it is shown once:")
    call.say(made.link, made)


@invitation.command("list")
@click.option("--all", "is_all", is_flag=True, help="All of the site's; for administrators.")
@shared
def list_invitations(call: Call, is_all: bool) -> None:
    """List a project's invitations that are still good, the newest first."""
    with call.client() as client:
        found = client.invitations.list() if is_all else client.invitations.list_into()
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("PROJECT", lambda one: one.project),
        ("ROLE", lambda one: one.role),
        ("EMAIL", lambda one: one.email),
        ("BY", lambda one: one.made_by),
        ("GOOD UNTIL", lambda one: one.expires_at),
    ]
    call.show_list(found, columns, "No invitation waits.")


@invitation.command("withdraw")
@click.argument("invitation_id", metavar="ID")
@click.option("--all", "is_any", is_flag=True, help="Any of the site's; for administrators.")
@yes_option
@shared
def withdraw_invitation(call: Call, invitation_id: str, is_any: bool, yes: bool) -> None:
    """Withdraw the invitation ID; its link lets nobody in any more."""
    call.confirm(f"Withdraw {invitation_id}?", yes=yes)
    with call.client() as client:
        if is_any:
            client.invitations.withdraw(invitation_id)
        else:
            client.invitations.withdraw_into(invitation_id)
    call.say(f"{invitation_id} is good no more.", {"withdrawn": invitation_id})


@invitation.command("accept")
@shared
def accept_invitation(call: Call) -> None:
    """Join the project of an invitation with the account that you have.

    The code, the end of the link, comes from a prompt or from standard input.
    """
    code = _code_of(read_line("Code or link", hidden=True))
    with call.client() as client:
        found = client.invitations.accept(code)
    call.say(f"You are a member of {found.project}: {found.role}.", found)


@click.command("sign-up")
@click.argument("address", metavar="URL")
@click.argument("name")
@click.option("--email", help="Your mail address.")
@click.option("--invited", is_flag=True, help="With an invitation, whose code is asked for first.")
@fingerprint_option
@shared
def sign_up(
    call: Call,
    address: str,
    name: str,
    email: str | None,
    invited: bool,
    fingerprint: str | None,
) -> None:
    """Make yourself the account NAME on the server at URL, and sign in to it.

    The code and the password come from a prompt or, one a line, from standard input.
    """
    transport = meet(call, address, fingerprint)
    try:
        code = _code_of(read_line("Code or link", hidden=True)) if invited else None
        password = call.read_secret("Password", twice=True)
        text = InvitationsRoom(transport).sign_up(name, password, email=email, code=code).text
    finally:
        transport.close()
    with Client(address, text) as client:
        me = client.account.me()
    call.change_config(url=address.rstrip("/"), token=text)
    call.say(f"{address}: signed in as {me.user.name}.", me)


def _code_of(text: str) -> str:
    return text.strip().rpartition("=")[2]
