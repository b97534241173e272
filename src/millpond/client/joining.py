"""Join this machine to a cluster: its key never leaves it, and nobody is told before it is known.

The token's end is the beginning of the fingerprint of the installation's authority. The authority
is fetched and compared before the secret is sent; what the server signs is checked against it.
"""

import os
import platform
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from cryptography import x509

from millpond.client.nodes import NodesRoom
from millpond.client.transport import Transport, ask_authority
from millpond.client.trust import Trust, UntrustedError, check_fingerprint
from millpond.ground.errors import ConflictError, InvalidError
from millpond.ground.versions import code_version
from millpond.machines.authority import fingerprint_of, make_key, make_request
from millpond.machines.files import NodeConfig, NodeFiles
from millpond.machines.values import DATA_PORT, TOKEN_PREFIX, WORKER_PORT, Joined, NodeFacts

_END = 16
_RESERVE = 0.1
"""The share of the memory that is left to the system and the worker itself."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What somebody wants of the node that this machine becomes.

    Attributes:
        url: the server's address.
        token: leave to join.
        folder: where the node's own files go.
        name: empty: this machine's.
        address: by which others reach it; empty: the one that reaches the server.
        data_disk: folder of objects, on a disk of its own; empty for none.
        slots: tasks at a time; 0: one per core.
        data_port: of its data route.
        worker_port: of its worker.
        is_insecure: whether the token may go over a network in plain HTTP.
    """

    url: str
    token: str
    folder: Path
    name: str = ""
    address: str = ""
    data_disk: str = ""
    slots: int = 0
    data_port: int = DATA_PORT
    worker_port: int = WORKER_PORT
    is_insecure: bool = False


def join_here(wanted: Wanted, tell: Tell) -> NodeConfig:
    """Join this machine, and write the node's files.

    A refusal leaves nothing but a key, which the next try uses.

    Raises:
        InvalidError: the token is none, or the address is not good.
        ConflictError: this machine is a node already, of this or another installation, or a port
            is taken.
        UntrustedError: the server is not the one that the token is of; nothing was sent to it.
        NotAllowedError: the token is wrong, used or too old.
    """
    end = _end_of(wanted.token)
    files = NodeFiles(wanted.folder)
    authority = _meet(wanted, end)
    installation = fingerprint_of(authority.pem.encode())
    _check_here(files, installation, wanted)
    key = make_key(files.key)
    facts = look_here(wanted)
    name = wanted.name or socket.gethostname().partition(".")[0].lower().replace("_", "-")
    tell(f"Joining {wanted.url} as {name}, with {facts.slots:g} slots.")
    joined = _send(wanted, authority, name, make_request(key).decode(), facts)
    _check_answer(joined, authority, wanted.url)
    config = NodeConfig(
        name=joined.name,
        installation=installation,
        url=wanted.url,
        host=joined.address or urlsplit(wanted.url).hostname or "",
        scheduler_port=joined.scheduler_port,
        door_port=joined.door_port,
        address=facts.address,
        data_port=wanted.data_port,
        worker_port=wanted.worker_port,
        data_disk=wanted.data_disk,
        slots=wanted.slots,
        token_key=joined.token_key,
        heartbeat_seconds=joined.heartbeat_seconds,
    )
    files.write(config, joined.certificate, joined.authority)
    return config


def look_here(wanted: Wanted) -> NodeFacts:
    """Look what this machine has."""
    cores = float(len(os.sched_getaffinity(0)))
    return NodeFacts(
        slots=wanted.slots or cores,
        cores=cores,
        memory_bytes=int(psutil.virtual_memory().total * (1 - _RESERVE)),
        python=platform.python_version(),
        address=wanted.address or _address_towards(wanted.url),
        data_port=wanted.data_port,
        worker_port=wanted.worker_port,
        data_disk=wanted.data_disk,
        system=f"{platform.system()} {platform.release()}",
    )


def _end_of(token: str) -> str:
    """Give the beginning of the authority's fingerprint that stands at the end of a token."""
    secret, dot, end = token.strip().rpartition(".")
    is_hex = len(end) == _END and not set(end.upper()) - set("0123456789ABCDEF")
    if not (dot and is_hex and secret.startswith(f"{TOKEN_PREFIX}_")):
        raise InvalidError(
            "This is no join token.",
            next_step="Copy the whole command that `millpond node token` shows on the host.",
        )
    return end


def _meet(wanted: Wanted, end: str) -> Trust:
    """Fetch the authority, and make sure that the token is of this installation."""
    parts = urlsplit(wanted.url)
    is_near = (parts.hostname or "").startswith("127.") or parts.hostname in ("localhost", "::1")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidError(
            f"{wanted.url[:200]!r} is no address of a server.",
            next_step="Give it as `millpond node token` shows it, such as https://HOST:8787.",
        )
    if parts.scheme == "http" and not (is_near or wanted.is_insecure):
        raise UntrustedError(
            f"{wanted.url} speaks plain HTTP: the token could be read on the way.",
            next_step="Use its https:// address; or add --insecure where nobody can listen.",
        )
    return check_fingerprint(wanted.url, ask_authority(wanted.url), end)


def _check_here(files: NodeFiles, installation: str, wanted: Wanted) -> None:
    held = files.read()
    if held is not None and held.installation != installation:
        raise ConflictError(
            f"{files.folder} belongs to a node of another installation, {held.url}: this machine"
            f" is its node {held.name!r}.",
            next_step="Take it out there first (`millpond node remove`) and remove the folder; or"
            " give this one other places: --folder, --data-port and --worker-port.",
        )
    if held is not None:
        raise ConflictError(
            f"This machine is a node of {held.url} already, as {held.name!r}.",
            next_step=f"Start it: {start_command(files.folder)}. To join anew, remove it on the"
            f" host (`millpond node remove {held.name}`) and the folder {files.folder} here.",
        )
    disk = wanted.data_disk
    if disk and not (os.path.isabs(disk) and Path(disk).is_dir()):  # noqa: PTH117 - of a text.
        raise InvalidError(
            f"The folder of the data disk, {disk}, is not there, or is no whole path.",
            next_step="Mount the disk and make the folder first.",
        )
    ports = {"--data-port": wanted.data_port, "--worker-port": wanted.worker_port}
    for option, port in ports.items():
        if not _is_free(port):
            raise ConflictError(
                f"Port {port} of this machine is taken by another program.",
                next_step=f"Is it a node already? Else choose another with {option}.",
            )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _send(wanted: Wanted, authority: Trust, name: str, csr: str, facts: NodeFacts) -> Joined:
    fault: UntrustedError | None = None
    for trust in _trusts(wanted.url, authority):
        transport = Transport(wanted.url, trust=trust)
        try:
            room, now = NodesRoom(transport), datetime.now(UTC)
            said = {**asdict(facts)}
            return room.join(wanted.token.strip(), name, csr, code_version(), now, said)
        except UntrustedError as caught:
            fault = fault or caught
        finally:
            transport.close()
    assert fault is not None  # noqa: S101 - each trust either returned or was caught.
    raise fault


def _trusts(url: str, authority: Trust) -> Iterator[Trust | None]:
    """Give whom to trust: the authority, else those that this machine knows (a given one)."""
    if url.startswith("https:"):
        yield authority
    yield None


def _check_answer(joined: Joined, authority: Trust, url: str) -> None:
    """Make sure that what came back is of the authority that the token has named."""
    certificate = x509.load_pem_x509_certificate(joined.certificate.encode())
    try:
        signer = x509.load_pem_x509_certificate(authority.pem.encode())
        certificate.verify_directly_issued_by(signer)
        is_same = fingerprint_of(joined.authority.encode()) == fingerprint_of(
            authority.pem.encode()
        )
    except Exception as fault:
        raise _not_ours(url) from fault
    if not is_same:
        raise _not_ours(url)


def _not_ours(url: str) -> UntrustedError:
    return UntrustedError(
        f"{url} signed the certificate with another authority than the token names.",
        next_step="Somebody may stand in between; ask the administrator of the server.",
    )


def _address_towards(url: str) -> str:
    """Give the address of this machine on the way to the server; nothing is sent."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])
            return str(probe.getsockname()[0])
    except OSError as fault:
        raise InvalidError(
            f"{parts.hostname} cannot be reached from here: {fault}.",
            next_step="Check the address and the network.",
        ) from fault


def start_command(folder: Path) -> str:
    """Give the command that starts the node of a folder."""
    return f"python -m millpond.worker --folder {folder}"
