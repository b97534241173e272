"""Read what tus clients send in headers, and decide whether an upload may begin."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from millpond.ground.errors import (
    ConflictError,
    Fault,
    InvalidError,
    TooLargeError,
    TooManyError,
)
from millpond.lake.rules import find_path_fault
from millpond.lake.uploads.values import UploadAsked
from millpond.lake.values import LakeLimits

VERSION = "1.0.0"
CONTENT_TYPE = "application/offset+octet-stream"
ALGORITHMS = ("sha1", "sha256")
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
METADATA_MOST = 16 << 10

_NUMBER = re.compile(r"[0-9]{1,18}")
_BATCH_MOST = 80
_NEXT_STEP = "Send the headers as the tus 1.0 protocol describes them."


class WrongVersionError(InvalidError):
    """The caller speaks another version of the protocol."""

    status: ClassVar[int] = 412


class WrongTypeError(InvalidError):
    """The body is of another type than the protocol's."""

    status: ClassVar[int] = 415


class WrongChecksumError(InvalidError):
    """What came is not what its checksum says."""

    status: ClassVar[int] = 460


@dataclass(frozen=True)
class Checksum:
    """The checksum of one request's body.

    Attributes:
        algorithm: one of ``ALGORITHMS``.
        value: the digest's bytes.
    """

    algorithm: str
    value: bytes

    def check(self, found: "hashlib._Hash") -> None:
        """Compare.

        Raises:
            WrongChecksumError: the body has another checksum.
        """
        if found.digest() != self.value:
            raise WrongChecksumError(
                "What came is not what its checksum says; nothing of it was kept.",
                next_step="Send this piece again.",
                faults=[Fault("Upload-Checksum", f"the body's {self.algorithm} is another one")],
            )


def check_version(given: str | None) -> None:
    """Refuse another version of the protocol.

    Raises:
        WrongVersionError: it is another, or none.
    """
    if given != VERSION:
        raise WrongVersionError(
            f"Uploads speak tus {VERSION}.",
            next_step=f"Send `Tus-Resumable: {VERSION}`.",
            faults=[Fault("Tus-Resumable", f"must be {VERSION}")],
        )


def check_type(given: str | None) -> None:
    """Refuse a body that is not a piece of an upload.

    Raises:
        WrongTypeError: it has another type.
    """
    if (given or "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise WrongTypeError(
            "The body is no piece of an upload.",
            next_step=f"Send `Content-Type: {CONTENT_TYPE}`.",
            faults=[Fault("Content-Type", f"must be {CONTENT_TYPE}")],
        )


def read_number(name: str, given: str | None) -> int:
    """Read a header that holds a number of bytes.

    Raises:
        InvalidError: it holds none.
    """
    if given is None or not given.isascii() or not _NUMBER.fullmatch(given):
        raise InvalidError(
            f"The header {name} is missing or no number of bytes.",
            next_step=_NEXT_STEP,
            faults=[Fault(name, "must be a whole number of bytes")],
        )
    return int(given)


def read_metadata(given: str | None) -> dict[str, str]:
    """Read Upload-Metadata: pairs of a name and base64, with commas between them.

    Raises:
        InvalidError: it can't be read, or is longer than 16 KiB.
    """
    text = given or ""
    if len(text) > METADATA_MOST:
        raise _bad_metadata(f"is longer than {METADATA_MOST} characters")
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition(" ")
        if name in found:
            raise _bad_metadata(f"names {name[:40]!r} twice")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode("utf-8")
        except ValueError:
            raise _bad_metadata("must be pairs of a name and base64 of UTF-8") from None
    return found


def _bad_metadata(message: str) -> InvalidError:
    return InvalidError(
        f"The header Upload-Metadata {message}.",
        next_step=_NEXT_STEP,
        faults=[Fault("Upload-Metadata", message)],
    )


def read_checksum(given: str | None) -> Checksum | None:
    """Read Upload-Checksum, if there is one.

    Raises:
        InvalidError: it can't be read, or its algorithm is not known.
    """
    if given is None:
        return None
    algorithm, _, text = given.strip().partition(" ")
    value = b""
    if algorithm in ALGORITHMS:
        try:
            value = base64.b64decode(text, validate=True)
        except ValueError:
            value = b""
    if not value or len(value) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise InvalidError(
            "The header Upload-Checksum can't be read.",
            next_step=f"Send one of {', '.join(ALGORITHMS)} and the digest in base64.",
            faults=[Fault("Upload-Checksum", "must be an algorithm and a digest in base64")],
        )
    return Checksum(algorithm, value)


def read_asked(metadata: Mapping[str, str], size: int, limits: LakeLimits) -> UploadAsked:
    """Read what is to be sent from its metadata and length.

    Raises:
        InvalidError: the path is none that a dataset may hold, or the batch's name is too long.
        TooLargeError: the file is longer than one may be.
    """
    path = metadata.get("relativePath") or metadata.get("filename", "")
    batch = metadata.get("batch", "")
    faults = []
    if message := find_path_fault(path.encode(), limits):
        faults.append(Fault("Upload-Metadata.relativePath", message))
    if len(batch) > _BATCH_MOST or not (batch.isprintable() and batch.isascii()):
        faults.append(Fault("Upload-Metadata.batch", f"at most {_BATCH_MOST} printable characters"))
    if faults:
        raise InvalidError(
            f"The file {path[:200]!r} can't be taken: {faults[0].message}.",
            next_step="Give it another name, then send it again.",
            faults=faults,
        )
    if size > limits.file_bytes:
        raise TooLargeError(
            f"A file may have {limits.file_bytes:,} bytes.",
            next_step="Split it, or ask an administrator to raise the limit `lake.file_bytes`.",
            limit=limits.file_bytes,
        )
    return UploadAsked(path, batch, size)


def check_room(
    open_uploads: int, unfinished_bytes: int, asked: UploadAsked, limits: LakeLimits
) -> None:
    """Refuse an upload where too much is under way already.

    Raises:
        TooManyError: the person has too many that are not finished.
        TooLargeError: the project has too many bytes that are not finished.
    """
    if open_uploads >= limits.open_uploads:
        raise TooManyError(
            f"You have {open_uploads} uploads here that are not finished.",
            next_step="Finish some, or remove them: `millpond upload list`.",
            retry_after_seconds=60.0,
            limit=limits.open_uploads,
        )
    if unfinished_bytes + asked.size_bytes > limits.unfinished_bytes:
        raise TooLargeError(
            "The uploads of this project that are not finished would hold more than"
            f" {limits.unfinished_bytes:,} bytes.",
            next_step="Finish some, or remove them: `millpond upload list`.",
            limit=limits.unfinished_bytes,
        )


def check_offset(offset: int, received: int, size: int, length: int | None) -> None:
    """Refuse a piece that does not begin where the last one ended, or goes on too long.

    Raises:
        ConflictError: it begins elsewhere.
        TooLargeError: it goes on beyond the length that was declared.
    """
    if offset != received:
        raise ConflictError(
            f"The upload stands at byte {received}, not {offset}.",
            next_step="Ask with HEAD where it stands, and go on from there.",
            received_bytes=received,
        )
    if length is not None and offset + length > size:
        raise beyond(size)


def beyond(size: int) -> TooLargeError:
    """Make the fault of a body that is longer than was declared."""
    return TooLargeError(
        f"More came than the {size} bytes that were declared.",
        next_step="Begin a new upload with the right Upload-Length.",
        limit=size,
    )


def too_short(size: int) -> InvalidError:
    """Make the fault of a body that ends before its declared length."""
    return InvalidError(
        f"Less came than the {size} bytes that were declared.",
        next_step="Send it again.",
        faults=[Fault("Content-Length", "the body ended too early")],
    )
