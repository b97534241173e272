"""What a node's process needs of its machine: its data disk, its ports, room for its cache."""

import errno
import logging
import os
import socket
from pathlib import Path

from millpond.ground.errors import ConflictError, MillpondError
from millpond.machines.files import NodeConfig, NodeFiles
from millpond.machines.rules import is_loopback
from millpond.storage.nodes.disk import NodeDisk
from millpond.storage.nodes.receipts import ReceiptSigner

_CACHE_BYTES, _CACHE_SHARE = 20 << 30, 0.25
_log = logging.getLogger("millpond.worker")


def open_disk(config: NodeConfig, files: NodeFiles) -> tuple[NodeDisk | None, str]:
    """Open the data disk; None, and why, when it is not there: the node computes all the same."""
    if not config.data_disk:
        return None, ""
    try:
        signer = ReceiptSigner(files.identity(), config.name)
        root = Path(config.data_disk) / "millpond"
        return NodeDisk(root, signer, remembered=files.folder / "disk.id"), ""
    except (OSError, MillpondError) as fault:
        reason = f"The data disk {config.data_disk} cannot be used: {fault}"
        _log.error("%s; the node goes on without it", reason)
        return None, reason


def cache_bytes(folder: Path) -> int:
    """Give how large the cache of objects may be: a part of its disk, within a bound."""
    facts = os.statvfs(folder)
    return min(_CACHE_BYTES, int(facts.f_blocks * facts.f_frsize * _CACHE_SHARE))


def listens_near(config: NodeConfig) -> bool:
    """Tell whether a node is for its own machine only: it listens nowhere else then."""
    address = config.address
    return is_loopback(f"//[{address}]" if ":" in address else f"//{address}")


def listen(config: NodeConfig, port: int, what: str, name: str) -> socket.socket:
    """Take a port on every network, or on loopback alone.

    Raises:
        ConflictError: another program has it.
    """
    try:
        host = config.address if listens_near(config) else ""
        return socket.create_server((host, port), backlog=512)
    except OSError as fault:
        if fault.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ConflictError(
            f"The port {port} of the node's {what} is taken: another program listens there.",
            next_step=f"Stop that program (`ss -ltnp 'sport = :{port}'` names it), or change"
            f" {name} in the node's node.json and start the node again.",
        ) from fault
