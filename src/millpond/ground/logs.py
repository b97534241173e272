"""Logs: one JSON object a line, or a line for people on a terminal, each with its request id."""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

REQUEST_ID: ContextVar[str] = ContextVar("millpond_request_id", default="")
"""The id of the request this thread or task works for; set by the frame."""

_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime"}


def set_up_logs(
    level: str = "INFO", *, is_human: bool | None = None, to: TextIO | None = None
) -> None:
    """Write the logs of the whole process to ``to`` (standard error).

    The form is for people when that is a terminal, unless ``is_human`` says otherwise.
    """
    stream = to or sys.stderr
    handler = logging.StreamHandler(stream)
    human = stream.isatty() if is_human is None else is_human
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # The frame and the migrations write their own lines.
    for noisy in ("uvicorn", "httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, message, request_id, and the extra facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; what JSON has no form for is written as text."""
        entry: dict[str, object] = {
            "at": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        entry |= _facts(record)
        if record.exc_info and record.exc_info[0]:
            entry["trace"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """Time, level and message, then the facts; the trace below."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record for people; control characters are shown, never sent."""
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items())
        text = f"{record.getMessage()} {facts}".rstrip()
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        line = f"{_moment(record):%H:%M:%S} {record.levelname.lower():7} {shown}"
        if record.exc_info and record.exc_info[0]:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _OWN}
