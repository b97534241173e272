"""The files of a node's own folder: who it is, whom it trusts, where the host is."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from millpond.ground.errors import ConflictError
from millpond.ground.tls import Identity
from millpond.machines.values import DATA_PORT, WORKER_PORT

DEFAULT_FOLDER = Path("/var/lib/millpond-node")


@dataclass(frozen=True)
class NodeConfig:
    """What a node knows since it has joined.

    Attributes:
        name: its name.
        installation: fingerprint of the authority of the installation that it belongs to.
        url: the server's address for people.
        host: name or address by which it reaches the host's scheduler and door.
        scheduler_port: of the scheduler there.
        door_port: of the door there.
        address: by which others reach it.
        data_port: of its own data route.
        worker_port: of its own worker.
        data_disk: folder of its objects; empty for none.
        slots: tasks at a time; 0: one per core.
        token_key: PEM of the public key by which it checks the server's permits for objects.
        heartbeat_seconds: how often it tells how it is.
        labels: words about it.
    """

    name: str
    installation: str
    url: str
    host: str
    scheduler_port: int
    door_port: int
    address: str
    data_port: int = DATA_PORT
    worker_port: int = WORKER_PORT
    data_disk: str = ""
    slots: int = 0
    token_key: str = ""
    heartbeat_seconds: float = 5.0
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "NodeConfig":
        """Read it back; what a newer version wrote beside is left out."""
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__ if name in facts})


class NodeFiles:
    """A node's folder. Only its own account may look into it."""

    def __init__(self, folder: Path) -> None:
        """Know where the files lie; nothing is read or made."""
        self.folder = folder
        self.key = folder / "node.key"
        self.certificate = folder / "node.crt"
        self.authority = folder / "authority.crt"
        self.config = folder / "node.json"

    def identity(self) -> Identity:
        """Give the node's certificate, its key, and the authority that it trusts."""
        return Identity(self.certificate, self.key, self.authority)

    def read(self) -> NodeConfig | None:
        """Read what the node knows; None when no machine has joined by this folder.

        Raises:
            ConflictError: the file is damaged, or this user may not read it.
        """
        try:
            return NodeConfig.from_json(json.loads(self.config.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as fault:
            raise ConflictError(
                f"{self.config} cannot be read: {fault}.",
                next_step="Run this as the user that the node runs as; if the file is damaged,"
                " remove the folder and join again.",
            ) from fault

    def write(self, config: NodeConfig, certificate: str, authority: str) -> None:
        """Write all but the key, the config last: with it the node is complete."""
        self.write_certificate(certificate, authority)
        self.write_config(config)

    def write_certificate(self, certificate: str, authority: str) -> None:
        """Write the certificate and the authority; also when it was renewed."""
        write_private(self.authority, authority.encode())
        write_private(self.certificate, certificate.encode())

    def write_config(self, config: NodeConfig) -> None:
        """Write what the node knows."""
        text = json.dumps(asdict(config), indent=2, sort_keys=True) + "\n"
        write_private(self.config, text.encode())


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
