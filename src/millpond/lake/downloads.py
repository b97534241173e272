"""Answers that carry bytes of users: ranges, safe names, never shown as a page; for all rooms."""

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from millpond.lake.contents import stream_zip
from millpond.lake.rules import parse_range
from millpond.storage.port import ObjectStore

_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_HEADERS = {"X-Content-Type-Options": "nosniff"}


def answer_content(
    objects: ObjectStore, key: str, raw_name: bytes, range_header: str | None, etag: str
) -> StreamingResponse:
    """Send an object, or the range of it that is asked for, as a download of this name.

    Raises:
        HTTPException: 416, the range lies outside.
        NotFoundError: there is no such object.
    """
    size = objects.stat(key).size
    try:
        part = parse_range(range_header, size)
    except ValueError:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"}) from None
    start, length = part or (0, size)
    headers = {
        **_HEADERS,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(raw_name),
        "Content-Length": str(length),
        "ETag": f'"{etag}"',
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return StreamingResponse(
        objects.stream(key, start, length),
        status_code=200 if part is None else 206,
        headers=headers,
        media_type="application/octet-stream",
    )


def answer_zip(
    objects: ObjectStore, entries: Iterable[tuple[bytes, str]], name: str
) -> StreamingResponse:
    """Send (path, object key) as one zip, made while it is sent."""
    return StreamingResponse(
        stream_zip(objects, entries),
        headers={**_HEADERS, "Content-Disposition": disposition(name.encode())},
        media_type="application/zip",
    )


def disposition(raw_name: bytes) -> str:
    """Write the Content-Disposition of a download; names keep every byte (RFC 8187)."""
    name = raw_name.rpartition(b"/")[2] or b"download"
    plain = _UNSAFE.sub(b"_", name).decode("ascii")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote_from_bytes(name, safe='')}"
