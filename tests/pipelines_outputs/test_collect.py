import csv
import io
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from millpond.ground.errors import InvalidError, NotFoundError, TooLargeError
from millpond.pipelines.outputs.collect import collect
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.values import GatheredOutput


@pytest.fixture
def gather(objects, make_collection, tmp_path):
    def run(*outputs, **changes):
        collected = collect(objects, make_collection(*outputs, **changes), tmp_path)
        found = {each.path: objects.get(each.key) for each in collected.manifest.files}
        assert read_outputs(objects, collected.manifest_key) == collected.manifest
        assert all(len(found[each.path]) == each.size for each in collected.manifest.files)
        return found, collected

    return run


def read_csv(data):
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_writes_every_row_of_every_part_once_and_in_order(gather, keep_rows, table):
    found, _ = gather(
        table(keep_rows({"a": 1, "b": "x"}), keep_rows({"a": 2.5}, {"b": None, "c": [1]}))
    )
    assert found["tables/types.csv"] == b"a,b,c\r\n1.0,x,\r\n2.5,,\r\n,,[1]\r\n"
    assert pq.read_table(io.BytesIO(found["tables/types.parquet"])).to_pylist() == [
        {"a": 1.0, "b": "x", "c": None},
        {"a": 2.5, "b": None, "c": None},
        {"a": None, "b": None, "c": "[1]"},
    ]
    assert found["predictions.csv"] == found["tables/types.csv"]


def test_gives_statistics_report_and_record(gather, keep_rows, table):
    found, collected = gather(table(keep_rows(*({"n": n, "t": "ab"[n % 2]} for n in range(10)))))
    statistics = json.loads(found["statistics.json"])
    n, t = statistics["tables"][0]["columns"]
    assert (n["type"], n["min"], n["max"], n["mean"], n["missing"]) == ("integer", 0, 9, 4.5, 0)
    assert n["quantiles"]["0.5"] == 4.5
    assert t["most_frequent"] == [{"value": "a", "count": 5}, {"value": "b", "count": 5}]
    assert statistics["counts"]["failed tries"] == 1
    record = json.loads(found["provenance.json"])
    listed = {each["path"]: each["digest"] for each in record["outputs"]}
    kept = {each.path: each.digest for each in collected.manifest.files}
    assert listed == {path: digest for path, digest in kept.items() if path != "provenance.json"}
    assert record["inputs"][0]["digest"] == "d" * 64
    assert (record["code"]["digest"], record["environment"]["lock_digest"]) == ("c" * 64, "l" * 64)
    assert record["run"]["state"] == "succeeded"
    assert b"Types of files" in found["report.html"]


def test_names_the_predictions_when_an_output_is_called_so(gather, keep_rows, table):
    found, _ = gather(
        table(keep_rows({"x": 1}), name="summary"), table(keep_rows({"y": 2}), name="predictions")
    )
    assert found["predictions.csv"] == b"y\r\n2\r\n"


def test_a_run_without_rows_has_an_empty_table(gather, keep_rows, table):
    found, _ = gather(table())
    assert found["tables/types.csv"] == b"\r\n"
    assert pq.read_table(io.BytesIO(found["tables/types.parquet"])).num_rows == 0
    assert "predictions.csv" in found
    assert json.loads(found["statistics.json"])["tables"][0]["rows"] == 0


def test_a_run_without_a_table_has_statistics_and_no_predictions(gather, keep):
    out = GatheredOutput("plots", "files", "", "draw", (keep("a.svg", b"<svg/>"),))
    found, _ = gather(out)
    assert sorted(found) == [
        "files/plots/a.svg",
        "provenance.json",
        "report.html",
        "statistics.json",
    ]


def test_files_stay_where_they_are_and_keep_their_names(gather, keep):
    parts = (keep("a/b.txt", b"1"), keep("\udcff\n.txt", b"2"))
    _, collected = gather(GatheredOutput("out", "files", "", "s", parts))
    by_raw = {each.raw_path: each for each in collected.manifest.files}
    assert by_raw[b"files/out/a/b.txt"].key == parts[0].key
    odd = find_output(collected.manifest, b"files/out/\xff\n.txt")
    assert odd.path == "files/out/\\xff\n.txt"
    with pytest.raises(NotFoundError, match="no file"):
        find_output(collected.manifest, odd.path.encode())


def test_files_of_one_name_get_a_number_and_a_warning(gather, keep):
    out = GatheredOutput("out", "files", "", "s", (keep("x.txt", b"1"), keep("x.txt", b"2")))
    found, collected = gather(out)
    assert (found["files/out/x.txt"], found["files/out/x (2).txt"]) == (b"1", b"2")
    assert any("given a number" in each for each in collected.warnings)


def test_lines_that_are_no_rows_stand_apart(gather, keep, table):
    part = keep("rows.jsonl", b'{"a": 1}\n[2]\nnonsense\n\n{"a": 3}')
    found, collected = gather(table(part))
    assert found["predictions.csv"] == b"a\r\n1\r\n3\r\n"
    rejects = read_csv(found["tables/types.rejects.csv"])
    assert [(row[1], row[3]) for row in rejects[1:]] == [("2", "[2]"), ("3", "nonsense")]
    assert any(each.startswith("2 lines are no rows") for each in collected.warnings)


def test_reads_tables_that_programs_wrote(gather, keep, table):
    import gzip

    sink = io.BytesIO()
    pq.write_table(__import__("pyarrow").table({"id": [5], "v": [[1, 2]]}), sink)
    found, _ = gather(
        table(
            keep("a.csv", '\ufeffid,v\r\n1,"x, y"\n007,1.50\n'.encode()),
            keep("b.tsv", b"id\tv\n2\t\n"),
            keep("c.jsonl.gz", gzip.compress(b'{"id": 3}\n') + gzip.compress(b'{"id": 4}\n')),
            keep("d.parquet", sink.getvalue()),
        )
    )
    assert read_csv(found["predictions.csv"])[1:] == [
        ["1", "x, y"], ["007", "1.50"], ["2", ""], ["3", ""], ["4", ""], ["5", "[1,2]"],
    ]  # fmt: skip


def test_refuses_a_damaged_part(gather, keep, table):
    with pytest.raises(InvalidError, match="Parquet"):
        gather(table(keep("a.parquet", b"PAR1 no")))
    with pytest.raises(InvalidError, match="gzip"):
        gather(table(keep("a.csv.gz", b"no")))


def test_refuses_a_bomb_and_a_table_without_end_to_its_columns(gather, keep, keep_rows, table):
    import gzip

    bomb = gzip.compress(b" " * (90 << 20), 9)
    with pytest.raises(TooLargeError, match="unpacks"):
        gather(table(keep("a.jsonl.gz", bomb)))
    with pytest.raises(TooLargeError, match="columns"):
        gather(table(keep_rows(*({f"c{number}": 1} for number in range(1001)))))


def test_logs_are_put_together_by_step(gather, objects):
    objects.put("runs/r1/identify/0/1.log/00000000", b"one\n")
    objects.put("runs/r1/identify/0/1.log/00000001", b"two")
    objects.put("runs/r1/identify/1/1.log/00000000", b"three\n")
    objects.put("runs/r1/sum/0/1.log/00000000", b"four\n")
    logs = {
        "identify": ("runs/r1/identify/0/1", "runs/r1/identify/1/1"),
        "sum": ("runs/r1/sum/0/1",),
    }
    found, _ = gather(logs=logs)
    assert found["logs/identify.log"] == b"--- task 0/1\none\ntwo\n--- task 1/1\nthree\n"
    assert found["logs/sum.log"] == b"four\n"


def test_collecting_again_gives_the_same(gather, keep_rows, table):
    part = keep_rows({"a": 1})
    first, one = gather(table(part))
    second, other = gather(table(part))
    assert (first, one) == (second, other)


def test_leaves_nothing_on_disk(gather, keep_rows, tmp_path, table):
    gather(table(keep_rows({"a": 1})))
    assert not list(tmp_path.glob("millpond-outputs-*"))


def test_says_when_the_code_was_not_isolated(objects, make_collection):
    collection = make_collection()
    collection = replace(collection, run=replace(collection.run, isolated=False))
    assert any("without a sandbox" in each for each in collect(objects, collection).warnings)
