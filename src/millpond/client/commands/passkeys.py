"""Commands for one's own passkeys."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.screen import Column


@click.group()
def passkey() -> None:
    """List and remove your passkeys; the portal makes them, at /profile/passkeys."""


@passkey.command("list")
@shared
def list_passkeys(call: Call) -> None:
    """List your passkeys."""
    with call.client() as client:
        found = client.passkeys.list()
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("NAME", lambda one: one.name),
        ("GOOD AT", lambda one: one.place),
        ("MADE", lambda one: one.made_at),
        ("LAST USED", lambda one: one.last_used_at),
    ]
    call.show_list(found, columns, "You have no passkeys.")


@passkey.command("remove")
@click.argument("passkey_id", metavar="ID")
@yes_option
@shared
def remove_passkey(call: Call, passkey_id: str, yes: bool) -> None:
    """Remove the passkey ID; nobody signs in with it any more."""
    call.confirm(f"Remove {passkey_id}?", yes=yes)
    with call.client() as client:
        client.passkeys.remove(passkey_id)
    call.say(f"{passkey_id} is removed.", {"removed": passkey_id})
