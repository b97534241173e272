"""Commands for nodes: look, add, join, drain, remove, mend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from millpond.client.call import FOLDER, Call, shared, yes_option
from millpond.client.commands.doctor import write_finding
from millpond.client.commands.node_texts import disk_text, memory_text, sandbox_text, text_of_task
from millpond.client.commands.node_work import follow, follow_all
from millpond.client.joining import Wanted, join_here, start_command
from millpond.client.screen import Column, shown, size_text
from millpond.ground.errors import InvalidError
from millpond.machines.files import DEFAULT_FOLDER
from millpond.machines.values import (
    DATA_PORT,
    WORKER_PORT,
    NodeDetails,
)

F = TypeVar("F", bound=Callable[..., Any])
_PORT = click.IntRange(1, 65535)
_HOW_TO_JOIN = (
    "Copy the whole command that `millpond node token` shows on the host, or pipe its token in."
)
_name = click.argument("name")
_label = click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Repeatable.")


class _Group(click.Group):
    """Takes ``ls`` for ``list``, as many fingers do."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)


@click.group(cls=_Group)
def node() -> None:
    """The machines that run tasks: add, look after and remove them; for administrators."""


@node.command("list")
@click.option("--all", "with_removed", is_flag=True, help="Those that were removed, too.")
@shared
def list_nodes(call: Call, with_removed: bool) -> None:
    """List the nodes by name."""
    with call.client() as client:
        found = client.nodes.list(removed=with_removed)
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("STATE", lambda one: one.state),
        ("SLOTS", lambda one: f"{one.slots_used:g} of {one.slots:g}"),
        ("LOAD", lambda one: f"{one.meters.load_per_core:.2f}" if one.meters else "-"),
        ("MEMORY", memory_text),
        ("DISK FREE", disk_text),
        ("VERSION", lambda one: one.version),
        ("SEEN", lambda one: one.seen_at),
        ("HELD BACK", lambda one: one.refused or one.paused or "-"),
    ]
    nothing = (
        "There are no nodes yet. Add a machine with `millpond node add USER@HOST`, or let one join"
        " by itself: `millpond node token`."
    )
    call.show_list(found, columns, nothing)


@node.command("show")
@_name
@shared
def show_node(call: Call, name: str) -> None:
    """Show the node NAME, its certificates and what happened to it."""
    with call.client() as client:
        found = client.nodes.get(name)
    call.show(found, _facts(found))
    for event in reversed(found.events[:10]):
        call.report(f"{shown(event.at)}  {event.kind.ljust(10)}  {event.text}")


def _facts(found: NodeDetails) -> list[tuple[str, object]]:
    one = found.node
    return [
        ("name", one.name),
        ("state", one.state),
        ("held back", one.paused),
        ("refused", one.refused),
        ("address", one.address),
        ("version", one.version),
        ("slots", f"{one.slots_used:g} of {one.slots:g} taken, at most {one.slots_most or 'any'}"),
        ("memory", memory_text(one)),
        ("GPUs", f"{one.gpus} of {one.facts.gpus}" if one.facts.gpus else None),
        ("load per core", f"{one.meters.load_per_core:.2f}" if one.meters else None),
        ("data disk", one.facts.data_disk),
        ("free on it", size_text(one.store.free_bytes) if one.store else None),
        ("sandbox", sandbox_text(one)),
        ("system", f"{one.facts.system}, Python {one.facts.python}"),
        ("labels", ", ".join(f"{key}={value}" for key, value in one.labels.items())),
        ("price an hour", one.price_per_hour or None),
        ("tasks", [text_of_task(task) for task in found.tasks]),
        ("certificate", one.serial),
        ("good until", one.certificate_expires_at),
        ("host key", one.host_key),
        ("joined", one.joined_at),
        ("seen", one.seen_at),
        ("removed", one.removed_at),
    ]


@node.command("doctor")
@_name
@shared
def look_at_node(call: Call, name: str) -> int:
    """Say what is wrong with the node NAME, and how to mend it."""
    with call.client() as client:
        found = client.nodes.findings(name)
    if call.as_json:
        call.say("", found)
    else:
        for one in found.findings:
            write_finding(one)
    return 1 if found.status == "fault" else 0


@node.command("token")
@click.option("--name", default="", help="The one name that it is good for.")
@click.option("--slots", type=click.IntRange(0, 4096), default=0, help="At most so many slots.")
@_label
@shared
def make_token(call: Call, name: str, slots: int, labels: tuple[str, ...]) -> None:
    """Give leave to join one machine; the command to run there is shown this once.

    It is good once and for an hour.
    """
    with call.client() as client:
        made = client.nodes.make_token(name=name, slots_most=slots, labels=read_labels(labels))
    call.tell(f"Run this on the machine, as root; good once and until {shown(made.expires_at)}:")
    call.say(made.command, made)


@node.command("join")
@click.argument("address", metavar="URL")
@click.argument("token", required=False)
@click.option("--name", default="", help="What it shall be called; default: this machine's name.")
@click.option(
    "--folder", type=FOLDER, default=DEFAULT_FOLDER, show_default=True, help="Its own files."
)
@click.option("--data-disk", default="", help="Folder, on a disk of its own, for data.")
@click.option("--slots", type=click.IntRange(0, 4096), default=0, help="Default: one per core.")
@click.option("--address", "own", default="", help="By which others reach this machine.")
@click.option(
    "--data-port", type=_PORT, default=DATA_PORT, show_default=True, help="Serves data here."
)
@click.option(
    "--worker-port", type=_PORT, default=WORKER_PORT, show_default=True, help="Takes tasks here."
)
@click.option("--insecure", is_flag=True, help="Send the token over plain HTTP.")
@shared
def join(
    call: Call,
    address: str,
    token: str | None,
    name: str,
    folder: Path,
    data_disk: str,
    slots: int,
    own: str,
    data_port: int,
    worker_port: int,
    insecure: bool,
) -> None:
    """Make this machine a node of the server at URL, with a TOKEN from `millpond node token`.

    Without TOKEN, or with `-`, it comes from a prompt or from standard input. The machine's key is
    made here and stays here; the server is checked by the token's end before anything is sent.
    """
    is_given = token not in (None, "", "-")
    given = str(token) if is_given else call.read_secret("Join token", otherwise=_HOW_TO_JOIN)
    wanted = Wanted(
        url=address.rstrip("/"),
        token=given,
        folder=folder.absolute(),
        name=name,
        address=own,
        data_disk=data_disk,
        slots=slots,
        data_port=data_port,
        worker_port=worker_port,
        is_insecure=insecure,
    )
    made = join_here(wanted, call.tell)
    call.say(
        f"{made.name} has joined {made.url}. Start it:\n  {start_command(wanted.folder)}",
        {"name": made.name, "folder": str(wanted.folder), "installation": made.installation},
    )


@node.command("add")
@click.argument("targets", metavar="[USER@]HOST[:PORT]...", nargs=-1, required=True)
@click.option("--key", help="Private key to sign in with, a file on the host.")
@click.option("--port", type=_PORT, default=22, show_default=True, help="Of its SSH server.")
@click.option("--data-disk", default="", help="Folder there, on a disk of its own, for data.")
@click.option("--name", default="", help="What it shall be called; default: its host name.")
@click.option("--slots", type=click.IntRange(0, 4096), default=0, help="Default: one per core.")
@_label
@shared
def add_node(
    call: Call,
    targets: tuple[str, ...],
    key: str | None,
    port: int,
    data_disk: str,
    name: str,
    slots: int,
    labels: tuple[str, ...],
) -> None:
    """Make the machine HOST a node: the server reaches it by SSH, sets it up and joins it.

    Several are set up at the same time. Without --key the server signs in with its own key, whose
    public half `millpond node sources` shows. It may be repeated: what is there already stays.
    """
    if name and len(targets) > 1:
        raise InvalidError(
            "One name cannot be that of several machines.",
            next_step="Leave --name out, or add them one at a time.",
        )
    given: dict[str, Any] = {
        "key_file": str(Path(key).expanduser().absolute()) if key else "",
        "data_disk": data_disk,
        "name": name,
        "slots": slots,
        "labels": read_labels(labels),
    }
    with call.client() as client:
        started = []
        for target in targets:
            user, at, rest = target.rpartition("@")
            host, own_port = split_port(rest)
            where: dict[str, Any] = {"user": user if at else "root", "port": own_port or port}
            started.append(client.nodes.add(host, **where, **given))
        follow_all(call, client, started)


def split_port(text: str) -> tuple[str, int]:
    """Take a port off HOST:PORT or [ADDRESS]:PORT, as a list of machines has it; 0 for none."""
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if colon and port.isdigit() and (is_bracketed or ":" not in host):
        return host.removeprefix("[").removesuffix("]"), int(port)
    return text, 0


@node.command("upgrade")
@_name
@shared
def upgrade_node(call: Call, name: str) -> None:
    """Bring the node NAME the server's version; its tasks end first."""
    with call.client() as client:
        follow(call, client, client.nodes.upgrade(name))


@node.command("work")
@click.argument("work_id", metavar="ID")
@shared
def follow_work(call: Call, work_id: str) -> None:
    """Follow the work ID, which adds or upgrades a node, to its end."""
    with call.client() as client:
        started = client.nodes.work(work_id)
        follow(call, client, started)


@node.command("sources")
@shared
def list_sources(call: Call) -> None:
    """List the ways to get machines, and what a machine must know before it is added."""
    with call.client() as client:
        found = client.nodes.sources()
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("A MACHINE MUST KNOW", lambda one: one.introduction or "-"),
    ]
    call.show_list(found, columns, "This server has no way to machines of its own.")


@node.command("set")
@_name
@_label
@click.option("--no-labels", is_flag=True, help="Take all labels off.")
@click.option("--slots", type=click.IntRange(0, 4096), help="At most so many; 0: what it tells.")
@click.option("--gpus", type=click.IntRange(-1, 64), help="At most so many; -1: all it has.")
@click.option(
    "--price", type=click.FloatRange(0), metavar="AMOUNT", help="What an hour of it costs."
)
@shared
def set_node(
    call: Call,
    name: str,
    labels: tuple[str, ...],
    no_labels: bool,
    slots: int | None,
    gpus: int | None,
    price: float | None,
) -> None:
    """Change labels, slots, GPUs or price of the node NAME; labels replace the old."""
    wanted = {} if no_labels else read_labels(labels) or None
    if (wanted, slots, gpus, price) == (None, None, None, None):
        raise InvalidError(
            f"Nothing was named to change of {name}.",
            next_step="Name it: --label KEY=VALUE, --no-labels, --slots N, --gpus N or"
            " --price AMOUNT.",
        )
    with call.client() as client:
        found = client.nodes.set(
            name, labels=wanted, slots_most=slots, gpus_most=gpus, price_per_hour=price
        )
    call.say(f"{found.name} is changed.", found)


@node.command("drain")
@_name
@shared
def drain_node(call: Call, name: str) -> None:
    """Let the node NAME end what it has and take no more."""
    with call.client() as client:
        found = client.nodes.drain(name)
    left = len(found.running)
    call.say(f"{found.name} takes no more; {left} task{'s' if left != 1 else ''} left.", found)


@node.command("resume")
@_name
@shared
def resume_node(call: Call, name: str) -> None:
    """Let the node NAME, which drains, take tasks again."""
    with call.client() as client:
        found = client.nodes.resume(name)
    call.say(f"{found.name} takes tasks again.", found)


@node.command("remove")
@_name
@click.option("--force", is_flag=True, help="Also with tasks or the last copies of data on it.")
@yes_option
@shared
def remove_node(call: Call, name: str, force: bool, yes: bool) -> None:
    """Take the node NAME out of the cluster; its certificate is good for nothing any more."""
    call.confirm(f"Remove the node {name!r} for good?", yes=yes)
    with call.client() as client:
        found = client.nodes.remove(name, force=force)
    call.say(f"{found.name} is removed.", found)


@node.command("revoke")
@_name
@click.argument("serial", default="")
@click.option("--reason", required=True, help="Why, for the record.")
@yes_option
@shared
def revoke_certificates(call: Call, name: str, serial: str, reason: str, yes: bool) -> None:
    """Take no certificate of the node NAME any more, as when its key was stolen.

    All that are still good go together, since whoever held the key may have had others made.
    SERIAL may name one of them, so that no other node is meant.
    """
    call.confirm(f"Revoke all certificates of {name!r}? The node is cut off at once.", yes=yes)
    with call.client() as client:
        found = client.nodes.revoke(name, reason, serial=serial)
    serials = ", ".join(one.serial for one in found)
    said = f"{serials} {'is' if len(found) == 1 else 'are'} revoked."
    call.say(f"{said} To let it in again: `millpond node remove {name}`, then join it.", found)


def read_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``KEY=VALUE`` each.

    Raises:
        InvalidError: one is not made so.
    """
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidError(
                f"{text!r} is no label.", next_step="Write it as KEY=VALUE, such as room=cellar."
            )
        labels[key] = value
    return labels
