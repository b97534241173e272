"""Take the port that only nodes come in by."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from socket import socket

from millpond.ground.errors import ConflictError
from millpond.ground.settings import Settings
from millpond.machines.rules import is_loopback
from millpond.web.serving import listen


@contextmanager
def listen_for_nodes(settings: Settings) -> Iterator[tuple[Settings, socket | None]]:
    """Take the door's port where there are nodes; give the settings with its number.

    Raises:
        ConflictError: another program has it, or the address is none of this machine's.
    """
    if settings.engine.kind == "local":
        yield settings, None
        return
    try:
        listening = listen(_host(settings), settings.cluster.door_port)
    except ConflictError as fault:
        raise ConflictError(
            f"The door for nodes cannot be opened. {fault.message}",
            next_step="Stop that program, or set another door_port or door_host in the table"
            " [cluster] of the settings before machines join.",
        ) from fault
    with listening:
        port = int(listening.getsockname()[1])
        yield replace(settings, cluster=replace(settings.cluster, door_port=port)), listening


def _host(settings: Settings) -> str:
    """Give where the door listens: everywhere, by mutual TLS, if nothing else was said."""
    cluster = settings.cluster
    if cluster.door_host:
        return cluster.door_host
    if is_loopback(f"//[{cluster.address}]" if ":" in cluster.address else f"//{cluster.address}"):
        return cluster.address
    return "::" if ":" in settings.server.host else "0.0.0.0"  # noqa: S104 - as above.
