"""Show things to people, or as one JSON value to programs."""

import contextlib
import dataclasses
import enum
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from millpond.client.progress import OnProgress, Progress, ignore
from millpond.ground import units
from millpond.ground.errors import InvalidError, MillpondError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Column = tuple[str, Callable[[Any], object]]

_BAR_AFTER_SECONDS = 0.5


def to_json(value: object) -> Any:
    """Turn values into what JSON can hold: frozen values to objects, times to ISO texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        address = getattr(value, "address", None)
        return {**fields, "address": address} if isinstance(address, str) else fields
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, date):  # A moment is one, too.
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def write_json(value: object) -> None:
    """Write one JSON value to standard output."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False, indent=2))


def write_table(items: Sequence[Any], columns: Sequence[Column], nothing: str) -> None:
    """Write items as aligned columns, or say that there is nothing."""
    if not items:
        click.echo(nothing)
        return
    rows = [[shown(give(item)) for _, give in columns] for item in items]
    heads = [head for head, _ in columns]
    widths = [max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(heads)]
    click.echo(click.style(_line(heads, widths), bold=True))
    for row in rows:
        click.echo(_line(row, widths))


def write_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Write names and values, one a line; what is empty is left out."""
    kept = [(name, shown(value)) for name, value in facts if value not in (None, "", [], ())]
    width = max((len(name) for name, _ in kept), default=0)
    for name, text in kept:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {text}")


def shown(value: object) -> str:
    """Write one value for people, on one line, without anything that moves the cursor."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(shown(item) for item in value)
    return harmless(str(value))


def harmless(text: str, keep: str = "") -> str:
    """Write control characters as escapes, since names and logs come from strangers."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "replace").decode()
        for c in text.encode("utf-8", "backslashreplace").decode()
    )


def size_text(size: float) -> str:
    """Write a number of bytes as the pages do."""
    return units.size_text(size)


def amount_text(value: float, places: int = 3) -> str:
    """Write an amount with so many places; one that they cannot show is less than the least."""
    least = 10.0**-places
    return f"<{least:.{places}f}" if 0 < value < least else f"{value:,.{places}f}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 seal, 2 seals, 3 entries."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def seconds_text(seconds: float) -> str:
    """Write a duration as people say it."""
    if seconds < 60:  # noqa: PLR2004 - a minute.
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def error_facts(fault: MillpondError, code: int) -> dict[str, object]:
    """Give an error as JSON: the words that people see, and the facts for programs."""
    faults = fault.faults if isinstance(fault, InvalidError) else ()
    return {
        "error": {
            "code": fault.code,
            "message": fault.message,
            "next_step": fault.next_step,
            "faults": [dataclasses.asdict(one) for one in faults],
            "facts": to_json(fault.facts),
            "exit_code": code,
        }
    }


def write_error(fault: MillpondError, code: int, *, as_json: bool) -> None:
    """Write an error to standard error: what, each fault on its line, the next step."""
    if as_json:
        click.echo(json.dumps(error_facts(fault, code), ensure_ascii=False), err=True)
        return
    click.echo(
        f"{click.style('error:', fg='red', bold=True)} {harmless(fault.message, chr(10))}", err=True
    )
    if isinstance(fault, InvalidError):
        for one in fault.faults:
            name = f"{harmless(one.field)}: " if one.field else ""
            click.echo(f"  - {name}{harmless(one.message)}", err=True)
    click.echo(f"{click.style('next:', bold=True)}  {harmless(fault.next_step)}", err=True)


@contextlib.contextmanager
def progress_bars(*, quiet: bool) -> Iterator[OnProgress]:
    """Show bars on standard error while the block runs, once it takes half a second."""
    if quiet or not sys.stderr.isatty():
        yield ignore
        return
    bars = _Bars()
    try:
        yield bars.tell
    finally:
        bars.close()


class _Bars:
    """One bar per stage; rich is loaded only when one is shown."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bars: Bars | None = None
        self._stages: dict[str, Any] = {}

    def tell(self, told: Progress) -> None:
        if self._bars is None:
            if time.monotonic() - self._began < _BAR_AFTER_SECONDS:
                return
            self._bars = _make_bars()
            self._bars.start()
        if told.stage not in self._stages:
            self._stages[told.stage] = self._bars.add_task(told.stage, total=None, text="", note="")
        self._bars.update(
            self._stages[told.stage],
            completed=told.done,
            total=told.total or None,
            text=_amount(told),
            note=harmless(told.note),
        )

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def _make_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=Console(stderr=True),
        refresh_per_second=5,
    )


def _amount(told: Progress) -> str:
    if told.unit == "bytes":
        return f"{size_text(told.done)} of {size_text(told.total)}"
    return f"{told.done:,} of {told.total:,} {told.unit}" if told.total else f"{told.done:,}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
