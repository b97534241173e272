"""Paths of files as queries name them."""

from millpond.ground.errors import Fault, InvalidError
from millpond.lake.values import decode_path


def read_path(path: str, path_bytes: str | None) -> bytes:
    """Read the bytes of a path that a query names.

    Raises:
        InvalidError: it can't be read.
    """
    try:
        return decode_path(path, path_bytes)
    except ValueError:
        raise InvalidError(
            "The path can't be read.",
            next_step="Send path and path_bytes as the list of files gives them.",
            faults=[Fault("path_bytes", "is not base64, or path is no Unicode text")],
        ) from None
