"""Send a large file so that a line that breaks costs only what was under way: by tus.

What came is kept by the server, also for a later push: an upload is found again by the digest of
its content, which it is called by.
"""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from millpond.client.decoding import decode
from millpond.client.transport import Transport, place
from millpond.client.walking import Hashed, printable
from millpond.ground.errors import BusyError, ConflictError, NotFoundError
from millpond.lake.uploads.values import Upload

RESUMED_BYTES = 16 << 20
"""From this size on, files go in a way that resumes; it makes the server write them twice."""

_BLOCK_BYTES = 256 << 10
_TUS = {"Tus-Resumable": "1.0.0"}
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 3.0

OnBytes = Callable[[int], None]
"""Told how many more bytes the server has; fewer when some were lost on the way."""


def send_resumed(transport: Transport, project: str, one: Hashed, on_bytes: OnBytes) -> None:
    """Send a content, going on where it stood, until the server has all of it.

    Raises:
        ConflictError: the file changed while it was sent.
        BusyError: nothing came through for as long as the transport is patient; a later push goes
            on from there.
    """
    sending = _Sending(transport, project, one, on_bytes)
    upload = sending.find() or sending.begin()
    while not upload.is_whole:
        upload = sending.send_rest(upload)
    if upload.digest is None:
        upload = sending.look(upload.id)  # Asking joins what has come.
    if upload.digest != one.digest:
        with suppress(NotFoundError):
            transport.delete(place("projects", project, "uploads", upload.id))
        raise _changed(one)


class _Sending:
    """One file on its way."""

    def __init__(self, transport: Transport, project: str, one: Hashed, on_bytes: OnBytes) -> None:
        self._transport, self._project, self._one = transport, project, one
        self._on_bytes = on_bytes
        self._told = 0

    def find(self) -> Upload | None:
        """Give what an earlier push has begun."""
        path = place("projects", self._project, "uploads")
        for upload in self._transport.pages(Upload, path, {"finished": "false"}):
            if (upload.batch, upload.size_bytes) == (self._one.digest, self._one.file.size):
                self._tell(upload.received_bytes)
                return upload
        return None

    def begin(self) -> Upload:
        """Begin an upload."""
        names = {"relativePath": self._one.entry.path, "batch": self._one.digest}
        metadata = ",".join(f"{name} {_base64(text)}" for name, text in names.items())
        headers = {"Upload-Length": str(self._one.file.size), "Upload-Metadata": metadata}
        path = place("projects", self._project, "uploads")
        # Sent again after a loss it would only begin a second one, which then expires.
        self._transport.send("POST", path, lambda: b"", _TUS | headers)
        found = self.find()
        if found is None:
            raise BusyError("The upload could not be begun.", next_step="Push again.")
        return found

    def look(self, upload_id: str) -> Upload:
        """Ask how far an upload is."""
        path = place("projects", self._project, "uploads", upload_id)
        found = decode(Upload, self._transport.get(path))
        self._tell(found.received_bytes)
        return found

    def send_rest(self, upload: Upload) -> Upload:
        """Send from where an upload stands; tell where it stands then.

        Raises:
            BusyError: nothing more has come for as long as the transport is patient.
        """
        path = place("projects", self._project, "uploads", upload.id)
        left = upload.size_bytes - upload.received_bytes
        headers = _TUS | {
            "Upload-Offset": str(upload.received_bytes),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(left),
        }
        end, pause = time.monotonic() + self._transport.patience_seconds, _FIRST_PAUSE_SECONDS
        try:
            self._transport.send(
                "PATCH", path, lambda: self._blocks(upload.received_bytes), headers, is_once=True
            )
        except (BusyError, ConflictError) as fault:
            if isinstance(fault, ConflictError) and fault.facts.get("file"):
                raise
            while (found := self.look(upload.id)).received_bytes <= upload.received_bytes:
                # The server may still be keeping what came last.
                if time.monotonic() > end:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            return found
        return self.look(upload.id)

    def _blocks(self, start: int) -> Iterator[bytes]:
        sent = start
        with open(self._one.file.place, "rb") as opened:  # noqa: PTH123 - a surrogate-escaped name.
            opened.seek(start)
            while block := opened.read(_BLOCK_BYTES):
                sent += len(block)
                if sent > self._one.file.size:
                    raise _changed(self._one)
                self._tell(sent)
                yield block
        if sent < self._one.file.size:
            raise _changed(self._one)

    def _tell(self, received: int) -> None:
        self._on_bytes(received - self._told)
        self._told = received


def _changed(one: Hashed) -> ConflictError:
    name = printable(one.file.place)
    return ConflictError(
        f"The file {name!r} changed while it was sent.",
        next_step="Push again once nothing writes to it.",
        file=name,
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
