"""The kinds of data that steps take and give, and what a parameter's hint may say.

As type hints they say what a step wants; as objects they are what the step gets.
"""

import os

from .rows import read_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import IO, Any, NoReturn, Optional, Union

    Counted = Callable[[int, int], None]  # Is told of items and bytes that a step is done with.
    Place = Union[str, os.PathLike[str]]


def _nobody(items: int, size: int) -> None:
    del items, size


def _path(place: "Place") -> "Path":
    """Give a path as an object; loading ``pathlib`` costs as much as half a bare Python."""
    from pathlib import Path

    return Path(place)


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

    # No dataclass: that module with all it loads costs more than a bare Python.
    __slots__ = __match_args__ = (
        "ge",
        "le",
        "gt",
        "lt",
        "unit",
        "help",
        "title",
        "choices",
        "min_length",
        "max_length",
        "pattern",
    )
    ge: "Optional[float]"
    le: "Optional[float]"
    gt: "Optional[float]"
    lt: "Optional[float]"
    unit: str
    help: str
    title: str
    choices: "Optional[Sequence[Any]]"
    min_length: "Optional[int]"
    max_length: "Optional[int]"
    pattern: "Optional[str]"

    def __init__(
        self,
        ge: "Optional[float]" = None,
        le: "Optional[float]" = None,
        gt: "Optional[float]" = None,
        lt: "Optional[float]" = None,
        unit: str = "",
        help: str = "",  # noqa: A002 - what users write.
        title: str = "",
        choices: "Optional[Sequence[Any]]" = None,
        min_length: "Optional[int]" = None,
        max_length: "Optional[int]" = None,
        pattern: "Optional[str]" = None,
    ) -> None:
        """Note what holds; it never changes."""
        given = (ge, le, gt, lt, unit, help, title, choices, min_length, max_length, pattern)
        for name, value in zip(self.__slots__, given):  # noqa: B905 - Python 3.9.
            object.__setattr__(self, name, value)

    def _facts(self) -> "tuple[Any, ...]":
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setattr__(self, name: str, value: object) -> "NoReturn":
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> "NoReturn":
        raise AttributeError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if type(other) is Param else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Param({said})"

    def __reduce__(self) -> "tuple[Any, ...]":
        return Param, self._facts()


class File:
    """One file. Functions that take a path take it as it is: ``open(file)``, ``Path(file)``.

    Attributes:
        name: path within its input, as text that can be printed and stored; bytes that are no
            UTF-8 stand as backslash escapes.
    """

    __slots__ = ("_place", "name")

    def __init__(self, name: str, path: "Place") -> None:
        """Name a file that lies at a path."""
        self.name = name
        self._place = os.fspath(path)

    @property
    def path(self) -> "Path":
        """Where it lies, for reading."""
        return _path(self._place)

    def __fspath__(self) -> str:
        return self._place

    def __repr__(self) -> str:
        return f"File({self.name!r})"

    @property
    def size(self) -> int:
        """Bytes."""
        return os.stat(self._place).st_size

    def open(self, mode: str = "rb", **options: "Any") -> "IO[Any]":
        """Open it for reading."""
        return open(self._place, mode, **options)

    def read_bytes(self) -> bytes:
        """Read all of it."""
        with open(self._place, "rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """Read all of it as text."""
        with open(self._place, encoding=encoding, errors=errors) as file:
            return file.read()


class Files:
    """The files of an input, or of one partition of it, in the order of their paths' bytes.

    Going through them tells the run's progress: a file counts as done when the next is asked for.
    """

    def __init__(self, folder: "Place", counted: "Counted" = _nobody) -> None:
        """Find the files below a folder; links are not followed."""
        self._folder = os.fspath(folder)
        self._counted = counted
        self._paths = sorted(_walk(self._folder), key=os.fsencode)

    @property
    def path(self) -> "Path":
        """Their folder."""
        return _path(self._folder)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> File:
        return self._file(self._paths[index])

    def __iter__(self) -> "Iterator[File]":
        for path in self._paths:
            file = self._file(path)
            yield file
            self._counted(1, file.size)

    def _file(self, path: str) -> File:
        raw = os.fsencode(os.path.relpath(path, self._folder))
        return File(raw.decode("utf-8", "backslashreplace"), path)


def _walk(folder: str) -> "Iterator[str]":
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

    def __init__(self, parts: "Sequence[Place]", counted: "Counted" = _nobody) -> None:
        """Read these parts, one after the other."""
        self._parts = tuple(os.fspath(part) for part in parts)
        self._counted = counted

    @property
    def parts(self) -> "tuple[Path, ...]":
        """The files that it consists of."""
        return tuple(_path(part) for part in self._parts)

    def __iter__(self) -> "Iterator[dict[str, Any]]":
        for part in self._parts:
            for row in read_rows(part):
                yield row
                self._counted(1, 0)
            self._counted(0, os.stat(part).st_size)

    def batches(self, rows: int = 1000) -> "Iterator[list[dict[str, Any]]]":
        """Give lists of up to so many rows."""
        batch = []
        for row in self:
            batch.append(row)
            if len(batch) >= rows:
                yield batch
                batch = []
        if batch:
            yield batch

    def arrow(self) -> "Any":
        """Give all rows as one Arrow table; the environment must hold pyarrow."""
        from importlib import import_module

        pa: "Any" = import_module("pyarrow")

        return pa.Table.from_pylist(list(self))

    def pandas(self) -> "Any":
        """Give all rows as one data frame; the environment must hold pandas."""
        from importlib import import_module

        pd: "Any" = import_module("pandas")

        return pd.DataFrame(list(self))
