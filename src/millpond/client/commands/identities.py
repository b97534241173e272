"""Commands for one's own accounts at other places."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.screen import Column


@click.group()
def identity() -> None:
    """List and unlink accounts elsewhere; the portal links them, at /profile/identities."""


@identity.command("list")
@shared
def list_identities(call: Call) -> None:
    """List the accounts elsewhere by which you sign in."""
    with call.client() as client:
        found = client.identities.list()
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("ACCOUNT", lambda one: one.shown),
        ("AT", lambda one: one.provider),
        ("LINKED", lambda one: one.made_at),
        ("LAST USED", lambda one: one.last_used_at),
    ]
    call.show_list(found, columns, "No account is linked.")


@identity.command("unlink")
@click.argument("identity_id", metavar="ID")
@yes_option
@shared
def unlink_identity(call: Call, identity_id: str, yes: bool) -> None:
    """Unlink the account ID; nobody signs in with it any more."""
    call.confirm(f"Unlink {identity_id}?", yes=yes)
    with call.client() as client:
        client.identities.unlink(identity_id)
    call.say(f"{identity_id} is unlinked.", {"unlinked": identity_id})
