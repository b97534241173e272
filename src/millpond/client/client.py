"""The SDK's door: one client, one attribute per noun."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from millpond.client.audit import LogRoom
from millpond.client.config import Config, config_path, read_config
from millpond.client.environments import EnvironmentsRoom
from millpond.client.identities import IdentitiesRoom
from millpond.client.invitations import InvitationsRoom
from millpond.client.jobs import JobsRoom
from millpond.client.lake import DatasetsRoom
from millpond.client.local import LocalSignIn, default_data_folder, find_servers
from millpond.client.monitor import MonitorRoom
from millpond.client.nodes import NodesRoom
from millpond.client.passkeys import PasskeysRoom
from millpond.client.people import (
    AccountRoom,
    MembersRoom,
    ProjectsRoom,
    SecretsRoom,
    TokensRoom,
    UsersRoom,
)
from millpond.client.pipelines import PipelinesRoom
from millpond.client.presets import PresetsRoom
from millpond.client.runs import RunsRoom
from millpond.client.system import SystemRoom
from millpond.client.transport import SignIn, Transport, fetch_authority
from millpond.client.trust import KnownServers, Trust, TrustIn, fingerprint_of, read_fingerprint
from millpond.client.uploads import UploadsRoom
from millpond.client.usage import UsageRoom
from millpond.ground.errors import NotSignedInError


class Client:
    """Millpond from Python.

    The address and the token come from the arguments, else from MILLPOND_URL and
    MILLPOND_TOKEN, else from what ``millpond login`` kept, else from a server that runs on this
    machine and whose key file this user may read.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8787``.
        token: an API token.
        project: the project to work in where a call names none.
        data_folder: data folder of a server that runs on this machine, to speak to that one.
        fingerprint: SHA-256 of the authority that must have signed the server's certificate;
            else MILLPOND_FINGERPRINT, else the authority that ``millpond login`` kept, else one
            that this machine knows.
        environ: environment variables; the process's when left out.

    Raises:
        NotSignedInError: no address was given and none was found.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        data_folder: Path | None = None,
        fingerprint: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Find the address; nothing is sent before the first call."""
        known = os.environ if environ is None else environ
        config = read_config(config_path(known))
        found = choose_server(config, known, url, token, data_folder)
        wanted = fingerprint or known.get("MILLPOND_FINGERPRINT")
        chosen = project or known.get("MILLPOND_PROJECT") or config.project or None
        self.transport = Transport(
            found.url, found.token, trust=_trust(found, wanted, KnownServers(known))
        )
        self.account = AccountRoom(self.transport)
        self.users = UsersRoom(self.transport)
        self.projects = ProjectsRoom(self.transport, chosen)
        self.members = MembersRoom(self.transport, chosen)
        self.invitations = InvitationsRoom(self.transport, chosen)
        self.tokens = TokensRoom(self.transport)
        self.passkeys = PasskeysRoom(self.transport)
        self.identities = IdentitiesRoom(self.transport)
        self.secrets = SecretsRoom(self.transport, chosen)
        self.datasets = DatasetsRoom(self.transport, chosen)
        self.uploads = UploadsRoom(self.transport, chosen)
        self.environments = EnvironmentsRoom(self.transport, chosen)
        self.pipelines = PipelinesRoom(self.transport, chosen)
        self.presets = PresetsRoom(self.transport, chosen)
        self.runs = RunsRoom(self.transport, chosen)
        self.log = LogRoom(self.transport, chosen)
        self.jobs = JobsRoom(self.transport)
        self.nodes = NodesRoom(self.transport)
        self.monitor = MonitorRoom(self.transport)
        self.usage = UsageRoom(self.transport, chosen)
        self.system = SystemRoom(self.transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.transport.url

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Chosen:
    """A server that was chosen.

    Attributes:
        url: its address.
        token: an API token, or a way to sign in.
        trust: what its data folder on this machine says; None for any other server.
    """

    url: str
    token: str | SignIn | None = field(default=None, repr=False)
    trust: Trust | None = None


def choose_server(
    config: Config,
    environ: Mapping[str, str],
    url: str | None = None,
    token: str | None = None,
    data_folder: Path | None = None,
) -> Chosen:
    """Choose address and token: what was given, the environment, the sign-in, this machine.

    A token that was kept for one address is never sent to another. A server on this machine is
    signed in to by its key file, where this user may read it.
    """
    asked = None if data_folder else url or environ.get("MILLPOND_URL")
    token = token or environ.get("MILLPOND_TOKEN") or None
    address = asked or (None if data_folder else config.url)
    folders = [default_data_folder(environ), *map(Path, config.data_folders)]
    servers = find_servers([data_folder] if data_folder else folders)
    if address:
        servers = [one for one in servers if one.is_at(address)]
        trust = servers[0].trust_at(address) if servers else None
        if config.token and address.rstrip("/") == config.url.rstrip("/"):
            return Chosen(address, token or config.token, trust)
        if not servers:
            return Chosen(address, token)
    if not servers:
        raise NotSignedInError(
            "No server was named, and none runs on this machine.",
            next_step="Start one with `millpond up`, or sign in to one: millpond login URL.",
        )
    kept = config_path(environ).with_name("local-tokens.json")
    found = servers[0]
    chosen = address or found.here
    return Chosen(chosen, token or LocalSignIn(found, kept), found.trust_at(chosen))


def _trust(found: Chosen, fingerprint: str | None, known: KnownServers) -> TrustIn:
    """Choose whom to trust: by the fingerprint, by the data folder, by what was kept."""
    if not found.url.startswith("https:"):
        return None
    if fingerprint:
        wanted = read_fingerprint(fingerprint)
        kept = known.get(found.url)
        if kept is not None and fingerprint_of(kept.pem) == wanted:
            return kept
        return lambda: fetch_authority(found.url, wanted)
    return found.trust or known.get(found.url)
