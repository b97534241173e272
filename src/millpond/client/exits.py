"""The exit codes of the command line, one meaning each."""

from millpond.client.faults import ServerDefectError
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    TooLargeError,
    TooManyError,
)

DONE, DEFECT, WRONG_USE, RUN_FAILED, LOG_NOT_GENUINE, INTERRUPTED = 0, 1, 2, 8, 9, 130

MEANINGS = {
    0: "done",
    1: "a defect of Millpond's own",
    2: "wrong use of a command: an unknown option, a missing argument",
    3: "not found",
    4: "not allowed, or not signed in",
    5: "conflict: it is there, in a state that forbids this",
    6: "invalid input; every fault is named",
    7: "busy, or no server answers; try again later",
    8: "a run, a build or a job failed or was cancelled",
    9: "the log is not genuine",
    130: "interrupted (Ctrl-C)",
}

_CODES: list[tuple[type[MillpondError], int]] = [
    (ServerDefectError, 1),
    (NotFoundError, 3),
    (NotSignedInError, 4),
    (NotAllowedError, 4),
    (ConflictError, 5),
    (InvalidError, 6),
    (TooLargeError, 6),
    (TooManyError, 7),
    (BusyError, 7),
]


class FailedError(MillpondError):
    """What was waited for ended badly: a run, a build."""


class NotGenuineError(MillpondError):
    """A log does not fit its own seals."""


def exit_code(fault: MillpondError) -> int:
    """Give the exit code of an error."""
    if isinstance(fault, FailedError):
        return RUN_FAILED
    if isinstance(fault, NotGenuineError):
        return LOG_NOT_GENUINE
    return next((code for kind, code in _CODES if isinstance(fault, kind)), DEFECT)
