"""Faults as RFC 9457 problems: one form for ours, the framework's and the unexpected."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from millpond.ground.errors import Fault, InvalidError, MillpondError

MEDIA_TYPE = "application/problem+json"

SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457), with what to do next.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "next_step", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "`/problems/` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, with the values."},
        "code": {"type": "string", "description": "A name to match on; never renamed."},
        "next_step": {"type": "string", "description": "What to do about it."},
        "faults": {
            "type": "array",
            "description": "Everything that is wrong with the request.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "facts": {"type": "object"},
        "incident": {
            "type": "string",
            "description": "Of a defect of ours: look it up in the log.",
        },
        "request_id": {"type": "string"},
    },
}

_TITLES = {
    "not_found": "Not found",
    "not_signed_in": "Not signed in",
    "not_allowed": "Not allowed",
    "conflict": "Conflict",
    "too_large": "Too large",
    "invalid": "The request is wrong",
    "too_many": "Too many tries",
    "busy": "Busy",
    "defect": "A defect of Millpond's",
}
_NEXT_STEPS = {
    404: "Check the address; `GET /api/v1/openapi.json` lists them all.",
    405: "Use a method that the Allow header names.",
}


def as_error(fault: RequestValidationError) -> InvalidError:
    """Turn the framework's list of faults into ours, all of them."""
    errors = fault.errors()
    faults = [Fault(_field(error.get("loc", ())), _message(error)) for error in errors]
    if errors and all(error.get("loc", ("",))[0] == "path" for error in errors):
        return InvalidError(
            "; ".join(f"{fault.field.replace('_', ' ')}: {fault.message}" for fault in faults)
            + ".",
            next_step="Check how it is spelt: the list of these, on its page or by its command,"
            " shows the ones there are.",
            faults=faults,
        )
    count = f"{len(faults)} faults" if len(faults) != 1 else "one fault"
    return InvalidError(
        f"The request has {count}: "
        + "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:5]),
        next_step="Mend what `faults` names and send it again; `GET /api/v1/openapi.json`"
        " describes every field.",
        faults=faults,
    )


def problem_of(fault: MillpondError, request_id: str) -> JSONResponse:
    """Write a caller's fault as a problem."""
    headers: dict[str, str] = {}
    wait = getattr(fault, "retry_after_seconds", None)
    if wait is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if fault.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="millpond"'
    content = _problem(fault.status, fault.code, fault.message, fault.next_step, request_id)
    if isinstance(fault, InvalidError):
        content["faults"] = _faults(fault.faults)
    if fault.facts:
        content["facts"] = dict(fault.facts)
    return JSONResponse(content, fault.status, headers, MEDIA_TYPE)


def problem_of_http(fault: HTTPException, request_id: str) -> JSONResponse:
    """Write a fault of the framework's, such as an address that nothing answers."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(
        fault.status_code, HTTPStatus(fault.status_code).phrase.lower().replace(" ", "_")
    )
    step = _NEXT_STEPS.get(fault.status_code, "Check the request.")
    content = _problem(fault.status_code, code, str(fault.detail), step, request_id)
    return JSONResponse(content, fault.status_code, fault.headers, MEDIA_TYPE)


def problem_of_defect(incident: str, request_id: str) -> JSONResponse:
    """Write that something of ours broke, without a word of what."""
    content = _problem(
        500,
        "defect",
        f"Millpond failed to do this; the incident is {incident}.",
        "Give the incident's number to an administrator: the server's log tells what happened.",
        request_id,
    )
    return JSONResponse({**content, "incident": incident}, 500, media_type=MEDIA_TYPE)


def _problem(
    status: int, code: str, detail: str, next_step: str, request_id: str
) -> dict[str, object]:
    return {
        "type": f"/problems/{code}",
        "title": _TITLES.get(code, code.replace("_", " ").capitalize()),
        "status": int(status),
        "detail": detail,
        "code": code,
        "next_step": next_step,
        "request_id": request_id,
    }


def _faults(faults: Sequence[Fault]) -> list[dict[str, str]]:
    return [{"field": fault.field, "message": fault.message} for fault in faults]


def _field(location: Sequence[object]) -> str:
    """Name a field as the sender knows it: without the framework's word for where it stood."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    return ".".join(parts)


def _message(error: dict[str, Any]) -> str:
    if error.get("type") == "json_invalid":
        reason = error.get("ctx", {}).get("error", "unreadable")
        return f"not JSON: {reason}"
    if error.get("type") == "extra_forbidden":
        return "there is no such field"
    if error.get("type") == "string_pattern_mismatch":
        pattern = error.get("ctx", {}).get("pattern", "")
        # What stands in an address is no secret; what stands in a body may be one.
        is_open = error.get("loc", ("",))[0] == "path"
        what = repr(str(error.get("input", ""))[:80]) if is_open else "it"
        return f"{what} is not formed like one: {pattern}"
    text = str(error.get("msg", "wrong"))
    return text[:1].lower() + text[1:]
