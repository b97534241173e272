"""Readers that keep a parser of archives from reading more than it should."""

import lzma
from typing import IO, BinaryIO

_BLOCK = 512
_CHUNK = 256 << 10
_XZ_MEMORY_BYTES = 192 << 20  # `xz -9` needs 65 MB; an archive may claim 4 GB.


class Forward:
    """Hands reads on to another file, none larger and not more in all than it is allowed.

    Parsers read some lengths from the archive itself and would fill the memory if told to.
    """

    def __init__(self, file: BinaryIO, read_most: int) -> None:
        """Allow any number of reads of at most ``read_most`` bytes each."""
        self._file = file
        self._read_most = read_most
        self._left: int | None = None
        self.last = b""

    def allow(self, size: int | None) -> None:
        """Allow so many bytes from now on, or any number."""
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """Read.

        Raises:
            ValueError: more is asked for than is allowed.
        """
        if self._left is not None:
            self._left -= size if size >= 0 else self._read_most + 1
        if size > self._read_most or (self._left is not None and self._left < 0):
            raise ValueError("a header is too large")
        data = self._file.read(size)
        if size == _BLOCK:
            self.last = data
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Tell where it stands."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Say that it can move."""
        return True

    def close(self) -> None:
        """Leave the file to its owner."""


class Pieces:
    """Hands out a file in small pieces, however much is asked for at once."""

    def __init__(self, file: IO[bytes], size_most: int) -> None:
        """Read at most ``size_most`` bytes at a time."""
        self._file = file
        self._size_most = size_most

    def read(self, size: int = -1) -> bytes:
        """Read; none only at the end."""
        return self._file.read(min(size, self._size_most) if size >= 0 else self._size_most)


class XzReader:
    """Unpacks xz with bounded memory, forward only; the standard reader has no bound."""

    def __init__(self, file: BinaryIO) -> None:
        """Read from where the file stands."""
        self._file = file
        self._unpacker = _new_unpacker()
        self._input = b""
        self._ready = b""
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes; fewer only at the end."""
        wanted = _CHUNK if size < 0 else size
        pieces = []
        while wanted:
            if not self._ready and not self._fill():
                break
            piece, self._ready = self._ready[:wanted], self._ready[wanted:]
            wanted -= len(piece)
            pieces.append(piece)
        data = b"".join(pieces)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forward by reading."""
        if whence or offset < self._position:
            raise ValueError("xz can only be read forward")
        while self._position < offset and self.read(min(_CHUNK, offset - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        """Tell how much was read."""
        return self._position

    def _fill(self) -> bool:
        while not self._ready:
            if self._unpacker.eof:
                rest = (self._unpacker.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                if not rest:
                    return False
                self._unpacker, self._input = _new_unpacker(), rest
            elif self._unpacker.needs_input and not self._input:
                self._input = self._file.read(_CHUNK)
                if not self._input:
                    raise EOFError("the compressed data ends too early")
            data, self._input = self._input, b""
            self._ready = self._unpacker.decompress(data, _CHUNK)
        return True


def _new_unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
