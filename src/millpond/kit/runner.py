"""Stay alive as pid 1 of a sandbox: import what was asked for once, then fork one child per task.

The control socket carries length-prefixed JSON. A task's message also carries the write ends of
its log and of its progress (SCM_RIGHTS), so neither passes through this process. Standard library
alone, Python 3.9 and newer; it is bind-mounted under the name ``millpond.runner``.
"""

import _signal as signal  # type: ignore[import-not-found]  # Without enums, which cost much.
import _socket
import gc
import io
import os
import select
import sys

from .leavings import leave_nothing, open_shared
from .processes import Passing, kill_others, set_process, signal_others, threads_of_user
from .seed import set_seed
from .wire import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_RESULT = ".millpond/result.json"
_HEAD = 4  # Bytes of the length before each message.
_FDS, _FD = 4, 4  # Most descriptors with a message, and bytes of one.
_PROGRESS = 3
_CRASHED, _NOT_FOUND, _NOT_RUNNABLE = 70, 127, 126
_KIT = "millpond."
_AGAIN = (
    "import sys; sys.path[:1] = sys.argv[2:4]; from millpond.runner import main; main(sys.argv[1])"
)


def send(sock: "_socket.socket", message: object) -> None:
    """Send one message."""
    body = dumps(message).encode()
    sock.sendall(len(body).to_bytes(_HEAD, "big") + body)


def receive(sock: "_socket.socket") -> "tuple[dict[str, Any] | None, list[int]]":
    """Return (message, file descriptors); (None, []) when the worker is gone."""
    room = _socket.CMSG_SPACE(_FDS * _FD)
    head, said, _, _ = sock.recvmsg(_HEAD, room, _socket.MSG_CMSG_CLOEXEC)
    fds = [
        int.from_bytes(data[place : place + _FD], sys.byteorder)
        for level, kind, data in said
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for place in range(0, len(data) // _FD * _FD, _FD)
    ]
    if len(head) < _HEAD:
        return None, []
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size:
        part = sock.recv(size - len(body))
        if not part:
            return None, []
        body += part
    return loads(body), fds


def main(text: str) -> None:
    """Serve tasks until the worker hangs up. ``text`` is JSON: fd, output, temporary, preload."""
    place = loads(text.encode())
    sock = _socket.socket(fileno=place["fd"])
    os.set_inheritable(place["fd"], False)  # noqa: FBT003 - positional only.  Not for programs that a user's code starts.
    set_process(_PR_SET_DUMPABLE, 0)  # A child can't read or write our memory.
    if os.getpid() != 1:
        set_process(_PR_SET_CHILD_SUBREAPER, 1)  # Daemons come back to us to be ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # For pid 1 that means: no child can interrupt us.
    wake = _wake_on_child()
    faults = _preload(place, sock)
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # Of the children, whose log is a pipe.
    send(sock, {"ready": True, "faults": faults[:20]})
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silence, fd)
    os.close(silence)
    shared = open_shared()
    gc.freeze()  # Or the first collection in each fork would copy every page of what is loaded.
    while True:
        task, fds = receive(sock)
        if task is None:
            kill_others()
            os._exit(0)  # At once: taking Python down in order costs a sixth of its start.
        if task["op"] != "run":
            continue  # A cancel that came too late: its task has ended.
        pid = os.fork()
        if pid == 0:
            _be_task(sock, wake, place, task, fds)
        for fd in fds:
            os.close(fd)
        report = _supervise(sock, wake, pid)
        report["unclean"] = leave_nothing(place["temporary"], shared)
        send(sock, report)


def _preload(place: "dict[str, Any]", sock: "_socket.socket") -> "list[str]":
    """Import what tasks share. A thread does not survive a fork: with one we begin again without.

    What is not imported here each task imports for itself, so that nothing is lost but time.
    """
    set_seed(0)  # What a module draws at its import is the same in each run.
    faults = []
    for module in place["preload"]:
        try:
            __import__(module)
        except BaseException as fault:  # noqa: BLE001 - whatever a user's module raises.
            faults.append(f"{module}: {fault!r}"[:500])
    threads = sys.modules.get("threading")
    if threads is not None and threads.active_count() > 1:
        os.set_inheritable(sock.fileno(), True)  # noqa: FBT003 - positional only.
        place["preload"] = [name for name in place["preload"] if name.startswith(_KIT)]
        arguments = ["-s", "-c", _AGAIN, dumps(place), *sys.argv[2:]]
        os.execv(sys.executable, [sys.executable, *arguments])
    return faults


def _wake_on_child() -> "tuple[int, int]":
    """Give a pipe that becomes readable when a child ends; pidfds are not in every Python."""
    read, write = os.pipe()
    for fd in (read, write):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read, write


def _supervise(sock: "_socket.socket", wake: "tuple[int, int]", pid: int) -> "dict[str, Any]":
    """Wait for the child, or for a word from the worker; then end all that it left."""
    cancelled = False
    poll = select.poll()
    poll.register(wake[0], select.POLLIN)
    poll.register(sock, select.POLLIN)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        ready = {fd for fd, _ in poll.poll()}
        if wake[0] in ready:
            with Passing(BlockingIOError):
                os.read(wake[0], 4096)
        if sock.fileno() in ready:
            if receive(sock)[0] is None:
                kill_others()
                os._exit(0)  # The worker is gone; as pid 1 our end takes everything down.
            cancelled = True  # The only word that may come meanwhile is "cancel".
            signal_others()
    return {
        "code": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "cancelled": cancelled,
        "leftovers": kill_others(),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "rss_bytes": usage.ru_maxrss * 1024,
    }


def _be_task(
    sock: "_socket.socket",
    wake: "tuple[int, int]",
    place: "dict[str, Any]",
    task: "dict[str, Any]",
    fds: "list[int]",
) -> None:
    """Become the task; never return."""
    code = _CRASHED
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sock.close()  # The task must not answer in its parent's name.
        for fd in wake:
            os.close(fd)
        _prepare(place, task, fds)
        code = _run(place, task)
    except SystemExit as stop:
        if stop.code is not None and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - whatever a user's code raises is told in its own log.
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def _prepare(place: "dict[str, Any]", task: "dict[str, Any]", fds: "list[int]") -> None:
    import resource

    log, progress = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.set_inheritable(progress, True)  # noqa: FBT003 - positional only.
    set_process(_PR_SET_DUMPABLE, 1)  # It may read its own /proc/self.
    for name, most in task["rlimits"].items():
        value = most
        number = getattr(resource, "RLIMIT_" + name)
        if name == "AS":  # What the parent has loaded is not the task's fault.
            with open("/proc/self/statm") as file:
                value = most + int(file.read().split()[0]) * resource.getpagesize()
        if name == "NPROC" and os.getppid() != 1:  # Counted per user, with all that he runs.
            value = most + threads_of_user()
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))
    os.environ.update(task["variables"])
    os.environ["MILLPOND_PROGRESS_FD"] = str(progress)
    os.chdir(place["output"])
    os.umask(0o022)


def _run(place: "dict[str, Any]", task: "dict[str, Any]") -> int:
    if task["command"]:
        return _become(task["command"])
    set_seed(task["seed"])
    if "numpy" in sys.modules:  # Its global generator is copied by a fork: same numbers in all.
        sys.modules["numpy"].random.seed(task["seed"] & 0xFFFFFFFF)
    module, _, name = task["function"].partition(":")
    __import__(module)
    result = getattr(sys.modules[module], name)(**task["arguments"])
    if result is not None:
        path = os.path.join(place["output"], _RESULT)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(dumps(result))
    return 0


def _become(command: "list[str]") -> int:
    """Turn into another program; return only when that can't be."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; programs expect them.
        signal.signal(number, signal.SIG_DFL)
    progress = int(os.environ["MILLPOND_PROGRESS_FD"])
    if progress != _PROGRESS:  # A plain sh can write to a descriptor of one digit only.
        os.dup2(progress, _PROGRESS)
        os.close(progress)
        os.environ["MILLPOND_PROGRESS_FD"] = str(_PROGRESS)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        print(f"{command[0]}: there is no such program in the sandbox", file=sys.stderr)
        return _NOT_FOUND
    except OSError as fault:
        print(f"{command[0]}: cannot be run: {fault.strerror}", file=sys.stderr)
        return _NOT_RUNNABLE
