"""What people see: whole, on its line, and unable to move their cursor."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millpond.client import screen
from millpond.client.progress import Progress
from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.lake.values import DatasetVersion
from millpond.web.words import write_size

VERSION = DatasetVersion(
    "v", "d", 2, "ff", "files", 1, 5, "k", "upload", datetime(2026, 5, 1, tzinfo=UTC), "ann"
)


def test_values_become_json_with_their_address() -> None:
    made = screen.to_json({"version": VERSION, "folder": Path("/x"), "many": (1, 2)})
    assert made["version"]["address"] == "d@2"
    assert made["version"]["created_at"] == "2026-05-01T00:00:00+00:00"
    assert made["folder"] == "/x"
    assert made["many"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é", "plain é"), ("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\nb", "a\\nb"), ("\udce9", "\\udce9")],
)
def test_what_strangers_wrote_moves_no_cursor(text: str, shown: str) -> None:
    assert screen.shown(text) == shown


def test_lines_stay_lines_where_that_is_wanted() -> None:
    assert screen.harmless("a\n\x1b[1mb\tc", "\n\t") == "a\n\\x1b[1mb\tc"


@pytest.mark.parametrize(
    ("amount", "places", "text"),
    [(0, 3, "0.000"), (2e-5, 3, "<0.001"), (0.5, 2, "0.50"), (1234.5, 1, "1,234.5")],
)
def test_small_amounts_are_less_than_the_least_but_not_naught(
    amount: float, places: int, text: str
) -> None:
    assert screen.amount_text(amount, places) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (1 << 30, "1.1 GB"), (3e18, "3000 PB")],
)
def test_sizes(size: int, text: str) -> None:
    assert screen.size_text(size) == write_size(size) == text  # As the pages have it.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert screen.seconds_text(seconds) == text


def test_an_error_has_each_fault_on_its_line(capsys: Any) -> None:
    fault = InvalidError(
        "Two faults.", next_step="Mend them.", faults=[Fault("a.b", "too\x07 high"), Fault("", "c")]
    )
    screen.write_error(fault, 6, as_json=False)
    assert capsys.readouterr().err == (
        "error: Two faults.\n  - a.b: too\\x07 high\n  - c\nnext:  Mend them.\n"
    )
    assert screen.error_facts(NotFoundError("m", next_step="n", id="x"), 3) == {
        "error": {
            "code": "not_found", "message": "m", "next_step": "n", "faults": [],
            "facts": {"id": "x"}, "exit_code": 3,
        }
    }  # fmt: skip


def test_a_table_is_aligned_and_an_empty_one_speaks(capsys: Any) -> None:
    columns: list[screen.Column] = [("A", lambda one: one[0]), ("LONG", lambda one: one[1])]
    screen.write_table([("x", 1), ("yyy", None)], columns, "none")
    screen.write_table([], columns, "There is nothing.")
    assert capsys.readouterr().out == "A    LONG\nx    1\nyyy  -\nThere is nothing.\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_come_only_to_a_terminal_and_only_for_long_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with screen.progress_bars(quiet=False) as tell:
        tell(Progress("Reading", 1, 10, "files"))
    assert terminal.getvalue() == ""
    monkeypatch.setattr(screen, "_BAR_AFTER_SECONDS", 0.0)
    with screen.progress_bars(quiet=False) as tell:
        tell(Progress("Reading", 5, 10, "files", "step 1 of 2"))
    assert "Reading" in terminal.getvalue()
    assert "5 of 10 files" in terminal.getvalue()
    drawn = len(terminal.getvalue())
    with screen.progress_bars(quiet=True) as tell:
        tell(Progress("Reading", 5, 10, "files"))
    assert len(terminal.getvalue()) == drawn
