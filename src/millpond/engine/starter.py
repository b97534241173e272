"""Start sandboxes from one small process of its own. A script: the standard library alone.

A server with many threads must not fork and then run Python in the child, and bubblewrap's
``--die-with-parent`` follows the thread that started it. So one single-threaded process starts
them all. As root it first gives each a private mount namespace with only the folders it needs,
puts it into its control groups, and drops to the user's uid: bubblewrap itself never runs as root.
It ends, and with it every sandbox, when the server hangs up.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
_MS_NOSUID_NODEV = 2 | 4
_PR_SET_NO_NEW_PRIVS = 38
_CANNOT_START = 125
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(fd: int) -> None:
    """Take orders from the control socket until it is closed."""
    orders = socket.socket(fileno=fd)
    orders.set_inheritable(False)
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C reaches us too; the server decides.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    poll.register(read, select.POLLIN)
    gc.freeze()  # A collection in a child would copy every page of what is loaded.
    while True:
        ready = {each for each, _ in poll.poll()}
        if read in ready:
            os.read(read, 4096)
        _reap()
        if orders.fileno() in ready:
            head, fds, _, _ = socket.recv_fds(orders, 4, 8, socket.MSG_CMSG_CLOEXEC)
            if len(head) < 4:  # noqa: PLR2004 - the length's own length.
                return
            body = b""
            while len(body) < struct.unpack("!I", head)[0]:
                body += orders.recv(struct.unpack("!I", head)[0] - len(body))
            _start(orders, json.loads(body), fds)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _start(orders: socket.socket, order: dict[str, Any], fds: list[int]) -> None:
    """Fork, and answer with a handle of the child, which can't come to mean another process."""
    pid = os.fork()
    if pid == 0:
        _become(order, fds)
    for fd in fds:
        os.close(fd)
    handle = os.pidfd_open(pid)
    socket.send_fds(orders, [struct.pack("!I", pid)], [handle])
    os.close(handle)


def _become(order: dict[str, Any], fds: list[int]) -> NoReturn:
    """Prepare the child and turn it into the command; tell any fault on its output."""
    control, words = fds
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_RDONLY)
        os.dup2(silence, 0)
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.set_inheritable(control, True)  # noqa: FBT003 - positional only.
        if order["session"]:
            os.setsid()
        if order["place"]:
            _stage(order["place"], order["mounts"])
        for path in order["groups"]:
            with open(path, "w") as file:  # noqa: PTH123 - pathlib costs a millisecond to import.
                file.write("0")
        if order["uid"] is not None:
            os.setgroups(order["gids"])
            os.setresgid(order["uid"], order["uid"], order["uid"])
            os.setresuid(order["uid"], order["uid"], order["uid"])
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        numbers = {"{control}": str(control), "{filter}": _filter(order["filter"])}
        command = [numbers.get(part, part) for part in order["command"]]
        command = [part.replace("{fd}", str(control)) for part in command]
        os.chdir("/")
        os.execve(command[0], command, order["environment"])  # noqa: S606 - no shell is wanted.
    except BaseException as fault:  # noqa: BLE001 - a forked child must not go on as its parent.
        os.write(2, f"cannot start: {fault!r}\n".encode())
    os._exit(_CANNOT_START)


def _filter(text: str) -> str:
    """Put the system-call filter into a pipe that bubblewrap reads."""
    if not text:
        return ""
    read, write = os.pipe()
    os.write(write, bytes.fromhex(text))
    os.close(write)
    os.set_inheritable(read, True)  # noqa: FBT003 - positional only.
    return str(read)


def _stage(place: str, mounts: list[list[str]]) -> None:
    """Bind the needed folders to where any uid can walk; data may lie in root's closed home."""
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _call("mount", b"tmpfs", place.encode(), b"tmpfs", _MS_NOSUID_NODEV, b"mode=0711,size=256k")
    for source, target in mounts:
        if os.path.isdir(source):  # noqa: PTH112 - as above.
            os.makedirs(target, mode=0o711, exist_ok=True)  # noqa: PTH103 - as above.
        else:
            os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
        _call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND | _MS_REC, None)


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
