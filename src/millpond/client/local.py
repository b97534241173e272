"""Find a server on this machine, and sign in to it by its key file."""

import getpass
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.client.config import write_private
from millpond.client.decoding import decode
from millpond.client.transport import Transport
from millpond.client.trust import Trust, origin_of, read_trust
from millpond.ground.errors import ConflictError, NotSignedInError
from millpond.people.values import LocalChallenge, NewToken, local_proof

SERVER_FILE = "server.json"
DATA_FILE = "data-folder"
"""Beside the installations of a host: says where its server's data is."""

KEY_FILE = Path("keys") / "local.key"


@dataclass(frozen=True)
class LocalServer:
    """A server that wrote its address into its data folder.

    Attributes:
        data: the data folder.
        url: where it answers.
        process: its process id; 0 when it did not say.
        here: where it answers programs of this machine.
        trust: what they trust there, when it speaks TLS.
    """

    data: Path
    url: str
    process: int
    here: str = ""
    trust: Trust | None = None

    def is_at(self, url: str) -> bool:
        """Say whether an address is this server's."""
        return origin_of(url) in (origin_of(self.url), origin_of(self.here))

    def trust_at(self, url: str) -> Trust | None:
        """Give what to trust at one of its addresses: its own certificate only where it is."""
        is_here = origin_of(url) == origin_of(self.here)
        return self.trust if self.trust and (is_here or not self.trust.is_exact) else None

    @property
    def is_alive(self) -> bool:
        """Whether its process runs; a server of another user counts as running."""
        if not self.process:
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def default_data_folder(environ: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> Path:
    """Give the folder that commands work on unless told otherwise.

    On a host, for the account that its server runs as, that is the installation's; for everybody
    else it is their own, as a server that they start themselves is.

    Args:
        environ: the environment.
        prefix: of this Python; an installation has them side by side.
    """
    return (None if environ.get("MILLPOND_DATA") else _installed_folder(prefix)) or own_data_folder(
        environ
    )


def _installed_folder(prefix: Path) -> Path | None:
    try:
        folder = Path((prefix.parent / DATA_FILE).read_text().strip())
        is_ours = folder.is_absolute() and folder.stat().st_uid == os.geteuid()
    except (OSError, ValueError):
        return None
    return folder if is_ours else None


def own_data_folder(environ: Mapping[str, str]) -> Path:
    """Give the folder of servers that somebody starts for themselves."""
    if environ.get("MILLPOND_DATA"):
        return Path(environ["MILLPOND_DATA"])
    home = Path(environ.get("HOME") or Path.home())
    share = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return share / "millpond"


def read_server(data: Path) -> LocalServer | None:
    """Read the address that a server left in its data folder; None when there is none."""
    try:
        facts: Any = json.loads((data / SERVER_FILE).read_text())
        url = str(facts["url"])
        trust = read_trust(str(facts.get("authority", "")), str(facts.get("certificate", "")))
        here = str(facts.get("here", "") or url)
        return LocalServer(data, url, int(facts.get("pid", 0)), here, trust)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_servers(folders: Iterable[Path]) -> list[LocalServer]:
    """Give the servers that run on data folders, in their order."""
    found = (read_server(folder) for folder in folders)
    return [server for server in found if server is not None and server.is_alive]


def find_server(folder: Path) -> LocalServer | None:
    """Give the server that runs on a data folder."""
    return next(iter(find_servers([folder])), None)


def user_name() -> str:
    """Give this machine's name for its user, as Millpond writes names."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name.lower())
    return kept.strip("._-")[:40] or "admin"


def _prove(transport: Transport, key: bytes, name: str) -> NewToken:
    given = decode(LocalChallenge, transport.post("/sessions/challenge"))
    proof = local_proof(key, given.challenge, name)
    body = {"challenge": given.challenge, "name": name, "proof": proof}
    return decode(NewToken, transport.post("/sessions/local", body))


class LocalSignIn:
    """Sign in by the key file of a server on this machine, and keep the token for the next time.

    Args:
        server: the server.
        kept: file that keeps tokens by data folder, readable by its owner alone.
    """

    def __init__(self, server: LocalServer, kept: Path) -> None:
        """Keep both; nothing is read before a token is asked for."""
        self._server = server
        self._kept = kept

    def __call__(self, refused: str) -> str:
        """Give the kept token, or a new one when there is none or it was ``refused``.

        Raises:
            NotSignedInError: this user may not read the key file.
        """
        tokens = self._read()
        place = str(self._server.data)
        if tokens.get(place, refused) != refused:
            return tokens[place]
        key = self._key()
        transport = Transport(self._server.here, trust=self._server.trust)
        try:
            try:
                made = _prove(transport, key, "")
            except ConflictError:
                # There is no administrator yet: who started the server becomes the first.
                made = _prove(transport, key, user_name())
        finally:
            transport.close()
        write_private(self._kept, json.dumps({**tokens, place: made.text}))
        return made.text

    def _key(self) -> bytes:
        path = self._server.data / KEY_FILE
        try:
            return path.read_bytes()
        except OSError as fault:
            raise NotSignedInError(
                f"The server at {self._server.url} runs as somebody else: {path} can't be read.",
                next_step=f"Sign in with your name: millpond login {self._server.url}.",
            ) from fault

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self._kept.read_text())
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in kept.items()} if isinstance(kept, dict) else {}
