"""A request's body as a file, for a thread that reads while more comes in."""

from collections.abc import AsyncIterator

from anyio import CapacityLimiter, from_thread
from fastapi import Request

_UPLOADS_AT_ONCE = 64


class RequestBody:
    """Reads a body piece by piece; the thread waits while nothing comes."""

    def __init__(self, request: Request) -> None:
        """Read this request's body, which nothing else may have read."""
        self._stream: AsyncIterator[bytes] = request.stream()
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or what has come; none only at the end."""
        while not self._rest:
            piece = from_thread.run(self._next)
            if piece is None:
                return b""
            self._rest = piece
        if size < 0:
            piece, self._rest = self._rest, b""
            return piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    async def _next(self) -> bytes | None:
        return await anext(self._stream, None)


def make_lane() -> CapacityLimiter:
    """Make threads for bodies: they wait for slow lines, and hold up nobody else."""
    return CapacityLimiter(_UPLOADS_AT_ONCE)
