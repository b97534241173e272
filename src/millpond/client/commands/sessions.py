"""Commands for sessions: where one is signed in."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.screen import Column


@click.group()
def session() -> None:
    """List where you are signed in, and end what you do not know."""


@session.command("list")
@shared
def list_sessions(call: Call) -> None:
    """List where you are signed in, the newest first."""
    with call.client() as client:
        found = client.account.sessions()
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("DEVICE", lambda one: one.device),
        ("ADDRESS", lambda one: one.address),
        ("HOW", lambda one: one.how),
        ("SIGNED IN", lambda one: one.made_at),
        ("LAST SEEN", lambda one: one.last_used_at or one.made_at),
        ("THIS ONE", lambda one: one.is_current),
    ]
    call.show_list(found, columns, "You have no sessions.")


@session.command("end")
@click.argument("session_id", metavar="ID")
@yes_option
@shared
def end_session(call: Call, session_id: str, yes: bool) -> None:
    """End the session ID; whoever uses it has to sign in again."""
    call.confirm(f"End {session_id}?", yes=yes)
    with call.client() as client:
        client.tokens.revoke(session_id)
    call.say(f"{session_id} is ended.", {"ended": session_id})


@session.command("end-all")
@yes_option
@shared
def end_sessions(call: Call, yes: bool) -> None:
    """Sign out everywhere, here too; API tokens stay good."""
    call.confirm("Sign out everywhere, here too?", yes=yes)
    with call.client() as client:
        client.account.end_sessions()
    call.say("You are signed out everywhere.", {"ended": "all"})
