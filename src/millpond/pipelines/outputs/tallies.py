"""Statistics of a table in one pass and bounded memory: one tally per column.

Counts, extremes, mean and standard deviation are exact (Welford's method). Quantiles and the
histogram are exact up to 20,000 numbers, then come from a uniform sample of that many (Vitter's
algorithm R, seeded by the column's name, so that the same rows give the same statistics). The most
frequent values are exact up to 2,000 different ones, then approximate, and say so.
"""

import math
import random
from array import array
from collections import Counter
from typing import Any

from millpond.ground.errors import TooLargeError
from millpond.pipelines.outputs import cells

SAMPLE = 20_000
DISTINCT = 2_000
DISTINCT_NUMBERS = 200
COLUMNS_MOST = 1_000
TOP = 20
BINS = 30
_LONGEST_VALUE = 200
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ColumnTally:
    """What one column held so far."""

    def __init__(self, name: str) -> None:
        """Start with nothing."""
        self.name = name
        self.kind = cells.EMPTY
        self.count = 0
        self._exact = True
        self._numbers, self._mean, self._square_sum = 0, 0.0, 0.0
        self._least: float = math.inf
        self._most: float = -math.inf
        self._sample = array("d")
        self._random = random.Random(name.encode("utf-8", "surrogatepass"))  # noqa: S311 - a sample.
        self._values: Counter[str] | None = Counter()
        self._is_pruned = False
        self.not_numbers = 0

    def add(self, value: Any) -> None:
        """Count one value that is not missing."""
        self.count += 1
        kind = cells.kind_of(value)
        if kind == cells.INTEGER and not cells.is_exact(value):
            self._exact = False
        if kind != self.kind:
            self.kind = cells.widen(self.kind, kind, exact=self._exact)
        if kind in (cells.INTEGER, cells.FLOAT):
            self._add_number(value)
        self._count_value(value)

    def _add_number(self, number: float) -> None:  # Whole numbers keep all their digits.
        if not math.isfinite(number):
            self.not_numbers += 1
            return
        self._numbers += 1
        before = number - self._mean
        self._mean += before / self._numbers
        self._square_sum += before * (number - self._mean)
        self._least, self._most = min(self._least, number), max(self._most, number)
        if len(self._sample) < SAMPLE:
            self._sample.append(number)
        elif (place := self._random.randrange(self._numbers)) < SAMPLE:
            self._sample[place] = number

    def _count_value(self, value: Any) -> None:
        if self._values is None:
            if self.kind != cells.TEXT:
                return
            self._values, self._is_pruned = Counter(), True
        self._values[cells.as_text(value)[:_LONGEST_VALUE]] += 1
        if len(self._values) > DISTINCT_NUMBERS and self.kind in (cells.INTEGER, cells.FLOAT):
            self._values = None
        elif len(self._values) > DISTINCT:
            self._values = Counter(dict(self._values.most_common(DISTINCT // 2)))
            self._is_pruned = True

    def facts(self, rows: int) -> dict[str, Any]:
        """Give the column's statistics as JSON values."""
        known: dict[str, Any] = {
            "name": self.name,
            "type": self.kind,
            "missing": rows - self.count,
        }
        is_number = self.kind in (cells.INTEGER, cells.FLOAT)
        if is_number and self._numbers:
            known |= self._number_facts()
        if is_number and self.not_numbers:
            known["not_finite"] = self.not_numbers
        if self._values is not None:
            known["distinct"] = None if self._is_pruned else len(self._values)
            known["most_frequent"] = [
                {"value": value, "count": count} for value, count in self._most_frequent()
            ]
            known["most_frequent_is_exact"] = not self._is_pruned
        return known

    def _most_frequent(self) -> list[tuple[str, int]]:
        ordered = sorted((self._values or {}).items(), key=lambda pair: (-pair[1], pair[0]))
        return ordered[:TOP]

    def _number_facts(self) -> dict[str, Any]:
        ordered = sorted(self._sample)
        spread = self._square_sum / (self._numbers - 1) if self._numbers > 1 else 0.0
        whole = self.kind == cells.INTEGER
        return {
            "min": int(self._least) if whole else self._least,
            "max": int(self._most) if whole else self._most,
            "mean": self._mean if math.isfinite(self._mean) else None,
            "std": math.sqrt(max(spread, 0.0)) if math.isfinite(spread) else None,
            "quantiles": {f"{share:g}": quantile(ordered, share) for share in _QUANTILES},
            "histogram": histogram(ordered, self._least, self._most, self._numbers),
            "quantiles_are_exact": self._numbers <= SAMPLE,
        }


class TableTally:
    """What a table held so far; the columns stand in the order in which they first appeared."""

    def __init__(self, name: str) -> None:
        """Start with nothing."""
        self.name = name
        self.rows = 0
        self.columns: dict[str, ColumnTally] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Count one row.

        Raises:
            TooLargeError: the table has more than 1,000 columns.
        """
        self.rows += 1
        for name, value in row.items():
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = self._new_column(name)
            if value is not None:
                column.add(value)

    def _new_column(self, name: str) -> ColumnTally:
        if len(self.columns) >= COLUMNS_MOST:
            raise TooLargeError(
                f"The table {self.name!r} has more than {COLUMNS_MOST} columns; the next one is"
                f" {cells.printable(name)[:_LONGEST_VALUE]!r}.",
                next_step="Put what varies from row to row into a list or an object in one column.",
                columns_most=COLUMNS_MOST,
            )
        return ColumnTally(name)

    @property
    def schema(self) -> list[tuple[str, str, str]]:
        """Name in the rows, name in the files (unique, has an UTF-8 form) and kind, per column."""
        taken: set[str] = set()
        found = []
        for column in self.columns.values():
            shown = wanted = cells.printable(column.name)
            number = 1
            while shown in taken:
                number += 1
                shown = f"{wanted} ({number})"
            taken.add(shown)
            found.append((column.name, shown, column.kind))
        return found

    def facts(self) -> dict[str, Any]:
        """Give the table's statistics as JSON values."""
        columns = []
        for tally, (_, shown, _) in zip(self.columns.values(), self.schema, strict=True):
            columns.append({**tally.facts(self.rows), "name": shown})
        return {"name": self.name, "rows": self.rows, "columns": columns}


def quantile(ordered: list[float], share: float) -> float:
    """Give the quantile of numbers in order by linear interpolation (R's type 7)."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    part = place - low
    return ordered[low] * (1 - part) + ordered[high] * part


def histogram(ordered: list[float], least: float, most: float, total: int) -> dict[str, Any]:
    """Count the numbers in equal bins from ``least`` to ``most``, scaled up to ``total``."""
    width = most / BINS - least / BINS
    if width <= 0 or not math.isfinite(width):
        return {"from": least, "to": most, "counts": [total]}
    counts = [0] * BINS
    for number in ordered:
        counts[min(int((number - least) / width), BINS - 1)] += 1
    scale = total / len(ordered)
    return {"from": least, "to": most, "counts": [round(count * scale) for count in counts]}
