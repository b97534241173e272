"""Commands for the server itself."""

import click

from millpond.client.call import Call, shared
from millpond.client.commands.doctor import write_finding
from millpond.client.decoding import decode
from millpond.client.screen import Column
from millpond.ground.findings import Finding


@click.group()
def system() -> None:
    """See how the server is set and how it is; for administrators."""


@system.command("settings")
@click.option("--changed", is_flag=True, help="Only those that are not the default.")
@shared
def show_settings(call: Call, changed: bool) -> None:
    """Show every setting, secrets masked, with where its value comes from."""
    with call.client() as client:
        found = client.system.settings()
    rows = [one for one in found["settings"] if not changed or one["origin"] != "default"]
    columns: list[Column] = [
        ("SETTING", lambda one: one["key"]),
        ("VALUE", lambda one: one["value"] if one["value"] != "" else "-"),
        ("FROM", lambda one: one["origin"]),
        ("VARIABLE", lambda one: one["variable"]),
    ]
    call.show_list(rows, columns, "Every setting is the default.")
    call.tell(f"Change them in {found['file']}, or by the variable, and start the server again.")


@system.command("health")
@shared
def show_health(call: Call) -> int:
    """Have the server look at its database, objects, disk, sandbox and queue."""
    with call.client() as client:
        found = client.system.findings()
    if call.as_json:
        call.say("", found)
    else:
        for one in found["findings"]:
            write_finding(decode(Finding, one))
    return 1 if found["status"] == "fault" else 0


@system.command("authority")
@shared
def show_authority(call: Call) -> None:
    """Show the server's own authority: what others compare before they sign in to it.

    Its certificate goes to standard output, to be given to browsers and other programs.
    """
    with call.client() as client:
        found, url = client.system.authority(), client.url
    call.tell(f"SHA-256 {found.fingerprint}")
    if url.startswith("https:"):
        call.tell(f"Others sign in with: millpond login {url} --fingerprint {found.fingerprint}")
    call.say(found.certificate.strip(), found)
