"""Environments on a node: made from the lock that the host gives, with the host's package cache."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from millpond.environments.built import list_wheels
from millpond.environments.port import LOCK_SCHEME
from millpond.environments.rules import python_of
from millpond.environments.uv import UvBuilder, choose_interpreter
from millpond.ground.canonical import digest_of_bytes
from millpond.ground.errors import BusyError, Fault, InvalidError
from millpond.ground.tls import Identity

ReadLock = Callable[[str], str]
"""Gives the lock of a digest, from the host."""

OpenObject = Callable[[str], Iterator[bytes]]
"""Gives the bytes of an object by its key: of a wheel that was built from source."""

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_PROBE_SECONDS = 30
_UNUSED_SECONDS = 3 * 86_400.0


class NodeEnvironments:
    """Gives the folder of an environment by its lock's digest. Safe to share between threads."""

    def __init__(
        self,
        folder: Path,
        *,
        uv: Path,
        variables: Mapping[str, str],
        read_lock: ReadLock,
        open_object: OpenObject,
        seconds: float = 1800.0,
    ) -> None:
        """Keep venvs below a folder.

        Args:
            folder: of this node; sandboxes see into it.
            uv: the program.
            variables: for uv: where the package index is, and by what certificate.
            read_lock: asks the host.
            open_object: fetches wheels that were built from source.
            seconds: the longest time of one run of uv.
        """
        self._folder, self._uv, self._variables = folder, uv, variables
        self._read_lock, self._open, self._seconds = read_lock, open_object, seconds
        self._builders: dict[str, UvBuilder] = {}
        self._made: dict[str, str] = {}
        self._lock = threading.Lock()
        (folder / "locks").mkdir(mode=0o755, parents=True, exist_ok=True)

    def prepare(self, environment: str) -> str:
        """Give the folder of ``lock:DIGEST``, made when it is not there; a folder as it is.

        Raises:
            InvalidError: it can't be made here; says what is missing.
            BusyError: the host or its package index is away.
        """
        if not environment.startswith(LOCK_SCHEME):
            return environment
        digest = environment.removeprefix(LOCK_SCHEME)
        with self._lock:
            made = self._made.get(digest, "")
        if made and Path(made).is_dir():
            self._note_use(made)
            return made
        text = self._read(digest)
        place = self._builder(python_of(text)).ensure(text, lambda _: None)
        with self._lock:
            self._made[digest] = str(place.path)
        self._note_use(str(place.path))
        return str(place.path)

    def trim(self, free_least: float = 0.1) -> int:
        """Remove, while less than a share of the disk is free, what was long unused; give how many.

        No task takes as long as that, so nothing that is in use is removed.
        """
        usage = shutil.disk_usage(self._folder)
        if usage.free >= usage.total * free_least or not self._builders:
            return 0
        with self._lock:
            builder = next(iter(self._builders.values()))
            self._made = {}
        oldest, removed = time.time() - _UNUSED_SECONDS, 0
        for lock in self._folder.glob("*.lock"):
            if lock.stat().st_mtime < oldest and lock.with_suffix("").is_dir():
                builder.discard(lock.stem)
                removed += 1
        return removed

    def _note_use(self, folder: str) -> None:
        """Remember when an environment was used last: its lock file tells."""
        Path(f"{folder}.lock").touch()

    def _read(self, digest: str) -> str:
        """Give a lock's text, from here when it was asked for before."""
        kept = self._folder / "locks" / f"{digest}.txt"
        text = kept.read_text() if kept.is_file() else ""
        if digest_of_bytes(text.encode()) == digest:
            return text
        text = self._read_lock(digest)
        if digest_of_bytes(text.encode()) != digest:
            raise BusyError(
                "The host gave another lock than was asked for.", next_step="It is tried again."
            )
        making = kept.with_name(f".{digest}.{os.getpid()}.{threading.get_ident()}")
        making.write_text(text)
        making.replace(kept)
        return text

    def _builder(self, version: str) -> UvBuilder:
        with self._lock:
            if version not in self._builders:
                self._builders[version] = UvBuilder(
                    self._folder,
                    uv=self._uv,
                    interpreter=find_interpreter(version),
                    environment=self._variables,
                    seconds=self._seconds,
                    objects=_Wheels(self._open),
                )
                self._builders[version].sweep()
            return self._builders[version]


class _Wheels:
    """What a builder asks of an object store: it only streams wheels."""

    def __init__(self, open_object: OpenObject) -> None:
        self._open = open_object

    def stream(self, key: str) -> Iterator[bytes]:
        return self._open(key)


def wheels_of(lock_text: str) -> tuple[str, ...]:
    """Give the keys of the wheels that were built from source for a lock."""
    return tuple(wheel.key for wheel in list_wheels(lock_text))


def find_interpreter(version: str) -> Path:
    """Find a Python of a version, such as ``3.11``, on this machine: our own, or the system's.

    Raises:
        InvalidError: there is none; says what to install.
    """
    named = shutil.which(f"python{version}") or f"/usr/bin/python{version}"
    for path in (choose_interpreter(), Path(named), Path("/usr/bin/python3")):
        if path.is_file() and _version_of(path) == version:
            return path.resolve()
    raise InvalidError(
        f"The lock is for Python {version}, which this node does not have.",
        next_step=f"Install it there (`apt-get install python{version}`), or make a new version of"
        " the environment.",
        faults=[Fault("lock", f"needs Python {version}")],
    )


def _version_of(path: Path) -> str:
    command = [str(path), "-I", "-S", "-c", _VERSION]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def index_of_host(url: str, identity: Identity, folder: Path) -> dict[str, str]:
    """Give the variables by which uv asks the host's package cache, by the node's certificate.

    Args:
        url: of the packages at the door.
        identity: the node's.
        folder: of the node: here uv works, and finds certificate and key together in one file.
    """
    both, scratch = folder / "uv.pem", folder / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)  # What a killed process left.
    scratch.mkdir(mode=0o700)
    descriptor = os.open(both, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(identity.certificate.read_bytes() + b"\n" + identity.key.read_bytes())
    return {
        "UV_DEFAULT_INDEX": f"{url}/simple",
        "SSL_CERT_FILE": str(identity.authority),
        "SSL_CLIENT_CERT": str(both),
        "UV_NO_CONFIG": "1",
        "UV_NO_CACHE": "1",  # The host has one: here each file would lie twice.
        "TMPDIR": str(scratch),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "NO_PROXY": "*",
    }
