"""Machines over SSH, by the system's own OpenSSH client; their host keys pinned at first sight.

Pins lie in a file of our own, so that nobody's private list of hosts is read or changed. Names,
agents and jumps that the account's SSH configuration knows are used.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from millpond.deploy.target import SECONDS, Done, Feed, communicate
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
)

CONNECT_SECONDS = 10
_SSH_FAILED = 255
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_NO_ROUTE = re.compile(
    r"no route to host|connection refused|timed out|network is unreachable|connection reset"
    r"|connection closed|broken pipe|lost connection|name resolution",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Login:
    """Where a machine is, and who signs in.

    Attributes:
        address: name or address.
        user: account there.
        port: of its SSH server.
        keys: private keys to offer; beside them the account's own, as SSH does.
    """

    address: str
    user: str = "root"
    port: int = 22
    keys: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.user}@{self.address}" + (f":{self.port}" if self.port != 22 else "")  # noqa: PLR2004 - SSH's.

    @property
    def host(self) -> str:
        """What it is called in a list of pinned keys."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"  # noqa: PLR2004 - SSH's.


class Pins:
    """The file of host keys that were seen first."""

    def __init__(self, folder: Path) -> None:
        """Keep it in a folder that only this account may look into."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / "known_hosts"

    def find(self, login: Login) -> str:
        """Give the fingerprint pinned for a machine; empty when it was never seen."""
        done = subprocess.run(
            ["ssh-keygen", "-l", "-F", login.host, "-f", str(self.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        found = _FINGERPRINT.search(done.stdout)
        return found.group() if found else ""

    def forget(self, login: Login) -> None:
        """Forget a machine's key, so that the next one counts as first seen."""
        subprocess.run(
            ["ssh-keygen", "-R", login.host, "-f", str(self.path)], capture_output=True, check=False
        )
        self.path.with_suffix(".old").unlink(missing_ok=True)


class Remote:
    """A machine over SSH. Takes commands once ``open_remote`` has reached it."""

    def __init__(self, login: Login, pins: Pins, socket: Path) -> None:
        """Keep how to reach it; nothing is sent before ``meet``."""
        self._login, self._pins, self._socket = login, pins, socket
        self._becoming_root = ""
        self.host_key = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return self._login.title

    def meet(self, pinned: str = "") -> None:
        """Reach it, pin or compare its host key, and find out how to be root there.

        Args:
            pinned: the fingerprint that its host key must have; empty: the one in the file, or
                whatever it shows when it is new.

        Raises:
            ConflictError: its host key is another one.
            NotAllowedError: the key or the user is refused, or it gives no rights of root.
            InvalidError: the private key cannot be used, or there is no such name.
            BusyError: it does not answer.
        """
        if shutil.which("ssh") is None:
            raise InvalidError(
                "The program ssh is not installed on this host.",
                next_step="Install it (Debian: apt-get install openssh-client), then try again.",
            )
        for key in self._login.keys:
            check_key(key)
        known = self._pins.find(self._login)
        if pinned and known and pinned != known:
            raise self._changed(pinned, known)
        done = self._ssh("id -u", None, CONNECT_SECONDS * 3)
        self.host_key = self._pins.find(self._login)
        if pinned and self.host_key != pinned:
            self._pins.forget(self._login)
            raise self._changed(pinned, self.host_key)
        if done.code:
            raise self._unusable(done)
        if done.out.strip() != "0":
            self._become_root()

    def _become_root(self) -> None:
        done = self._ssh("sudo -n id -u", None, CONNECT_SECONDS * 3)
        if done.out.strip() != "0":
            user = self._login.user
            raise NotAllowedError(
                f"{self.title}: {user} is not root and may not use sudo without a password"
                f" ({(done.last_words.splitlines() or ['no answer'])[-1]}).",
                next_step=f"As root there: install sudo, then echo '{user} ALL=(ALL) NOPASSWD: ALL'"
                " > /etc/sudoers.d/millpond. Or name another user: root@ADDRESS.",
            )
        self._becoming_root = "sudo -n "

    def run(self, script: str, *, feed: Feed | None = None, seconds: float = SECONDS) -> Done:
        """Run a script as root.

        Raises:
            BusyError: the line went down, or it took too long.
            ConflictError: its host key changed meanwhile.
        """
        command = f"{self._becoming_root}/bin/sh -c {shlex.quote(script)}"
        return self._ssh(command, feed, seconds)

    def close(self) -> None:
        """Close the line that the commands shared."""
        if self._socket.exists():
            self._ssh_program(["-O", "exit", "-S", str(self._socket)])

    def _ssh_program(self, more: list[str]) -> None:
        subprocess.run(
            ["ssh", *more, self._login.address],
            capture_output=True,
            check=False,
            timeout=CONNECT_SECONDS,
        )

    def _ssh(self, command: str, feed: Feed | None, seconds: float) -> Done:
        login = self._login
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self._pins.path),
            "GlobalKnownHostsFile": "/dev/null",
            "HashKnownHosts": "no",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPath": str(self._socket),
            "ControlPersist": "30",
            "LogLevel": "INFO",
        }
        words = ["ssh", "-T", "-p", str(login.port), "-l", login.user]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        for key in login.keys:
            words += ["-i", str(key)]
        done = communicate(
            [*words, "--", login.address, command],
            feed=feed,
            seconds=seconds,
            title=self.title,
            environment={**os.environ, "LC_ALL": "C"},
        )
        if done.code == _SSH_FAILED and (fault := self._fault_of(done)):
            raise fault
        return done

    # Saying what is wrong ---------------------------------------------------------------------

    def _fault_of(self, done: Done) -> MillpondError | None:
        said = done.err
        if "HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said:
            shown = _FINGERPRINT.search(said)
            return self._changed(self._pins.find(self._login), shown.group() if shown else "")
        if "Permission denied" in said or "Too many authentication failures" in said:
            return NotAllowedError(
                f"{self.title} refuses the key: {_last_line(said)}.",
                next_step=f"Put the public key into ~{self._login.user}/.ssh/authorized_keys there"
                " (ssh-copy-id does it), or give another private key with key=FILE or --key FILE.",
            )
        if "Could not resolve hostname" in said and "Temporary failure" not in said:
            return InvalidError(
                f"There is no machine called {self._login.address}.",
                next_step="Look at the spelling, or give its address in numbers.",
                faults=[Fault("address", "is no name that can be looked up")],
            )
        if _NO_ROUTE.search(said) or "resolve hostname" in said:
            return BusyError(
                f"{self.title} does not answer: {_last_line(said)}.",
                next_step="Look whether it is on, whether its address is right, and whether a"
                f" firewall lets this host reach its port {self._login.port}.",
                retry_after_seconds=10,
            )
        return None

    def _unusable(self, done: Done) -> MillpondError:
        return ConflictError(
            f"{self.title} takes no commands: {done.last_words}",
            next_step="Sign in there by hand and look; its account may have no plain shell.",
        )

    def _changed(self, pinned: str, shown: str) -> ConflictError:
        return ConflictError(
            f"{self.title} shows another host key than at first sight.\n"
            f"pinned: {pinned or 'unknown'}\nnow:    {shown or 'unknown'}",
            next_step="If you did not set it up anew, somebody may stand between: do not go on. If"
            f" you did, forget the old key on this host: ssh-keygen -R '{self._login.host}' -f"
            f" {self._pins.path}; a node that had joined is removed and added again.",
            pinned=pinned,
            shown=shown,
        )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or ["it says nothing"])[-1].rstrip(".")


def check_key(path: Path) -> None:
    """Find out whether a private key can be used, without a question to anybody.

    Raises:
        InvalidError: it is not there, is no key, is open to others, or asks for a passphrase.
    """
    reason, step = "", ""
    if not path.is_file():
        reason, step = "is not there", "Give the path of the private key as this host sees it."
    elif not _may_be_key(path):
        reason = "is no private key"
        step = "Give the private key, not the one that ends in .pub."
    elif path.stat().st_mode & 0o077:
        reason = "can be read by other accounts, so SSH does not use it"
        step = f"chmod 600 {path}"
    else:
        done = subprocess.run(
            ["ssh-keygen", "-y", "-P", "", "-f", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if "incorrect passphrase" in done.stderr:
            reason = "asks for a passphrase, which a server cannot answer"
            step = "Give a key without one: ssh-keygen -t ed25519 -N '' -f FILE."
        elif done.returncode:
            reason = f"is no private key ({_last_line(done.stderr)})"
            step = "Give the private key, not the one that ends in .pub."
    if reason:
        raise InvalidError(
            f"The key {path} {reason}.", next_step=step, faults=[Fault("key_file", reason)]
        )


def _may_be_key(path: Path) -> bool:
    """Look only for the words that every private key begins with; nothing else is said of it."""
    try:
        with path.open("rb") as file:
            return b"PRIVATE KEY" in file.readline(100)
    except OSError:
        return True  # SSH will say why it cannot be read.


def own_key(folder: Path) -> Path:
    """Give this installation's own private key for SSH; made at the first call."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "ssh_ed25519"
    if not path.exists():
        making = folder / f".ssh_ed25519-{os.getpid()}"
        public = making.with_suffix(".pub")
        for each in (making, public):
            each.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "millpond", "-f", str(making)],
            check=True,
            capture_output=True,
        )
        public.replace(path.with_suffix(".pub"))
        making.replace(path)
    return path


@contextmanager
def open_remote(login: Login, pins: Pins, *, pinned: str = "") -> Iterator[Remote]:
    """Reach a machine, and close the line at the end; raises what ``Remote.meet`` raises."""
    # Paths of sockets must be short, whatever the data folder is called.
    folder = Path(tempfile.mkdtemp(prefix="mp-ssh-"))
    remote = Remote(login, pins, folder / "line")
    try:
        remote.meet(pinned)
        yield remote
    finally:
        with suppress(OSError, subprocess.SubprocessError):
            remote.close()
        shutil.rmtree(folder, ignore_errors=True)
