"""One warm sandbox, seen from the worker: start it, run one task at a time in it, stop it."""

import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from millpond.engine.cgroups import Bill, Group
from millpond.engine.footprint import number_of
from millpond.engine.logs import LogKeeper, ProgressReader
from millpond.engine.sandbox import Shown
from millpond.engine.starting import Launch, Starter, make_words, wait_for
from millpond.kit.clearing import clear_folder

_MESSAGE_MOST = 64 << 10
_WORDS_MOST = 64 << 10
_START_SECONDS, _OBEY_SECONDS, _DRAIN_SECONDS = 60.0, 1.0, 0.5
_MEASURE_SECONDS = 0.25


class BrokenError(Exception):
    """The sandbox has died or talks nonsense; it is thrown away."""


class CancelledError(Exception):
    """The task was cancelled before it had started."""


class StuckError(Exception):
    """The task has waited for its slots too long and has not started."""


@dataclass(frozen=True)
class Ended:
    """How a task's process ended.

    Attributes:
        code: exit code, negative for a signal; None when the whole sandbox went down.
        why: ``cancelled``, ``timed_out``, ``limit`` or empty.
        reason: for ``limit``, and for a sandbox that went down, in words.
        bill: CPU, memory peak and kills for want of memory.
        wall_seconds: how long it ran.
        is_reusable: whether the sandbox may take another task.
    """

    code: int | None
    why: str
    reason: str
    bill: Bill
    wall_seconds: float
    is_reusable: bool


class WarmSandbox:
    """One sandbox = one task at a time. Used by one thread at once; only ``cancel`` by any."""

    def __init__(self, shown: Shown, group: Group | None, *, is_isolated: bool) -> None:
        """Prepare one around the folders it is shown and its control group."""
        self.shown = shown
        self.folder = shown.folder
        self.group = group
        self.is_isolated = is_isolated
        self.faults: list[str] = []
        self.idle_since = 0.0
        self.pid = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._socket: socket.socket | None = None
        self._pidfd = -1
        self._words = b""
        self._billed: Bill | None = None

    def start(self, starter: Starter, launch: Launch) -> None:
        """Start it and wait until it is ready.

        Raises:
            BrokenError: it did not start; the message holds what it said.
            CancelledError: ``cancel`` was called meanwhile.
        """
        ours, theirs = socket.socketpair()
        self._socket = ours
        read, write = make_words()
        try:
            with theirs:
                try:
                    self._pidfd = starter.start(launch, theirs.fileno(), write)
                    self.pid = number_of(self._pidfd)
                finally:
                    os.close(write)
            self.faults = self._wait_until_ready(read)
        except OSError as fault:
            raise BrokenError(str(fault)) from fault
        finally:
            os.close(read)

    def _wait_until_ready(self, words: int) -> list[str]:
        poll = select.poll()
        for fd in (words, self._control.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        end = time.monotonic() + _START_SECONDS
        while True:
            ready = {fd for fd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)}
            if not ready:
                raise BrokenError("it was not ready after a minute")
            if self._wake in ready:
                raise CancelledError
            if words in ready:
                data = _read(words)
                self._words = (self._words + data)[-_WORDS_MOST:]
                if not data:
                    poll.unregister(words)
            if self._control.fileno() in ready:
                try:
                    return [str(each)[:500] for each in self._receive(5.0)["faults"][:20]]
                except (BrokenError, KeyError, TypeError) as fault:
                    self._words += _read(words)
                    said = self._words.decode(errors="replace").strip()
                    raise BrokenError(said[-2000:] or str(fault)) from fault

    @property
    def _control(self) -> socket.socket:
        if self._socket is None:
            raise BrokenError("it has not been started")
        return self._socket

    def run(
        self,
        message: Mapping[str, Any],
        *,
        seconds: float,
        log: LogKeeper,
        progress: ProgressReader,
        check: Callable[[], str],
    ) -> Ended:
        """Run one task to its end.

        Args:
            message: entry, variables and limits for the runner.
            seconds: limit of time.
            log: takes the output.
            progress: takes the lines of progress.
            check: measures what it has written; gives a passed limit in words.
        """
        before = self._billed or (self.group.read() if self.group else Bill(0.0, 0, 0))
        if self.group:
            self.group.reset_peak()
        started = time.monotonic()
        task = _Running(self, seconds, log, progress, check)
        try:
            self._send(message, task.ends)
            task.close_ends()
            report = task.follow()
        except BrokenError as fault:
            report, task.fault = None, str(fault)
        finally:
            task.close()
        wall = time.monotonic() - started
        if report is None or not task.log_ended:
            self.kill()
        bill = self._bill(before, report)
        code = report.get("code") if report else None
        return Ended(
            code=code if isinstance(code, int) else None,
            why=task.why,
            reason=task.reason if task.why == "limit" else (task.fault if report is None else ""),
            bill=bill,
            wall_seconds=wall,
            is_reusable=bool(report) and task.log_ended and not (report or {}).get("unclean"),
        )

    def _bill(self, before: Bill, report: Mapping[str, Any] | None) -> Bill:
        if self.group:
            after = self._billed = self.group.read()  # Between two tasks it uses nothing.
            return Bill(
                after.cpu_seconds - before.cpu_seconds,
                after.memory_peak_bytes,
                after.memory_kills - before.memory_kills,
            )
        cpu, rss = (report or {}).get("cpu_seconds"), (report or {}).get("rss_bytes")
        return Bill(
            float(cpu) if isinstance(cpu, (int, float)) else 0.0,
            rss if isinstance(rss, int) else 0,
            0,
        )

    def cancel(self) -> None:
        """Stop the task that runs, or the start; from any thread."""
        with suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def clear(self) -> None:
        """Empty the task's folders.

        Raises:
            OSError: something stayed; the sandbox must be thrown away.
        """
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)  # A cancel that came too late must not hit the next task.
        clear_folder(f"{self.folder}/in")
        clear_folder(f"{self.folder}/out")

    def kill(self) -> None:
        """End every process of it now."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        if self.group:
            self.group.kill()

    def stop(self) -> None:
        """End it and remove its group and its folder."""
        if self._socket is not None:
            self._socket.close()
        if self._pidfd >= 0:
            # A plain runner must end its daemons itself; a sandbox takes them down with it.
            if self.is_isolated or not wait_for(self._pidfd, _OBEY_SECONDS):
                self.kill()
            wait_for(self._pidfd, 2.0)
            os.close(self._pidfd)
            self._pidfd = -1
        if self.group:
            self.group.kill()
            self.group.remove()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
        with suppress(OSError):
            clear_folder(str(self.folder))
            self.folder.rmdir()

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        body = json.dumps(message).encode()
        try:
            self._control.settimeout(_OBEY_SECONDS)
            socket.send_fds(self._control, [struct.pack("!I", len(body))], list(fds))
            self._control.sendall(body)
        except OSError as fault:
            raise BrokenError(f"it takes no task: {fault}") from fault

    def _receive(self, timeout: float) -> dict[str, Any]:
        control = self._control
        control.settimeout(timeout)
        try:
            head = control.recv(4, socket.MSG_WAITALL)
            size = struct.unpack("!I", head)[0] if len(head) == 4 else -1  # noqa: PLR2004 - its length.
            if not 0 < size <= _MESSAGE_MOST:
                raise BrokenError("the sandbox went down" if not head else "it talks nonsense")
            body = b""
            while len(body) < size:
                part = control.recv(size - len(body))
                if not part:
                    raise BrokenError("the sandbox went down")
                body += part
            message = json.loads(body)
        except (OSError, ValueError, RecursionError) as fault:
            raise BrokenError(str(fault)) from fault
        if not isinstance(message, dict):
            raise BrokenError("it talks nonsense")
        return message

    def ask_to_cancel(self) -> None:
        """Send the runner word to end the task."""
        self._send({"op": "cancel"})

    def take_report(self) -> dict[str, Any]:
        """Receive the runner's report."""
        return self._receive(_OBEY_SECONDS)

    @property
    def handles(self) -> tuple[int, int]:
        """What to wait on: the control socket and the call to cancel."""
        return self._control.fileno(), self._wake


class _Running:
    """One task on its way: its pipes, its limits, and the loop that waits on all of them."""

    def __init__(
        self,
        sandbox: WarmSandbox,
        seconds: float,
        log: LogKeeper,
        progress: ProgressReader,
        check: Callable[[], str],
    ) -> None:
        self._sandbox = sandbox
        self._log, self._progress, self._check = log, progress, check
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._measure_at = time.monotonic() + _MEASURE_SECONDS
        self._log_read, log_write = os.pipe2(os.O_CLOEXEC)
        self._progress_read, progress_write = os.pipe2(os.O_CLOEXEC)
        self.ends = [log_write, progress_write]
        for fd in (self._log_read, self._progress_read):
            os.set_blocking(fd, False)
        self.why = self.reason = self.fault = ""
        self.log_ended = False

    def close_ends(self) -> None:
        while self.ends:
            os.close(self.ends.pop())

    def close(self) -> None:
        self.close_ends()
        os.close(self._log_read)
        os.close(self._progress_read)

    def follow(self) -> dict[str, Any]:
        """Wait for the report and the end of the log: then every descendant has let go of it."""
        control, wake = self._sandbox.handles
        poll = select.poll()
        for fd in (control, wake, self._log_read, self._progress_read):
            poll.register(fd, select.POLLIN)
        report: dict[str, Any] | None = None
        while report is None or not self.log_ended:
            ready = {fd for fd, _ in poll.poll(self._timeout() * 1000)}
            self._read_pipes(ready, poll)
            if control in ready:
                report = self._sandbox.take_report()
                poll.unregister(control)
                self._end = time.monotonic() + _DRAIN_SECONDS
            if wake in ready and report is None:
                poll.unregister(wake)
                self._give_up("cancelled", "")
            if time.monotonic() >= self._end:
                if report is not None:
                    return report
                if self.why:
                    raise BrokenError("it does not stop")
                self._give_up("timed_out", "")
            if report is None and not self.why and time.monotonic() >= self._measure_at:
                self._measure()
        return report

    def _timeout(self) -> float:
        now = time.monotonic()
        due = [self._end, self._end if self.why else self._measure_at]
        if self._log.due_seconds is not None:
            due.append(now + self._log.due_seconds)
        return max(0.0, min(due) - now)

    def _read_pipes(self, ready: set[int], poll: "select.poll") -> None:
        if self._log_read in ready:
            data = _read(self._log_read)
            if data:
                self._log.take(data)
            else:
                poll.unregister(self._log_read)
                self.log_ended = True
        if self._progress_read in ready:
            data = _read(self._progress_read)
            if data:
                self._progress.take(data)
            else:
                poll.unregister(self._progress_read)
        if self._log.due_seconds == 0:
            self._log.flush()

    def _measure(self) -> None:
        """Look at what it has written; a costly look is taken less often."""
        began = time.monotonic()
        passed = self._check()
        took = time.monotonic() - began
        self._measure_at = time.monotonic() + max(_MEASURE_SECONDS, 10 * took)
        if passed:
            self._give_up("limit", passed)

    def _give_up(self, why: str, reason: str) -> None:
        self.why, self.reason = why, reason
        self._end = time.monotonic() + _OBEY_SECONDS
        self._sandbox.ask_to_cancel()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""
