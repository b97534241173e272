"""The port to a builder of environments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from millpond.environments.rules import python_of
from millpond.environments.values import EnvironmentPlace, SourceOrder
from millpond.ground.canonical import digest_of_bytes

if TYPE_CHECKING:  # A node, which builds as well, has no queue and no database.
    from millpond.jobs.port import Lease

OnLine = Callable[[str], None]
LOCK_SCHEME = "lock:"
"""What the name begins with by which a task tells a node of its environment."""


def name_for_nodes(lock_text: str) -> tuple[str, str]:
    """Give the name of a lock's environment where nodes make it, and its Python, as ``3.11``."""
    return f"{LOCK_SCHEME}{digest_of_bytes(lock_text.encode())}", python_of(lock_text)


class Builder(Protocol):
    """Something that locks requirements and makes read-only venvs of locks on this machine."""

    @property
    def python_version(self) -> str:
        """The Python it locks and builds for, such as ``3.11``."""
        ...

    def lock(self, requirements: str, on_line: OnLine) -> str:
        """Resolve requirements, checked beforehand, to a lock with hashes for every platform.

        Raises:
            InvalidError: no set of packages satisfies them; says which and why.
            BusyError: the package index can't be reached and the cache does not hold enough.
        """
        ...

    def ensure(self, lock_text: str, on_line: OnLine) -> EnvironmentPlace:
        """Give the venv of a lock, making it when it is not there; waits for another who does.

        Cost: from milliseconds when it is there to minutes.

        Raises:
            InvalidError: a package has no wheel for this machine, or a hash does not match.
            BusyError: the package index can't be reached, or the disk is full.
        """
        ...

    def find(self, lock_text: str) -> EnvironmentPlace | None:
        """Give the venv of a lock when it is there and whole."""
        ...


class SourceBuilder(Protocol):
    """Something that locks requirements and builds the packages that are to come from source."""

    def lock(self, order: SourceOrder, lease: "Lease", on_line: OnLine) -> str:
        """Lock and build; give the lock, which names the wheels that were built.

        Raises:
            InvalidError: there is no sandbox, or a package can't be had or built; says why.
            BusyError: the index can't be reached, or the sandbox was lost.
            LeaseLostError: the job has passed to another.
            StoppingError: this server is stopping.
        """
        ...
