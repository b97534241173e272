"""A table written twice while its rows stream by: one CSV and one Parquet file."""

import hashlib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from millpond.pipelines.outputs import cells

BATCH_ROWS = 10_000
BATCH_BYTES = 16 << 20


class DigestedFile:
    """A new file on disk that knows its length and sha256 while it is written."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        length = len(memoryview(data).cast("B")) if not isinstance(data, bytes) else len(data)
        self.size += length
        self._hash.update(data)
        self._file.write(data)
        return length

    def flush(self) -> None:
        """Do nothing: ``close`` does it."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def close(self) -> None:
        """Write what is left."""
        self._file.close()

    @property
    def digest(self) -> str:
        """The sha256 of what was written, in hexadecimal."""
        return self._hash.hexdigest()


def write_table(
    rows: Iterable[dict[str, Any]],
    schema: list[tuple[str, str, str]],
    csv: DigestedFile,
    parquet: DigestedFile,
) -> int:
    """Write rows to both files and close them; give how many.

    The schema is name in the rows, name in the files and kind, per column.

    Memory: one batch, at most 10,000 rows or about 16 MiB of text.
    """
    count = 0
    sheet = _ParquetSheet(parquet, schema)
    csv.write(cells.csv_line([shown for _, shown, _ in schema]).encode() if schema else b"\r\n")
    for row in rows:
        record = [cells.as_kind(row.get(name), kind) for name, _, kind in schema]
        line = cells.csv_line(record).encode() if schema else b"\r\n"
        csv.write(line)
        sheet.add(record, len(line))
        count += 1
    csv.close()
    sheet.close()
    return count


class _ParquetSheet:
    def __init__(self, file: DigestedFile, schema: list[tuple[str, str, str]]) -> None:
        pa: Any = importlib.import_module("pyarrow")  # 60 ms and 40 MB: only when used.
        parquet: Any = importlib.import_module("pyarrow.parquet")
        types = {cells.BOOLEAN: pa.bool_(), cells.INTEGER: pa.int64(), cells.FLOAT: pa.float64()}
        self._arrow = pa
        self._schema = pa.schema(
            [pa.field(shown, types.get(kind, pa.string())) for _, shown, kind in schema]
        )
        self._file = file
        self._writer = parquet.ParquetWriter(pa.PythonFile(file, mode="w"), self._schema)
        self._rows: list[list[Any]] = []
        self._bytes = 0

    def add(self, record: list[Any], size: int) -> None:
        self._rows.append(record)
        self._bytes += size
        if len(self._rows) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        pa = self._arrow
        arrays = [
            pa.array([row[place] for row in self._rows], type=field.type)
            for place, field in enumerate(self._schema)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        if self._rows and len(self._schema):
            self._flush()
        self._writer.close()
        self._file.close()
