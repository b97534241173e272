"""What the environments room hands out: environments, versions with their locks, places on disk."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

State = Literal["locking", "building", "ready", "failed"]


@dataclass(frozen=True)
class Package:
    """One package that a lock pins."""

    name: str
    version: str


@dataclass(frozen=True)
class Environment:
    """An environment with the state of its newest version."""

    id: str
    name: str
    newest: int
    state: State
    created_at: datetime
    created_by: str


@dataclass(frozen=True)
class EnvironmentVersion:
    """One version of an environment: what was asked for, and the lock that came of it.

    Attributes:
        name: the environment's name.
        number: 1, 2, 3 and so on within the environment.
        state: locking, building, ready or failed.
        reason: why it failed, in words; empty otherwise.
        requirements: what was asked for, as it was sent.
        build_from_source: names of the packages that are built from source, in the sandbox.
        lock_digest: sha256 of the lock; empty until it is locked.
        python_version: such as ``3.11``; empty until it is locked.
        packages: what the lock pins, by name.
        unchanged: whether a request found this same version already the newest.
    """

    id: str
    name: str
    number: int
    state: State
    reason: str
    requirements: str
    lock_digest: str
    python_version: str
    packages: tuple[Package, ...]
    created_at: datetime
    created_by: str
    ready_at: datetime | None
    build_from_source: tuple[str, ...] = ()
    unchanged: bool = False

    @property
    def address(self) -> str:
        """Name and number, such as ``torch-cpu@2``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class EnvironmentPlace:
    """A built environment on this machine.

    Attributes:
        path: the read-only venv.
        python_prefix: folder of the interpreter the venv stands on; a sandbox must see it too.
        python_version: such as ``3.11.7``.
        key: sha256 of lock, interpreter and platform: the name of the venv's folder.
    """

    path: Path
    python_prefix: Path
    python_version: str
    key: str


@dataclass(frozen=True)
class SourceOrder:
    """What is to be locked with some packages built from source.

    Attributes:
        project_id: whose it is.
        version_id: the environment's version.
        user_id: whose sandbox it is built in.
        requirements: checked beforehand.
        names: the packages to build, in their normal form.
    """

    project_id: str
    version_id: str
    user_id: str
    requirements: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class LogPart:
    """A piece of a build's log.

    Attributes:
        text: whole lines.
        next: what to ask for next (``after``).
        is_complete: whether nothing more will come.
    """

    text: str
    next: int
    is_complete: bool
