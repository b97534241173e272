"""Hand launches to the starter process and get back a handle of what it started."""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SCRIPT = Path(__file__).with_name("starter.py")


@dataclass(frozen=True)
class Launch:
    """One sandbox, or one plain runner, to be started.

    Attributes:
        command: program and arguments; ``{fd}`` in one stands for the control socket's number,
            and the parts ``{control}`` and ``{filter}`` for that and for the filter's.
        environment: its environment variables.
        place: where a private mount namespace shows the mounts; empty for none (not root).
        mounts: folders and files with where they are shown.
        groups: files of control groups to write itself into.
        uid: uid and gid to drop to; None to keep ours (not root).
        gids: groups that it is in beside; only where it drops to a uid.
        filter: system-call filter in hexadecimal.
        session: whether it leads a session of its own.
    """

    command: list[str]
    environment: Mapping[str, str]
    place: str = ""
    mounts: list[tuple[str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    uid: int | None = None
    gids: list[int] = field(default_factory=list)
    filter: str = ""
    session: bool = False


class Starter:
    """The starter process. Safe to share between threads."""

    def __init__(self) -> None:
        """Start it."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
            )
        self._socket = ours
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The starter's process."""
        return self._process.pid

    def start(self, launch: Launch, control: int, words: int) -> int:
        """Start one; give a pidfd of it, which the caller closes.

        Raises:
            OSError: the starter has gone.
        """
        body = json.dumps(vars(launch)).encode()
        with self._lock:
            socket.send_fds(self._socket, [struct.pack("!I", len(body))], [control, words])
            self._socket.sendall(body)
            answer, fds, _, _ = socket.recv_fds(self._socket, 4, 1, socket.MSG_CMSG_CLOEXEC)
        if not answer:
            raise OSError("the process that starts sandboxes has ended")
        return fds[0]

    def close(self) -> None:
        """Hang up; every sandbox that still lives ends with the starter."""
        self._socket.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def wait_for(pidfd: int, seconds: float) -> bool:
    """Wait until the process behind a pidfd has ended; False when it has not by then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def make_words() -> tuple[int, int]:
    """Make the pipe for what a launch says before it is ready; our end never blocks."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    return read, write
