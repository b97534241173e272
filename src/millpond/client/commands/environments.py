"""Commands for environments."""

import sys
from pathlib import Path

import click

from millpond.client.call import Call, shared
from millpond.client.exits import FailedError
from millpond.client.screen import Column, harmless
from millpond.environments.values import EnvironmentVersion

_PACKAGES_SHOWN = 200


@click.group()
def env() -> None:
    """Make, list and show environments: packages locked by hash, built once, never changed."""


@env.command("make")
@click.argument("name")
@click.option(
    "--requirements", "-r", "source", type=click.Path(path_type=Path), required=True,
    help="A requirements file; - reads standard input.",
)  # fmt: skip
@click.option("--upgrade", is_flag=True, help="Lock today's packages, even for the same file.")
@click.option(
    "--build-from-source", "names", multiple=True, metavar="PACKAGE",
    help="Build PACKAGE from source, in the sandbox; may be given again.",
)  # fmt: skip
@click.option("--wait/--no-wait", default=True, help="Follow the build; the default.")
@shared
def make_environment(
    call: Call, name: str, source: Path, upgrade: bool, names: tuple[str, ...], wait: bool
) -> None:
    """Lock and build the environment NAME from a requirements file."""
    text = sys.stdin.read() if str(source) == "-" else source.read_text()
    with call.client() as client:
        version = client.environments.make(name, text, upgrade=upgrade, build_from_source=names)
        if wait and version.state not in ("ready", "failed"):
            call.tell(f"Building {version.address}; Ctrl-C leaves it to the server.")
            version = client.environments.wait(version.address, lambda text: _tell(call, text))
    _check(version)
    how = " already" if version.unchanged else ""
    call.say(
        f"{version.address} is {version.state}{how}: {len(version.packages)} packages.", version
    )


@env.command("list")
@shared
def list_environments(call: Call) -> None:
    """List the project's environments."""
    with call.client() as client:
        found = client.environments.list()
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("NEWEST", lambda one: one.newest),
        ("STATE", lambda one: one.state),
        ("MADE", lambda one: one.created_at),
        ("BY", lambda one: one.created_by),
    ]
    call.show_list(
        found, columns, "There are no environments yet: millpond env make NAME -r requirements.txt."
    )


@env.command("show")
@click.argument("address")
@click.option("--versions", is_flag=True, help="List all versions of NAME instead.")
@shared
def show_environment(call: Call, address: str, versions: bool) -> None:
    """Show the version at ADDRESS (NAME or NAME@N) with its packages."""
    with call.client() as client:
        if versions:
            found = client.environments.versions(address)
            columns: list[Column] = [
                ("VERSION", lambda one: one.address),
                ("STATE", lambda one: one.state),
                ("PACKAGES", lambda one: len(one.packages)),
                ("MADE", lambda one: one.created_at),
                ("BY", lambda one: one.created_by),
                ("LOCK", lambda one: one.lock_digest[:12] or "-"),
            ]
            call.show_list(found, columns, "It has no version.")
            return
        version = client.environments.version(address)
    call.show(version, _facts(version))


@env.command("log")
@click.argument("address")
@click.option("--follow", "-f", is_flag=True, help="Go on until the build ends.")
@shared
def show_log(call: Call, address: str, follow: bool) -> None:
    """Show the log of the build of the version at ADDRESS."""
    texts: list[str] = []
    with call.client() as client:
        if follow:
            version = client.environments.wait(
                address, texts.append if call.as_json else lambda text: _tell(call, text)
            )
        else:
            after = 0
            while (part := client.environments.log(address, after)).text:
                texts.append(part.text)
                after = part.next
            version = client.environments.version(address)
    if call.as_json:
        call.say("", {"log": "".join(texts), "state": version.state})
    else:
        click.echo(harmless("".join(texts), "\n\t"), nl=False)
    if follow:
        _check(version)


@env.command("lock")
@click.argument("address")
@shared
def show_lock(call: Call, address: str) -> None:
    """Print the lock of the version at ADDRESS: a requirements file with hashes."""
    with call.client() as client:
        text = client.environments.lock(address)
    call.say(text.rstrip("\n"), {"lock": text})


def _tell(call: Call, text: str) -> None:
    if not call.as_json:
        click.echo(harmless(text, "\n\t"), nl=False, err=True)


def _check(version: EnvironmentVersion) -> None:
    if version.state == "failed":
        raise FailedError(
            f"The build of {version.address} failed: {version.reason}",
            next_step=f"See `millpond env log {version.address}`, then mend the requirements.",
        )


def _facts(version: EnvironmentVersion) -> list[tuple[str, object]]:
    packages = [f"{one.name} {one.version}" for one in version.packages[:_PACKAGES_SHOWN]]
    return [
        ("version", version.address),
        ("state", version.state),
        ("reason", version.reason),
        ("python", version.python_version),
        ("made", version.created_at),
        ("by", version.created_by),
        ("lock", version.lock_digest),
        ("from source", ", ".join(version.build_from_source)),
        ("packages", packages),
    ]
