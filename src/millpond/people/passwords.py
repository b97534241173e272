"""Password hashes: argon2id, a few at a time, never inside a transaction."""

from functools import cached_property
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from millpond.ground.errors import BusyError

_WAIT_SECONDS = 20.0


class Passwords:
    """Hashes and checks passwords, and takes as long for a user who does not exist."""

    def __init__(self, *, passes: int = 3, memory_kib: int = 65_536, at_once: int = 2) -> None:
        """Take argon2's cost; the defaults are its second recommended set (RFC 9106).

        Args:
            passes: over the memory.
            memory_kib: of one hash, in KiB.
            at_once: hashes at the same time; each takes one core for some 50 ms.
        """
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=4)
        self._gate = BoundedSemaphore(at_once)

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash("the password of nobody at all")

    def hash(self, password: str) -> str:
        """Hash a new password; takes some 50 ms."""
        with _Turn(self._gate):
            return self._hasher.hash(password)

    def is_right(self, hashed: str | None, password: str) -> bool:
        """Check a password; without a hash, take the time it would have taken and say no."""
        with _Turn(self._gate):
            try:
                return self._hasher.verify(hashed or self._nobodys, password) and hashed is not None
            except (VerificationError, InvalidHashError):
                return False


class _Turn:
    def __init__(self, gate: BoundedSemaphore) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        if not self._gate.acquire(timeout=_WAIT_SECONDS):
            raise BusyError(
                "Too many people are signing in at this moment.",
                next_step="Try again in a few seconds.",
                retry_after_seconds=5.0,
            )

    def __exit__(self, *_: object) -> None:
        self._gate.release()
