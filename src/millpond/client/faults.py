"""Turn a server's problem response back into the error it began as, with the same words."""

from collections.abc import Mapping
from typing import Any

from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    TooLargeError,
    TooManyError,
)


class UnreachableError(BusyError):
    """No server answered at the address, or the connection broke."""


class ServerDefectError(MillpondError):
    """The server failed by a defect of its own; ``facts`` may name the incident."""

    status = 500


_PLAIN: dict[int, type[MillpondError]] = {
    400: InvalidError,
    401: NotSignedInError,
    403: NotAllowedError,
    404: NotFoundError,
    405: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    422: InvalidError,
    429: TooManyError,
    503: BusyError,
}
_WORDS = {
    "type", "title", "status", "detail", "instance", "code", "message", "next_step", "faults",
    "facts", "retry_after_seconds",
}  # fmt: skip


def error_from(status: int, body: Any, retry_after: str | None = None) -> MillpondError:
    """Make the error that a response stands for.

    Args:
        status: the response's HTTP status, 400 or more.
        body: its JSON, or None when it had none (a proxy's page, for example).
        retry_after: its Retry-After header, in seconds.
    """
    facts_in = body if isinstance(body, Mapping) else {}
    message = str(
        facts_in.get("detail")
        or facts_in.get("message")
        or facts_in.get("title")
        or f"The server answered {status} without saying why."
    )
    next_step = str(facts_in.get("next_step") or _next_step(status))
    facts = {str(k): v for k, v in facts_in.items() if k not in _WORDS}
    inner = facts_in.get("facts")
    if isinstance(inner, Mapping):
        facts |= {str(k): v for k, v in inner.items()}
    for taken in ("self", "message", "next_step", "faults", "retry_after_seconds"):
        facts.pop(taken, None)
    kind = _PLAIN.get(status, ServerDefectError)
    if issubclass(kind, InvalidError):
        return InvalidError(message, next_step=next_step, faults=_faults(facts_in), **facts)
    if kind is BusyError or kind is TooManyError:
        wait = _seconds(facts_in.get("retry_after_seconds"), _seconds(retry_after, 1.0))
        return kind(message, next_step=next_step, retry_after_seconds=wait, **facts)
    return kind(message, next_step=next_step, **facts)


def _next_step(status: int) -> str:
    if status < 500:  # noqa: PLR2004 - the border between the caller's faults and the server's.
        return "Check the address and the arguments of the call."
    return "Try again; if it stays, give the server's administrator the time and this message."


def _faults(body: Mapping[str, Any]) -> list[Fault]:
    rows = body.get("faults")
    if not isinstance(rows, list):
        return []
    return [
        Fault(str(row.get("field", "")), str(row.get("message", "")))
        for row in rows
        if isinstance(row, Mapping)
    ]


def _seconds(value: object, otherwise: float) -> float:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return otherwise
