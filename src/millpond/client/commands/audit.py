"""Commands for the record."""

import json
import os
import tempfile
from datetime import datetime
from pathlib import Path

import click

from millpond.audit.proof import Verdict
from millpond.client.audit import SITE
from millpond.client.call import EXISTING, Call, shared, yes_option
from millpond.client.client import Client
from millpond.client.exits import NotGenuineError
from millpond.client.screen import Column, counted, to_json
from millpond.client.verifying import verify_file

_NEWEST = 50
site_option = click.option(
    "--site", is_flag=True, help="The site's record instead; administrators."
)
file_type = click.Path(dir_okay=False, path_type=Path)


@click.group()
def log() -> None:
    """Show, verify and export the record of every change, which nobody can quietly alter."""


@log.command("show")
@site_option
@click.option("--most", type=click.IntRange(1), default=_NEWEST, show_default=True, help="At most.")
@click.option("--verb", help="Only this verb; dataset.* for all of a noun.")
@click.option("--by", "actor", help="Only by the user of this name.")
@click.option("--target", help="Only what was done to this; may end in *.")
@click.option("--since", type=click.DateTime(), help="Not before this time, of this machine.")
@click.option("--until", type=click.DateTime(), help="Before this time, of this machine.")
@click.option("--text", help="Only where verb, target or name hold this.")
@shared
def show_log(
    call: Call,
    site: bool,
    most: int,
    verb: str | None,
    actor: str | None,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    text: str | None,
) -> None:
    """Show the newest entries, newest first."""
    with call.client() as client:
        found = client.log.list(
            verb=verb,
            actor=actor,
            target=target,
            since=since.astimezone() if since else None,
            until=until.astimezone() if until else None,
            text=text,
            project=SITE if site else None,
            most=most,
        )
    columns: list[Column] = [
        ("NO.", lambda one: one.number),
        ("WHEN", lambda one: one.at),
        ("WHO", lambda one: one.actor_name),
        ("WHAT", lambda one: one.verb),
        ("OF", lambda one: one.target),
        ("HASH", lambda one: one.hash[:12]),
    ]
    call.show_list(found, columns, "Nothing happened yet.")


@log.command("entry")
@click.argument("number", type=click.IntRange(1))
@site_option
@shared
def show_entry(call: Call, number: int, site: bool) -> None:
    """Show the entry NUMBER, its hashes, and the seal that covers it."""
    with call.client() as client:
        found = client.log.entry(number, project=SITE if site else None)
    one, seal = found.entry, found.seal
    sealed = "not yet" if seal is None else f"seal {seal.number} of {seal.at.isoformat()}"
    call.show(
        found,
        [
            ("number", f"{one.number} of {found.newest}"),
            ("when", one.at),
            ("who", one.actor_name),
            ("what", one.verb),
            ("of", one.target),
            ("request", one.request_id),
            ("hash before", one.previous_hash),
            ("hash", one.hash),
            ("is whole", found.is_whole),
            ("sealed", sealed),
            ("hash of", found.canonical),
        ],
    )


@log.command("proof")
@click.argument("number", type=click.IntRange(1))
@click.argument("file", type=file_type)
@site_option
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@shared
def write_proof(call: Call, number: int, file: Path, site: bool, overwrite: bool) -> None:
    """Write the proof of the entry NUMBER to FILE, which `log verify FILE --key KEY` checks."""
    with call.client() as client:
        client.log.proof(number, file, project=SITE if site else None, overwrite=overwrite)
    size = file.stat().st_size
    call.say(f"Wrote {os.fspath(file)}: {size:,} bytes.", {"file": file, "size": size})


@log.command("verify")
@click.argument("file", type=EXISTING, required=False)
@click.option("--key", type=EXISTING, help="The server's public keys, kept from `log key`.")
@click.option("--checkpoint", type=EXISTING, help="A checkpoint kept from `log checkpoint`.")
@site_option
@click.option(
    "--all", "is_all", is_flag=True, help="Every record one may read: the projects', the site's."
)
@shared
def verify_log(
    call: Call,
    file: Path | None,
    key: Path | None,
    checkpoint: Path | None,
    site: bool,
    is_all: bool,
) -> None:
    """Check an exported FILE, or the proof of one entry, here, with no server and no network.

    Without FILE it exports and checks the whole record of the project; with --all that of every
    project, and for an administrator all of the site's, each named with its verdict.

    The first entry that was changed, removed, reordered, truncated or added is named. Without
    --key the keys come from the server, so that then the server's word is part of the proof.
    """
    if is_all and (file is not None or site):
        raise click.UsageError("--all goes with neither FILE nor --site.")
    kept = checkpoint.read_text() if checkpoint else None
    if is_all:
        with call.client() as client:
            verify_all(call, client, key.read_text() if key else None, kept)
        return
    if file is not None and key is not None:
        verdict = verify_file(file, key.read_text(), kept)
    else:
        with call.client() as client:
            keys = key.read_text() if key else json.dumps(to_json(client.log.key()))
            if file is not None:
                verdict = verify_file(file, keys, kept)
            else:
                verdict = verify_online(client, keys, SITE if site else None, kept)
    if not verdict.is_ok:
        raise NotGenuineError(
            f"The log is {verdict_text(verdict)}",
            next_step="Compare with an older export and find out who could write to the server.",
            kind=verdict.kind,
            entry=verdict.entry,
            entries=verdict.entries,
            chain=verdict.chain,
            project=verdict.project,
        )
    call.say(f"The log is {verdict_text(verdict)}", verdict)


def verify_all(call: Call, client: Client, keys: str | None, checkpoint: str | None) -> None:
    """Check each record that the caller may read; name each with its verdict."""
    is_admin = client.account.me().user.is_admin
    keys = keys or json.dumps(to_json(client.log.key()))
    names = [one.name for one in client.projects.list(is_all=is_admin)]
    chains = ([("the site", SITE)] if is_admin else []) + [(f"project {n}", n) for n in names]
    found: dict[str, Verdict] = {}
    for shown, name in chains:
        found[shown] = verify_online(client, keys, name, checkpoint)
        call.report(f"The log of {shown} is {verdict_text(found[shown])}")
    bad = [shown for shown, verdict in found.items() if not verdict.is_ok]
    if bad:
        raise NotGenuineError(
            f"{counted(len(bad), 'log')} of {len(found):,} not genuine: {', '.join(bad)}.",
            next_step="Compare with older exports and find out who could write to the server.",
            logs={shown: to_json(verdict) for shown, verdict in found.items()},
        )
    call.say(
        f"All genuine: {counted(len(found), 'log')}.",
        {"is_ok": True, "logs": {shown: to_json(verdict) for shown, verdict in found.items()}},
    )


def verdict_text(verdict: Verdict) -> str:
    """Say what a check has found, after "The log is"."""
    if not verdict.is_ok:
        where = f" (entry {verdict.entry})" if verdict.entry is not None else ""
        return f"not genuine: {verdict.kind}{where}: {verdict.message}"
    counts = f"{counted(verdict.entries, 'entry')}, {counted(verdict.seals, 'seal')}"
    last = f", the last of {verdict.last_seal_at}" if verdict.last_seal_at else ""
    return f"genuine: {counts}{last}."


def verify_online(
    client: Client, keys: str, project: str | None = None, checkpoint: str | None = None
) -> Verdict:
    """Export the record to a temporary file and check it here."""
    with tempfile.TemporaryDirectory(prefix="millpond-log-") as folder:
        export = client.log.export(Path(folder) / "log", project=project)
        return verify_file(export, keys, checkpoint)


@log.command("export")
@click.argument("file", type=file_type)
@site_option
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@shared
def export_log(call: Call, file: Path, site: bool, overwrite: bool) -> None:
    """Write the whole record to FILE, which `log verify FILE --key KEY` checks anywhere."""
    with call.client() as client:
        client.log.export(file, project=SITE if site else None, overwrite=overwrite)
    size = file.stat().st_size
    call.say(f"Wrote {os.fspath(file)}: {size:,} bytes.", {"file": file, "size": size})


@log.command("key")
@click.argument("file", type=file_type, required=False)
@shared
def show_key(call: Call, file: Path | None) -> None:
    """Print the server's public keys, or write them to FILE; keep them away from the server."""
    with call.client() as client:
        keys = client.log.key()
    _give(call, keys, file)


@log.command("rotate-key")
@click.argument("file", type=file_type, required=False)
@yes_option
@shared
def rotate_key(call: Call, file: Path | None, yes: bool) -> None:
    """Seal the record with a new key from now on, and write all public keys to FILE if given.

    The old keys stay listed in `log key`, so that what they have sealed verifies as before. Hand
    the new list out to those who keep the keys, and put the new key file into the backup.
    """
    call.confirm("Seal the record with a new key from now on?", yes=yes)
    with call.client() as client:
        keys = client.log.rotate_key()
    if file is not None:
        file.write_text(json.dumps(to_json(keys), indent=2) + "\n")
    call.say(f"The record is sealed with the key {keys.keys[0].key_id} from now on.", keys)


@log.command("checkpoint")
@click.argument("file", type=file_type, required=False)
@shared
def show_checkpoint(call: Call, file: Path | None) -> None:
    """Print a sealed checkpoint, or write it to FILE; who keeps one sees a record cut off later."""
    with call.client() as client:
        found = client.log.checkpoint()
    _give(call, found, file)


def _give(call: Call, value: object, file: Path | None) -> None:
    text = json.dumps(to_json(value), indent=2)
    if file is None:
        click.echo(text)
        return
    file.write_text(text + "\n")
    call.say(f"Wrote {os.fspath(file)}.", {"file": file})
