"""What any rows become in CSV and Parquet: nothing lost, nothing changed."""

import csv
import io
import json
import math
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.pipelines.outputs import cells
from millpond.pipelines.outputs.rows import LONGEST_LINE_BYTES, lines_of
from millpond.pipelines.outputs.sheets import DigestedFile, write_table
from millpond.pipelines.outputs.tallies import SAMPLE, ColumnTally, TableTally

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8)
)
values = st.one_of(scalars, st.lists(scalars, max_size=3))
names = st.sampled_from(["a", "b", "Ü", "", 'x,"y"', "line\r\nbreak", "\udcff", "\\xff"])
tables = st.lists(st.dictionaries(names, values, max_size=4), max_size=12)


def write(rows):
    tally = TableTally("t")
    for row in rows:
        tally.add(row)
    with tempfile.TemporaryDirectory() as folder:
        sheet = DigestedFile(Path(folder, "csv"))
        parquet = DigestedFile(Path(folder, "parquet"))
        assert write_table(rows, tally.schema, sheet, parquet) == len(rows)
        text = sheet.path.read_bytes()
        assert len(text) == sheet.size
        return tally, text, parquet.path.read_bytes()


def alike(first, second):
    if isinstance(first, float) and isinstance(second, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    return type(first) is type(second) and first == second


@settings(max_examples=120, deadline=None)
@given(tables)
def test_every_value_comes_back_from_parquet(rows):
    tally, _, parquet = write(rows)
    found = pq.read_table(io.BytesIO(parquet)).to_pylist()
    if not tally.schema:
        return
    assert len(found) == len(rows)
    for row, kept in zip(rows, found, strict=True):
        for name, shown, kind in tally.schema:
            value = row.get(name)
            if value is None:
                assert kept[shown] is None
            elif kind == cells.TEXT:
                assert kept[shown] == cells.as_text(value)
            elif kind == cells.FLOAT:
                assert alike(kept[shown], float(value))
                assert isinstance(value, float) or int(kept[shown]) == value
            else:
                assert alike(kept[shown], value)


@settings(max_examples=120, deadline=None)
@given(tables)
def test_every_value_comes_back_from_csv(rows):
    tally, text, _ = write(rows)
    if not tally.schema:
        return
    found = list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))
    assert found[0] == [shown for _, shown, _ in tally.schema]
    assert len(found) == len(rows) + 1
    for row, kept in zip(rows, found[1:], strict=True):
        for (name, _, kind), cell in zip(tally.schema, kept, strict=True):
            value = row.get(name)
            assert cell == ("" if value is None else cells.as_text(cells.as_kind(value, kind)))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([1, None, 2], "integer"),
        ([1, 2.5], "float"),
        ([2.5, 1], "float"),
        ([2**53 + 1, 0.5], "text"),
        ([0.5, 2**53 + 1], "text"),
        ([2**63], "text"),
        ([True, False], "boolean"),
        ([True, 1], "text"),
        ([1, "1"], "text"),
        ([[1], {"a": 2}], "text"),
        ([None], "empty"),
    ],
)
def test_kinds_widen_without_changing_a_value(column, kind):
    tally, _, _ = write([{"c": value} for value in column])
    assert tally.schema == [("c", "c", kind)]


def test_missing_and_empty_text_differ_in_csv():
    _, text, _ = write([{"a": "", "b": 1}, {"a": None, "b": 2}])
    assert text == b'a,b\r\n"",1\r\n,2\r\n'


def test_formulas_are_left_as_they_are():
    _, text, _ = write([{"a": "=1+1"}])
    assert text == b"a\r\n=1+1\r\n"


def test_statistics_agree_with_the_textbook():
    tally = ColumnTally("n")
    for number in (2, 4, 4, 4, 5, 5, 7, 9):
        tally.add(number)
    facts = tally.facts(10)
    assert (facts["mean"], facts["missing"], facts["min"], facts["max"]) == (5.0, 2, 2, 9)
    assert facts["std"] == pytest.approx(2.138089935)
    assert facts["quantiles"]["0.5"] == 4.5
    assert sum(facts["histogram"]["counts"]) == 8
    assert facts["most_frequent"][0] == {"value": "4", "count": 3}


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=60))
def test_statistics_are_json_whatever_the_values(column):
    tally = TableTally("t")
    for value in column:
        tally.add({"c": value})
    json.dumps(tally.facts(), allow_nan=False)


def test_large_columns_are_sampled_and_say_so():
    tally = ColumnTally("n")
    for number in range(SAMPLE * 2):
        tally.add(number)
    facts = tally.facts(SAMPLE * 2)
    assert facts["quantiles_are_exact"] is False
    assert facts["mean"] == pytest.approx(SAMPLE - 0.5)
    assert facts["quantiles"]["0.5"] == pytest.approx(SAMPLE, rel=0.03)
    assert sum(facts["histogram"]["counts"]) == pytest.approx(SAMPLE * 2, rel=0.01)


def test_many_different_texts_take_bounded_memory_and_keep_the_most_frequent():
    tally = ColumnTally("t")
    for number in range(9_000):
        tally.add(f"rare {number}")
        tally.add("often")
    facts = tally.facts(18_000)
    assert facts["most_frequent"][0] == {"value": "often", "count": 9_000}
    assert facts["distinct"] is None
    assert facts["most_frequent_is_exact"] is False
    assert len(tally._values) <= 2_000


def test_a_line_without_end_is_not_kept():
    pieces = (b"x" * (1 << 20) for _ in range(40))
    (line, is_whole), *rest = lines_of(pieces)
    assert not is_whole
    assert len(line) < LONGEST_LINE_BYTES
    assert rest == []


@given(st.binary(max_size=60), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_stream_is_cut(data, step):
    data = data.replace(b"\x00", b"\n")
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    found = [line for line, _ in lines_of(pieces)]
    expected = data.split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])
