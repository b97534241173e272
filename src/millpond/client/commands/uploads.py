"""Commands for uploads that are under way."""

import click

from millpond.client.call import Call, shared
from millpond.client.screen import Column, harmless, size_text


@click.group()
def upload() -> None:
    """Look after uploads that were interrupted; the portal goes on where they stand."""


@upload.command("list")
@click.option("--finished", is_flag=True, help="Those that are whole, instead of the others.")
@shared
def list_uploads(call: Call, finished: bool) -> None:
    """List your uploads in the project that are not finished."""
    with call.client() as client:
        found = client.uploads.list(finished=finished)
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("CAME", lambda one: size_text(one.received_bytes)),
        ("OF", lambda one: size_text(one.size_bytes)),
        ("LAST", lambda one: one.changed_at),
        ("KEPT UNTIL", lambda one: one.expires_at),
        ("PATH", lambda one: harmless(one.path)),
    ]
    call.show_list(found, columns, "Nothing is under way.")


@upload.command("show")
@click.argument("upload")
@shared
def show_upload(call: Call, upload: str) -> None:
    """Show the UPLOAD, with its digest once it is whole."""
    with call.client() as client:
        found = client.uploads.get(upload)
    facts: list[tuple[str, object]] = [
        ("id", found.id),
        ("path", harmless(found.path)),
        ("came", f"{size_text(found.received_bytes)} of {size_text(found.size_bytes)}"),
        ("digest", found.digest or "not whole yet"),
        ("kept until", found.expires_at),
    ]
    call.show(found, facts)


@upload.command("remove")
@click.argument("upload")
@shared
def remove_upload(call: Call, upload: str) -> None:
    """Give the UPLOAD up; what has come of it is deleted."""
    with call.client() as client:
        client.uploads.remove(upload)
    call.say(f"{upload} is removed.", {"removed": upload})
