"""Start a server of one's own as a process, know when it answers, stop it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from millpond.client.local import LocalServer, read_server
from millpond.client.transport import Transport
from millpond.ground.errors import BusyError, ConflictError, MillpondError

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_SAID_LINES = 15


@dataclass
class ServerProcess:
    """A server that this program has started.

    Attributes:
        process: the process.
        data: its data folder.
        log: the file it writes to; None when it writes to this terminal.
    """

    process: subprocess.Popen[bytes]
    data: Path
    log: Path | None = None

    def wait_ready(self, pause: Callable[[float], None] = time.sleep) -> LocalServer:
        """Wait until it answers.

        Raises:
            ConflictError: it ended instead; the message holds what it said last.
            BusyError: it still does not answer after a minute.
        """
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ConflictError(
                    f"The server ended at once, with code {self.process.returncode}."
                    + self._last_words(),
                    next_step="Mend what it said; `millpond doctor` looks at this machine.",
                )
            server = read_server(self.data)
            if server is not None and server.process == self.process.pid and answers(server):
                return server
            pause(_LOOK_SECONDS)
        raise BusyError(
            f"The server does not answer after {_START_SECONDS:.0f} s." + self._last_words(),
            next_step="Look whether this machine is very busy, and try again.",
        )

    def stop(self) -> int:
        """Ask it to stop, then make it; give its exit code."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def _last_words(self) -> str:
        if self.log is None:
            return ""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n" + "\n".join(lines[-_SAID_LINES:]) if lines else ""


def start_server(
    data: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    settings: Path | None = None,
    log: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> ServerProcess:
    """Start ``python -m millpond.main`` on a data folder.

    Args:
        data: the data folder; made when missing.
        host: address to listen on; the settings' when left out.
        port: port to listen on, 0 for a free one; the settings' when left out.
        settings: the settings file; DATA/settings.toml when left out.
        log: the file that gets what it writes; else it writes to this program's standard error.
        environ: its environment; this program's when left out.
        flags: further ones, such as ``--tls``.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = dict(os.environ if environ is None else environ)
    # The client's own variables are none of the server's business.
    for name in ("MILLPOND_TOKEN", "MILLPOND_URL", "MILLPOND_PROJECT", "MILLPOND_FINGERPRINT"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "millpond.main", "--data", str(data)]
    command += ["--host", host] if host is not None else []
    command += ["--port", str(port)] if port is not None else []
    command += ["--settings", str(settings)] if settings is not None else []
    command += flags
    opened: IO[bytes] | int = sys.stderr.fileno() if log is None else log.open("ab")
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
            umask=0o022,  # Or the users of sandboxes cannot read what is made for them.
            # Ctrl-C goes to this program, which then stops the server in order.
            start_new_session=log is not None,
        )
    finally:
        if not isinstance(opened, int):
            opened.close()
    return ServerProcess(process, data, log)


def answers(server: LocalServer) -> bool:
    """Say whether a server of this machine answers."""
    transport = Transport(server.here, trust=server.trust, patience_seconds=0)
    try:
        transport.get("/healthz")
    except MillpondError:
        return False
    finally:
        transport.close()
    return True
