"""The kinds of data that steps take and give, and what a parameter's hint may say.

As type hints they say what a step wants; as objects they are what the step gets.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, Any, Optional

from .rows import read_rows

Counted = Callable[[int, int], None]
"""Is told of items and bytes that a step has finished with."""


def _nobody(items: int, size: int) -> None:
    del items, size


@dataclass(frozen=True)
class Param:
    """What a parameter's form shows and checks: ``Annotated[float, Param(ge=0, le=1)]``.

    Attributes:
        ge, le, gt, lt: bounds of a number.
        unit: shown beside the field, for example ``pixels``.
        help: one sentence; the docstring's ``Args`` section does as well.
        title: label of the field; else the name.
        choices: the values allowed; ``Literal`` and ``Enum`` hints do as well.
        min_length, max_length: of a text or a list.
        pattern: regular expression that a text must contain.
    """

    ge: Optional[float] = None
    le: Optional[float] = None
    gt: Optional[float] = None
    lt: Optional[float] = None
    unit: str = ""
    help: str = ""
    title: str = ""
    choices: Optional[Sequence[Any]] = None
    min_length: Optional[int] = None
    max_length: Optional[int] = None
    pattern: Optional[str] = None


class File:
    """One file. Functions that take a path take it as it is: ``open(file)``, ``Path(file)``.

    Attributes:
        name: path within its input, as text that can be printed and stored; bytes that are no
            UTF-8 stand as backslash escapes.
        path: where it lies, for reading.
    """

    __slots__ = ("name", "path")

    def __init__(self, name: str, path: "os.PathLike[str] | str") -> None:
        """Name a file that lies at a path."""
        self.name = name
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"File({self.name!r})"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open it for reading."""
        return open(self.path, mode, **options)

    def read_bytes(self) -> bytes:
        """Read all of it."""
        return self.path.read_bytes()

    def read_text(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """Read all of it as text."""
        return self.path.read_text(encoding=encoding, errors=errors)


class Files:
    """The files of an input, or of one partition of it, in the order of their paths' bytes.

    Going through them tells the run's progress: a file counts as done when the next is asked for.
    """

    def __init__(self, folder: "os.PathLike[str] | str", counted: Counted = _nobody) -> None:
        """Find the files below a folder; links are not followed."""
        self.path = Path(folder)
        self._counted = counted
        self._paths = sorted(_walk(str(folder)), key=os.fsencode)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> File:
        return self._file(self._paths[index])

    def __iter__(self) -> Iterator[File]:
        for path in self._paths:
            file = self._file(path)
            yield file
            self._counted(1, file.size)

    def _file(self, path: str) -> File:
        raw = os.fsencode(os.path.relpath(path, str(self.path)))
        return File(raw.decode("utf-8", "backslashreplace"), path)


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


class Model(Files):
    """A trained model: the files it consists of; ``path`` is their folder."""


class Table:
    """Rows, read once from the start to the end; never all in memory unless asked for.

    Rows are dicts. From CSV every value is text; from another step's output values keep their
    types (text, numbers, booleans, None, lists, dicts).
    """

    def __init__(self, parts: Sequence[Path], counted: Counted = _nobody) -> None:
        """Read these parts, one after the other."""
        self.parts = tuple(parts)
        self._counted = counted

    def __iter__(self) -> Iterator["dict[str, Any]"]:
        for part in self.parts:
            for row in read_rows(part):
                yield row
                self._counted(1, 0)
            self._counted(0, part.stat().st_size)

    def batches(self, rows: int = 1000) -> Iterator["list[dict[str, Any]]"]:
        """Give lists of up to so many rows."""
        source = iter(self)
        while True:
            batch = list(islice(source, rows))
            if not batch:
                return
            yield batch

    def arrow(self) -> Any:
        """Give all rows as one Arrow table; the environment must hold pyarrow."""
        pyarrow: Any = import_module("pyarrow")
        return pyarrow.Table.from_pylist(list(self))

    def pandas(self) -> Any:
        """Give all rows as one data frame; the environment must hold pandas."""
        pandas: Any = import_module("pandas")
        return pandas.DataFrame(list(self))
