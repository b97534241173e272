"""Commands for datasets."""

from collections.abc import Callable
from pathlib import Path
from unicodedata import combining, normalize

import click

from millpond.client.call import EXISTING, Call, shared, yes_option
from millpond.client.screen import Column, harmless, size_text
from millpond.lake.previews.values import Preview
from millpond.lake.values import Dataset, DatasetVersion

_LEFT_OUT_SHOWN = 10


@click.group()
def dataset() -> None:
    """Push, list, show and download data; a version never changes."""


def name_from(source: Path) -> str:
    """Make a dataset's name of a file's or folder's name."""
    stem = normalize("NFKD", source.resolve().name.split(".")[0].lower()).replace("ß", "ss")
    letters = (c for c in stem if not combining(c))
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in letters)
    return kept.strip("-_")[:80] or "data"


@dataset.command("push")
@click.argument("source", type=EXISTING)
@click.option("--name", "-n", help="The dataset's name; else made of the source's name.")
@click.option(
    "--follow-links", is_flag=True, help="Follow symbolic links, which are else left out."
)
@click.option("--no-unpack", is_flag=True, help="Keep an archive as the file it is.")
@click.option("--table", is_flag=True, help="The files are the parts of one table.")
@click.option("--add", is_flag=True, help="Keep the newest version's other files.")
@shared
def push_dataset(
    call: Call,
    source: Path,
    name: str | None,
    follow_links: bool,
    no_unpack: bool,
    table: bool,
    add: bool,
) -> None:
    """Push SOURCE (a folder, a file, a zip or tar archive) as a new version of a dataset.

    Only what the project does not hold yet is sent; pushing the same again makes no version.
    """
    with call.client() as client, call.progress() as on_progress:
        pushed = client.datasets.push(
            source,
            name or name_from(source),
            follow_links=follow_links,
            unpack=not no_unpack,
            kind="table" if table else "files",
            add=add,
            on_progress=on_progress,
        )
    for path, reason in pushed.left_out[:_LEFT_OUT_SHOWN]:
        call.tell(f"left out: {path}: {reason}")
    if len(pushed.left_out) > _LEFT_OUT_SHOWN:
        call.tell(f"left out: {len(pushed.left_out) - _LEFT_OUT_SHOWN} more")
    version = pushed.version
    what = f"{version.file_count:,} files, {size_text(version.size_bytes)}"
    if version.unchanged:
        text = f"{version.address} holds exactly this already: {what}."
    else:
        text = f"{version.address}: {what}; sent {size_text(pushed.sent.size_bytes)}."
    call.say(text, pushed)


@dataset.command("list")
@click.option("--search", default="", help="Only those whose names hold this text.")
@shared
def list_datasets(call: Call, search: str) -> None:
    """List the project's datasets."""
    with call.client() as client:
        found = client.datasets.list(search=search)
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("NEWEST", lambda one: one.newest),
        ("KIND", lambda one: one.kind),
        ("FILES", lambda one: f"{one.file_count:,}"),
        ("SIZE", lambda one: size_text(one.size_bytes)),
        ("CHANGED", lambda one: one.changed_at),
        ("BY", lambda one: one.created_by),
    ]
    call.show_list(found, columns, "There are no datasets yet: millpond dataset push DIR.")


@dataset.command("show")
@click.argument("address")
@click.argument("path", required=False)
@shared
def show_dataset(call: Call, address: str, path: str | None) -> None:
    """Show the dataset at ADDRESS: NAME with its versions, or NAME@N, or the file PATH in it."""
    with call.client() as client:
        if path is not None:
            show_preview(call, client.datasets.preview(address, path))
            return
        if "@" in address:
            version = client.datasets.version(address)
            call.show(version, _version_facts(version))
            return
        found = client.datasets.get(address)
        versions = client.datasets.versions(address)
    call.show({"dataset": found, "versions": versions}, _dataset_facts(found))
    if not call.as_json:
        columns: list[Column] = [
            ("VERSION", lambda one: one.address),
            ("FILES", lambda one: f"{one.file_count:,}"),
            ("SIZE", lambda one: size_text(one.size_bytes)),
            ("MADE", lambda one: one.created_at),
            ("BY", lambda one: one.created_by),
            ("FROM", lambda one: one.origin),
            ("DIGEST", lambda one: one.digest[:12]),
        ]
        call.show_list(versions, columns, "It has no version.")


@dataset.command("files")
@click.argument("address")
@click.option("--most", type=click.IntRange(1), default=1000, show_default=True, help="At most.")
@click.option(
    "--in", "folder", help="List this folder alone, with the folders in it; . is the top."
)
@click.option("--search", default="", help="Only files whose paths hold this text.")
@shared
def list_files(call: Call, address: str, most: int, folder: str | None, search: str) -> None:
    """List the files of the version at ADDRESS."""
    if folder is not None or search:
        _list_folder(call, address, "" if folder in (None, ".") else str(folder), search, most)
        return
    with call.client() as client:
        found = list(client.datasets.files(address, most=most))
    columns: list[Column] = [
        ("SIZE", lambda one: size_text(one.size)),
        ("SHA256", lambda one: one.digest[:12]),
        ("PATH", lambda one: harmless(one.path)),
    ]
    call.show_list(found, columns, "It has no files.")
    if len(found) == most:
        call.tell(f"These are the first {most:,}; --most N shows more.")


def _list_folder(call: Call, address: str, folder: str, search: str, most: int) -> None:
    with call.client() as client:
        found = list(client.datasets.tree(address, folder, search=search, most=most))
    columns: list[Column] = [
        ("SIZE", lambda one: size_text(one.size_bytes)),
        ("FILES", lambda one: f"{one.file_count:,}" if one.is_folder else ""),
        ("SHA256", lambda one: (one.digest or "")[:12]),
        ("PATH", lambda one: harmless(one.path) + "/" * one.is_folder),
    ]
    call.show_list(found, columns, "Nothing is there.")
    if len(found) == most:
        call.tell(f"These are the first {most:,}; --most N shows more.")


@dataset.command("download")
@click.argument("address")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--zip", "as_zip", is_flag=True, help="TARGET is a zip file to write.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@shared
def download_dataset(call: Call, address: str, target: Path, as_zip: bool, overwrite: bool) -> None:
    """Bring the files of the version at ADDRESS into the folder TARGET."""
    with call.client() as client, call.progress() as on_progress:
        if as_zip:
            client.datasets.download_zip(address, target, overwrite=overwrite)
            size = target.stat().st_size
            call.say(f"{target}: {size_text(size)}.", {"file": target, "size": size})
            return
        paths = client.datasets.download(
            address, target, overwrite=overwrite, on_progress=on_progress
        )
    call.say(f"{len(paths):,} files in {target}.", {"folder": target, "files": len(paths)})


@dataset.command("delete")
@click.argument("name")
@yes_option
@shared
def delete_dataset(call: Call, name: str, yes: bool) -> None:
    """Hide the dataset NAME; its versions can't be used any more."""
    call.confirm(f"Hide the dataset {name!r} with all its versions?", yes=yes)
    with call.client() as client:
        client.datasets.delete(name)
    call.say(f"{name} is hidden.", {"deleted": name})


def _dataset_facts(found: Dataset) -> list[tuple[str, object]]:
    return [
        ("name", found.name),
        ("kind", found.kind),
        ("newest", found.newest),
        ("files", f"{found.file_count:,}"),
        ("size", size_text(found.size_bytes)),
        ("made", f"{found.created_at:%Y-%m-%d} by {found.created_by}"),
    ]


def _version_facts(version: DatasetVersion) -> list[tuple[str, object]]:
    return [
        ("version", version.address),
        ("kind", version.kind),
        ("files", f"{version.file_count:,}"),
        ("size", size_text(version.size_bytes)),
        ("made", version.created_at),
        ("by", version.created_by),
        ("from", version.origin),
        ("digest", version.digest),
    ]


def show_preview(call: Call, found: Preview) -> None:
    """Show the beginning of a file."""
    facts: list[tuple[str, object]] = [
        ("file", harmless(found.path)),
        ("size", size_text(found.size_bytes)),
        ("kind", found.media_type or found.kind),
    ]
    if found.encoding:
        facts.append(("encoding", found.encoding))
    if found.note:
        facts.append(("note", harmless(found.note)))
    call.show(found, facts)
    if call.as_json:
        return
    if found.kind == "table":
        columns: list[Column] = [
            (f"{harmless(column.name)} ({harmless(column.kind)})", _cell_at(place))
            for place, column in enumerate(found.columns)
        ]
        call.show_list(found.rows, columns, "It has no rows.")
        count = "" if found.row_count is None else f" of {found.row_count:,}"
        call.tell(
            f"{len(found.rows)} rows{count}, {len(found.columns)} of {found.column_count} columns."
        )
    elif found.kind == "text":
        for line in found.text.splitlines():
            click.echo(harmless(line))
        if found.is_cut:
            call.tell("This is the beginning; the download brings all.")


def _cell_at(place: int) -> Callable[[tuple[str | None, ...]], str]:
    return lambda row: harmless(row[place] or "")
