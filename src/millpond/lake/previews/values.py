"""What a look into a file shows."""

from dataclasses import dataclass, field
from typing import Literal

PreviewKind = Literal["text", "table", "image", "none"]

TEXT_BYTES = 64 << 10
TABLE_BYTES = 1 << 20
IMAGE_BYTES = 20 << 20
SVG_BYTES = 4 << 20
ROWS, COLUMNS, CELL_CHARACTERS = 100, 50, 300


@dataclass(frozen=True)
class PreviewColumn:
    """A column of a table.

    Attributes:
        kind: what its values are, in the file's own word or in ours where the file has none
            (whole number, number, date, true or false, text).
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Preview:
    """The beginning of a file, as people can look at it.

    Attributes:
        path: as the list of files gives it.
        media_type: of an image; else empty.
        encoding: how a text was read; guessed where the file does not say.
        text: the first 64 KiB.
        columns: the first fifty.
        rows: the first hundred, each with a text, or None, for every column.
        row_count: rows of the whole file, where it says so.
        column_count: columns of the whole file.
        is_cut: whether the file holds more than is shown.
        note: what else is to be said, such as why nothing can be shown.
    """

    path: str
    size_bytes: int
    digest: str
    kind: PreviewKind = "none"
    media_type: str = ""
    encoding: str = ""
    text: str = ""
    columns: tuple[PreviewColumn, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = field(default=())
    row_count: int | None = None
    column_count: int = 0
    is_cut: bool = False
    note: str = ""
