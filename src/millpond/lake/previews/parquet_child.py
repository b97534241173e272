"""Read the first rows of a Parquet file in a process of its own, which asks for bytes by a pipe.

Started by path with nothing of ours at hand: a file made to break the reader breaks this process
alone, within its limits of memory and time. Asks with a line ``[start, length]``, is answered with
eight bytes of length and the bytes; ends with a line that holds an object.
"""

import datetime as dt
import importlib
import io
import json
import resource
import sys
from typing import Any

_SECONDS = 10
_BUFFER_BYTES = 256 << 10


class Asked(io.RawIOBase):
    """The file, on the other side of the pipe."""

    def __init__(self, size: int) -> None:
        """Know its size."""
        super().__init__()
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Tell where it stands."""
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Ask for bytes."""
        left = max(0, self._size - self._place)
        length = left if size < 0 else min(size, left)
        if not length:
            return b""
        sys.stdout.write(json.dumps([self._place, length]) + "\n")
        sys.stdout.flush()
        came = int.from_bytes(sys.stdin.buffer.read(8), "big")
        data = sys.stdin.buffer.read(came)
        self._place += len(data)
        return data


def limit(memory_bytes: int) -> None:
    """Take no more memory and time than a look may cost, and write no file."""
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def look(size: int, rows: int, columns: int, characters: int) -> dict[str, Any]:
    """Give names and kinds of the first columns, and the first rows in texts."""
    pa: Any = importlib.import_module("pyarrow")
    pq: Any = importlib.import_module("pyarrow.parquet")

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    source = pa.PythonFile(Asked(size), mode="r")
    with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        schema = file.schema_arrow
        names = schema.names[:columns]
        table: list[list[str | None]] = []
        if names and file.metadata.num_rows:
            batches = file.iter_batches(batch_size=rows, columns=names, use_threads=False)
            batch = next(batches)
            known = {name: place for place, name in enumerate(batch.schema.names)}
            found = [
                [write(cell.as_py(), characters) for cell in batch.column(known[name])[:rows]]
                if name in known
                else [None] * min(rows, batch.num_rows)
                for name in names
            ]
            table = [list(row) for row in zip(*found, strict=True)]
        return {
            "columns": [[name[:characters], str(schema.field(place).type)[:characters]]
                        for place, name in enumerate(names)],
            "rows": table,
            "row_count": file.metadata.num_rows,
            "column_count": len(schema.names),
        }  # fmt: skip


def write(value: Any, characters: int) -> str | None:
    """Write a value as a text that is not too long."""
    if value is None:
        return None
    if isinstance(value, bytes):
        text = value[:characters].hex(" ")
    elif isinstance(value, (dt.date, dt.datetime, dt.time)):
        text = value.isoformat()
    elif isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if len(text) <= characters else text[:characters] + "…"


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:6]]
    limit(numbers[0])
    try:
        answer = look(*numbers[1:])
    except Exception as fault:  # noqa: BLE001 - whatever the reader raises is told in words.
        answer = {"fault": f"{type(fault).__name__}: {fault}"[:500]}
    sys.stdout.write(json.dumps(answer) + "\n")
