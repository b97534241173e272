"""A request's body as a file that a thread reads, so that storing needs no memory for it."""

import io
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, TypeVar, cast

from anyio import from_thread, to_thread
from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def receive(request: Request, action: Callable[[BinaryIO], T]) -> T:
    """Run an action in a thread with the request's body as a file, read as it arrives.

    A caller that hangs up half-way raises ClientDisconnect out of the file's ``read``.
    """
    body = _Body(request.stream())
    return await to_thread.run_sync(lambda: action(cast("BinaryIO", body)))


class _Body(io.RawIOBase):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        while not self._left:
            piece = from_thread.run(self._next)
            if piece is None:
                return b""
            self._left = memoryview(piece)
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        return taken

    def readinto(self, target: object) -> int:
        view = memoryview(cast("bytearray", target))
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)


__all__ = ["ClientDisconnect", "receive"]
