"""Environments made by uv: one read-only venv for each lock, interpreter and platform.

A venv is made in a folder beside its place, under a lock file, and renamed when it is whole, so
nobody ever sees half of one. Files are copied out of uv's cache, never linked: a linked file is
one with the cache's and with that of every other environment, and a change in one would show in
all, also in those made later.
"""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from millpond.environments.built import list_wheels
from millpond.environments.port import OnLine
from millpond.environments.rules import (
    clean_requirements,
    explain_failure,
    is_index_away,
    list_packages,
    make_lock,
    mask_secrets,
    python_of,
)
from millpond.environments.values import EnvironmentPlace
from millpond.ground.canonical import digest_of
from millpond.ground.errors import BusyError, Fault, InvalidError

_MARKER = ".complete"
_DROPPED = (
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "UV_PROJECT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
)
_PROBE = (
    "import json,sys,sysconfig,platform;"
    "print(json.dumps([sys.base_prefix,platform.python_version(),sysconfig.get_platform(),"
    "sys.implementation.cache_tag]))"
)


class WheelSource(Protocol):
    """Where wheels are that were built from source; every object store is one."""

    def stream(self, key: str) -> Iterator[bytes]:
        """Give an object's bytes."""
        ...


def choose_interpreter() -> Path:
    """Give the interpreter that this process stands on, without its virtual environment."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


class UvBuilder:
    """Locks with ``uv pip compile`` and installs with ``uv pip sync``. Safe to share."""

    def __init__(
        self,
        root: Path,
        *,
        uv: Path,
        interpreter: Path,
        environment: Mapping[str, str],
        seconds: float = 1800.0,
        objects: WheelSource | None = None,
    ) -> None:
        """Keep venvs below ``root``; one folder may serve many processes.

        Args:
            root: where venvs are kept.
            uv: the program.
            interpreter: the Python that venvs stand on; a sandbox must be able to see it.
            environment: variables for uv: the index, proxies and certificates of whoever runs
                Millpond. They never reach a user's code.
            seconds: the longest time of one run of uv.
            objects: where wheels are that were built from source.
        """
        self._root = root
        self._uv = uv
        self._interpreter = interpreter
        self._seconds, self._objects = seconds, objects
        self._environment = {
            **{
                name: value
                for name, value in environment.items()
                if name not in _DROPPED and not name.startswith("MILLPOND_")
            },
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }
        root.mkdir(parents=True, exist_ok=True)
        command = [str(interpreter), "-I", "-c", _PROBE]
        found = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
        prefix, self._version, *self._platform = json.loads(found)
        self._prefix = Path(prefix)

    @property
    def python_version(self) -> str:
        """The Python it locks and builds for, such as ``3.11``."""
        return ".".join(self._version.split(".")[:2])

    def lock(self, requirements: str, on_line: OnLine) -> str:
        """Resolve for every platform; only packages with wheels count."""
        asked = clean_requirements(requirements)
        if not asked:
            return make_lock("", self.python_version)
        with tempfile.TemporaryDirectory(prefix="millpond-lock-") as folder:
            Path(folder, "requirements.in").write_text(asked)
            command = ["pip", "compile", "requirements.in", "--universal", "--generate-hashes"]
            command += ["--python-version", self.python_version, "--only-binary", ":all:"]
            command += ["--python", str(self._interpreter), "--no-header", "--no-annotate"]
            command += ["--no-sources", "--no-strip-extras", "--output-file", "requirements.txt"]
            self._run([*command, "--quiet"], Path(folder), on_line, "requirements")
            return make_lock(Path(folder, "requirements.txt").read_text(), self.python_version)

    def find(self, lock_text: str) -> EnvironmentPlace | None:
        """Look for the marker that a whole venv holds."""
        place = self._place(lock_text)
        return place if (place.path / _MARKER).is_file() else None

    def ensure(self, lock_text: str, on_line: OnLine) -> EnvironmentPlace:
        """Make the venv under its lock file, unless it is there."""
        if found := self.find(lock_text):
            return found
        if python_of(lock_text) != self.python_version:
            raise InvalidError(
                f"The lock is for Python {python_of(lock_text)}; here is {self._version}.",
                next_step="Make a new version of the environment: it is locked for this Python.",
                faults=[Fault("lock", f"needs Python {python_of(lock_text)}")],
            )
        place = self._place(lock_text)
        with _locked(self._root / f"{place.key}.lock", on_line):
            if found := self.find(lock_text):
                return found
            for left in self._root.glob(f".making-{place.key}-*"):
                _remove(left)  # Its maker is dead: we hold the lock.
            making = self._root / f".making-{place.key}-{uuid4().hex[:8]}"
            try:
                self._make(making, lock_text, on_line)
                making.rename(place.path)
            except OSError as fault:
                raise _no_disk(fault) from fault
            finally:
                _remove(making)
        return place

    def discard(self, key: str) -> None:
        """Remove a venv that nothing uses, unless somebody makes it at this moment."""
        with suppress(BlockingIOError), _locked(self._root / f"{key}.lock", None):
            _remove(self._root / key)

    def sweep(self) -> int:
        """Remove half-made venvs that nobody works on any more; give how many."""
        removed = 0
        for left in self._root.glob(".making-*"):
            key = left.name.split("-")[1]
            with suppress(BlockingIOError), _locked(self._root / f"{key}.lock", None):
                _remove(left)
                removed += 1
        return removed

    def _place(self, lock_text: str) -> EnvironmentPlace:
        key = digest_of([lock_text, str(self._interpreter), self._version, self._platform])
        return EnvironmentPlace(self._root / key, self._prefix, self._version, key)

    def _make(self, folder: Path, lock_text: str, on_line: OnLine) -> None:
        folder.mkdir(mode=0o755)
        venv = ["venv", "--quiet", "--no-project", "--allow-existing", "--relocatable"]
        venv += ["--python", str(self._interpreter), str(folder)]
        self._run(venv, folder, on_line, "lock")
        if count := len(list_packages(lock_text)):
            on_line(f"Installing up to {count} packages")
            (folder / "lock.txt").write_text(lock_text)
            sync = ["pip", "sync", "lock.txt", "--python", str(folder / "bin" / "python")]
            sync += ["--require-hashes", "--only-binary", ":all:", "--link-mode", "copy"]
            sync += ["--no-compile-bytecode", "--no-sources"]
            with tempfile.TemporaryDirectory(prefix="millpond-wheels-") as wheels:
                if self._bring_wheels(lock_text, Path(wheels)):
                    sync += ["--find-links", wheels]
                self._run(sync, folder, on_line, "lock")
            self._compile(folder, on_line)
        on_line("Making it read-only")
        (folder / _MARKER).write_text(json.dumps({"python": self._version}))
        _make_read_only(folder)
        os.sync()  # After a power cut a whole name must not stand on half the files.

    def _bring_wheels(self, lock_text: str, folder: Path) -> int:
        """Bring here what was built from source; its hash is checked when it is installed."""
        wheels = list_wheels(lock_text) if self._objects else ()
        for wheel in wheels:
            assert self._objects is not None  # noqa: S101 - else there are none.
            with (folder / wheel.filename).open("xb") as file:
                file.writelines(self._objects.stream(wheel.key))
        return len(wheels)

    def _compile(self, folder: Path, on_line: OnLine) -> None:
        """Compile with the interpreter itself: the venv's own would run the packages' ``.pth``."""
        on_line("Compiling byte code")
        command = [str(self._interpreter), "-I", "-S", "-m", "compileall", "-qq", "-j", "0"]
        self._call([*command, str(folder / "lib")], folder, on_line)  # Some files are no Python.

    def _run(self, command: list[str], folder: Path, on_line: OnLine, field: str) -> None:
        """Run uv; once more from its cache alone when the index can't be reached."""
        code, output = self._call([str(self._uv), *command], folder, on_line)
        if code and is_index_away(output):
            on_line("The package index can't be reached; trying with what the cache holds")
            offline = [str(self._uv), *command, "--offline"]
            offline_code, _ = self._call(offline, folder, on_line)
            if not offline_code:
                return
            raise BusyError(
                f"The package index can't be reached: {explain_failure(output)}",
                next_step="Check the network and the index that uv is set up with on the server.",
                retry_after_seconds=30.0,
            )
        if code == -signal.SIGKILL:
            raise BusyError(
                "The package installer was stopped by the system, perhaps for want of memory.",
                next_step="Try again when the server has more memory free.",
                retry_after_seconds=30.0,
            )
        if code and "No space left" in output:
            raise _no_disk(OSError(explain_failure(output)))
        if code:
            reason = explain_failure(output)
            raise InvalidError(
                reason,
                next_step="Mend the requirements and make a new version.",
                faults=[Fault(field, reason)],
            )

    def _call(self, command: list[str], folder: Path, on_line: OnLine) -> tuple[int, str]:
        lines: list[str] = []
        with subprocess.Popen(
            command,
            cwd=folder,  # Nothing of the server's own folder is found from here.
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        ) as process:
            is_late = threading.Event()

            def stop() -> None:
                is_late.set()
                _kill(process.pid)

            end = threading.Timer(self._seconds, stop)
            end.start()
            try:
                assert process.stdout is not None  # noqa: S101 - asked for above.
                for line in process.stdout:
                    lines.append(mask_secrets(line.rstrip()))
                    on_line(lines[-1])
            except BaseException:
                _kill(process.pid)
                raise
            finally:
                end.cancel()
        if is_late.is_set():
            raise InvalidError(
                f"The package installer was stopped after {self._seconds:g} seconds.",
                next_step="Ask for fewer packages, or have an administrator allow more time.",
                faults=[Fault("requirements", f"took more than {self._seconds:g} seconds")],
            )
        return process.returncode, "\n".join(lines)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextmanager
def _locked(path: Path, on_line: OnLine | None) -> Iterator[None]:
    """Hold a lock file; without ``on_line`` raise BlockingIOError rather than wait."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_line is None:
                raise
            on_line("Somebody else is making this environment; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # The lock goes with the file; the file stays, so that all lock the same one.


def _make_read_only(folder: Path) -> None:
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(path, name)
            if not file.is_symlink():
                is_program = file.stat().st_mode & stat.S_IXUSR
                file.chmod(0o555 if is_program else 0o444)
        Path(path).chmod(0o555)


def _remove(folder: Path) -> None:
    if folder.exists():
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o755)  # Who is not root can't empty a read-only folder.
        shutil.rmtree(folder)


def _no_disk(fault: OSError) -> BusyError:
    return BusyError(
        f"The environment could not be written: {fault}",
        next_step="Free space on the server's disk; `millpond doctor` there shows what is left.",
        retry_after_seconds=30.0,
    )
