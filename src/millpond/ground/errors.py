"""Every fault a caller can cause, with a stable code, the facts, and the next step.

MillpondError
├── NotFoundError       404  it is not there, or the caller may not know that it is
├── NotSignedInError    401  nobody, or a token that is wrong, expired or withdrawn
├── NotAllowedError     403  the role or the token's scope lacks the permission
├── ConflictError       409  it is there, in a state that forbids this
├── TooLargeError       413  more bytes or files than a limit allows
├── InvalidError        422  the request itself is wrong; lists every fault at once
├── TooManyError        429  too many tries; says when to try again
└── BusyError           503  it works, but not now; says when to try again

Anything else that escapes is our defect: 500, with an incident number, the trace in the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request.

    Attributes:
        field: dotted path of the field in the request, for example ``parameters.min_score``.
        message: what is wrong, with the value and what was needed.
    """

    field: str
    message: str


class MillpondError(Exception):
    """Base of every fault that is the caller's to mend."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str, **facts: object) -> None:
        """Keep the message, the next step and the facts for machines (JSON values only)."""
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.facts: Mapping[str, object] = facts

    @property
    def code(self) -> str:
        """Name that clients may match on, for example ``not_allowed``; never renamed."""
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return words.strip("_").removesuffix("_error")


class NotFoundError(MillpondError):
    """It is not there, or the caller may not know that it is."""

    status = 404


class NotSignedInError(MillpondError):
    """Nobody is signed in, or the token is wrong, expired or withdrawn."""

    status = 401


class NotAllowedError(MillpondError):
    """The role or the token's scope lacks the permission."""

    status = 403


class ConflictError(MillpondError):
    """It is there, in a state that forbids this."""

    status = 409


class TooLargeError(MillpondError):
    """More bytes or files than a limit allows; ``facts`` names the limit."""

    status = 413


class InvalidError(MillpondError):
    """The request is wrong; ``faults`` lists everything that is, not just the first."""

    status = 422

    def __init__(
        self, message: str, *, next_step: str, faults: Sequence[Fault] = (), **facts: object
    ) -> None:
        """Keep all faults, in the order of the request's fields."""
        super().__init__(message, next_step=next_step, **facts)
        self.faults = tuple(faults)


class _LaterError(MillpondError):
    def __init__(
        self, message: str, *, next_step: str, retry_after_seconds: float = 1.0, **facts: object
    ) -> None:
        super().__init__(message, next_step=next_step, **facts)
        self.retry_after_seconds = retry_after_seconds


class TooManyError(_LaterError):
    """Too many tries; ``retry_after_seconds`` says when the next one counts."""

    status = 429


class BusyError(_LaterError):
    """It works, but not now; ``retry_after_seconds`` says when to try again."""

    status = 503
