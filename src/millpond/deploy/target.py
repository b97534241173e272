"""A machine that is being set up: it runs shell scripts as root and takes files."""

import hashlib
import shlex
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from millpond.ground.errors import BusyError, ConflictError

SECONDS = 60.0
SEND_SECONDS = 1800.0
_SHOWN_LINES = 6


@dataclass(frozen=True)
class Done:
    """How a script ended.

    Attributes:
        code: its exit code.
        out: what it wrote.
        err: what it complained of.
    """

    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """Give the end of what it said, for a message."""
        lines = [line for line in (self.out + self.err).splitlines() if line.strip()]
        return "\n".join(lines[-_SHOWN_LINES:])


class Target(Protocol):
    """A machine that takes commands."""

    @property
    def title(self) -> str:
        """What people call it, such as ``root@10.0.0.5``."""
        ...

    def run(self, script: str, *, feed: "Feed | None" = None, seconds: float = SECONDS) -> Done:
        """Run a script of the plain shell as root, and wait for its end.

        Args:
            script: for ``/bin/sh``.
            feed: writes the script's standard input; None for an empty one.
            seconds: it gets no longer.

        Raises:
            BusyError: it took too long, or the machine does not answer.
        """
        ...


Feed = Callable[[IO[bytes]], None]


def feed_text(text: str) -> Feed:
    """Give what writes a text to a script's standard input."""

    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode())

    return write


def must(target: Target, script: str, what: str, *, seconds: float = SECONDS) -> str:
    """Run a script that has to succeed; give what it wrote.

    Raises:
        ConflictError: it failed; the message holds its last words.
    """
    done = target.run(script, seconds=seconds)
    if done.code:
        raise ConflictError(
            f"{target.title}: {what} failed with code {done.code}:\n{done.last_words}",
            next_step="Mend what it says there, then do the same again: what is done stays done.",
        )
    return done.out


def send(target: Target, files: Mapping[str, Path], folder: str) -> int:
    """Bring files into a folder of the machine; those that are there already stay.

    Args:
        target: the machine.
        files: by their names below the folder, where they lie here.
        folder: where they go; made when missing.

    Returns:
        How many bytes went over.

    Raises:
        ConflictError: what arrived is not what was sent, or there is no room.
    """
    wanted = {name: digest_of(path) for name, path in files.items()}
    listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(wanted.items()))
    at = shlex.quote(folder)
    check = f"cd {at} && sha256sum --check --quiet - 2>/dev/null"
    found = target.run(
        f"mkdir -p {at} && cd {at} && while read -r digest name; do "
        '[ "$(sha256sum "$name" 2>/dev/null | cut -c1-64)" = "$digest" ] || echo "$name"; done',
        feed=feed_text(listed),
        seconds=SEND_SECONDS,
    )
    missing = [name for name in found.out.splitlines() if name in wanted]
    if not missing and not found.code:
        return 0

    def write(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for name in missing:
                archive.add(files[name], arcname=name, filter=_plain)

    done = target.run(f"tar -xf - -C {at}", feed=write, seconds=SEND_SECONDS)
    checked = target.run(check, feed=feed_text(listed), seconds=SEND_SECONDS)
    if done.code or checked.code:
        raise ConflictError(
            f"{target.title}: files did not arrive whole in {folder}:\n{done.last_words}",
            next_step=f"Look whether the disk of {folder} is full (df -h), then try again.",
        )
    return sum(files[name].stat().st_size for name in missing)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Keep the name and the right to be executed; nothing about who sent it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def digest_of(path: Path) -> str:
    """Give a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Here:
    """This machine itself."""

    title = "this machine"

    def run(self, script: str, *, feed: Feed | None = None, seconds: float = SECONDS) -> Done:
        """Run a script; the caller has to be root."""
        return communicate(["/bin/sh", "-c", script], feed=feed, seconds=seconds, title=self.title)


def communicate(
    command: list[str],
    *,
    feed: Feed | None,
    seconds: float,
    title: str,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Run a program, feed it, and give how it ended.

    Raises:
        BusyError: it took too long; it was ended.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if environment is None else dict(environment),
    ) as process:
        try:
            out, err = _exchange(process, feed, seconds)
        except subprocess.TimeoutExpired as fault:
            process.kill()
            raise BusyError(
                f"{title} did not finish within {seconds:.0f} s.",
                next_step="Look whether it is very busy or its network is slow; then try again.",
                retry_after_seconds=30,
            ) from fault
        except BaseException:
            process.kill()
            raise
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def _exchange(
    process: subprocess.Popen[bytes], feed: Feed | None, seconds: float
) -> tuple[bytes, bytes]:
    """Write its input beside reading what it says, so that neither waits for the other."""
    pipe, process.stdin = process.stdin, None  # It is the writer's alone.
    if pipe is None or feed is None:
        return process.communicate(timeout=seconds)

    def write() -> None:
        with suppress(OSError), pipe:  # A program that ended early has said why.
            feed(pipe)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
        writer.join()
