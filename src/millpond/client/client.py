"""The SDK's door: one client, one attribute per noun."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from millpond.client.audit import LogRoom
from millpond.client.config import Config, config_path, read_config
from millpond.client.environments import EnvironmentsRoom
from millpond.client.jobs import JobsRoom
from millpond.client.lake import DatasetsRoom
from millpond.client.local import default_data_folder, find_server
from millpond.client.people import (
    AccountRoom,
    MembersRoom,
    ProjectsRoom,
    SecretsRoom,
    TokensRoom,
    UsersRoom,
)
from millpond.client.pipelines import PipelinesRoom
from millpond.client.runs import RunsRoom
from millpond.client.system import SystemRoom
from millpond.client.transport import Transport
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

    Raises:
        NotSignedInError: no address was given and none was found.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Find the address; nothing is sent before the first call."""
        known = os.environ if environ is None else environ
        config = read_config(config_path(known))
        address, sign = choose_server(config, known, url, token)
        chosen = project or known.get("MILLPOND_PROJECT") or config.project or None
        self.transport = Transport(address, sign)
        self.account = AccountRoom(self.transport)
        self.users = UsersRoom(self.transport)
        self.projects = ProjectsRoom(self.transport, chosen)
        self.members = MembersRoom(self.transport, chosen)
        self.tokens = TokensRoom(self.transport)
        self.secrets = SecretsRoom(self.transport, chosen)
        self.datasets = DatasetsRoom(self.transport, chosen)
        self.environments = EnvironmentsRoom(self.transport, chosen)
        self.pipelines = PipelinesRoom(self.transport, chosen)
        self.runs = RunsRoom(self.transport, chosen)
        self.log = LogRoom(self.transport, chosen)
        self.jobs = JobsRoom(self.transport)
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


def choose_server(
    config: Config, environ: Mapping[str, str], url: str | None, token: str | None
) -> tuple[str, str | Callable[[], str] | None]:
    """Choose address and token: what was given, the environment, the sign-in, this machine.

    A token that was kept for one address is never sent to another.
    """
    token = token or environ.get("MILLPOND_TOKEN") or None
    asked = url or environ.get("MILLPOND_URL") or config.url
    if asked:
        kept = config.token if asked.rstrip("/") == config.url.rstrip("/") else None
        return asked, token or kept or None
    folders = [default_data_folder(environ), *map(Path, config.data_folders)]
    server = find_server(folders)
    if server is None:
        raise NotSignedInError(
            "No server was named, and none runs on this machine.",
            next_step="Start one with `millpond up`, or sign in to one: millpond login URL.",
        )
    return server.url, token
