"""A look into files: bounded, in words, and never the server's end."""

import io
import json
import time
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millpond.lake.previews import parquet, rules

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
PLACE = "/projects/pond/datasets/d/versions/1"


@pytest.fixture
def look(http):
    def show(path, data, **more):
        http.push("d", {path: data, **more})
        newest = http.get("/projects/pond/datasets/d").json()["newest"]
        answer = http.get(
            f"/projects/pond/datasets/d/versions/{newest}/content/preview", params={"path": path}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    return show


def parquet_of(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def test_a_text_is_shown_whatever_its_encoding(look):
    cases = [
        ("plain é".encode(), "UTF-8", "plain é"),
        ("\ufeffmarked".encode(), "UTF-8", "marked"),
        ("wide ü".encode("utf-16"), "UTF-16", "wide ü"),
        ("caf\xe9 <script>alert(1)</script>".encode("latin-1"), "Windows-1252, guessed",
         "café <script>alert(1)</script>"),
    ]  # fmt: skip
    for data, encoding, text in cases:
        found = look("a.txt", data)
        assert (found["kind"], found["encoding"], found["text"]) == ("text", encoding, text)
        assert not found["is_cut"]
    long = look("long.txt", "é".encode() * 100_000)
    assert (long["kind"], long["is_cut"], len(long["text"])) == ("text", True, 32768)


def test_what_is_no_text_is_not_shown(look):
    for data in (b"\0\1\2" * 100, bytes(range(1, 256)) * 20, zlib.compress(b"x" * 9999)):
        found = look("x.bin", data)
        assert (found["kind"], found["text"]) == ("none", "")
        assert "can't be shown" in found["note"]
    assert look("empty", b"")["note"] == "The file is empty."


def test_a_csv_is_a_table_with_kinds(look):
    text = 'n,x,when,ok,word\n1,1.5,2026-01-01,true,"a, b"\n2,-2e3,2026-01-02T10:00:00,FALSE,\n'
    found = look("t.csv", text.encode())
    assert found["kind"] == "table"
    kinds = [column["kind"] for column in found["columns"]]
    assert kinds == ["whole number", "number", "date", "true or false", "text"]
    assert found["rows"][0] == ["1", "1.5", "2026-01-01", "true", "a, b"]
    assert (found["row_count"], found["column_count"], found["is_cut"]) == (2, 5, False)
    semicolons = look("s.csv", b"a;b\n1,5;2\n")
    assert semicolons["rows"] == [["1,5", "2"]]
    tabs = look("s.tsv", b"a\tb\r\n1\t2\r\n3\r\n")
    assert tabs["rows"] == [["1", "2"], ["3", None]]


def test_a_large_table_is_cut_by_rows_and_columns(look):
    head = ",".join(f"c{n}" for n in range(60))
    rows = "\n".join(",".join([str(n)] * 60) for n in range(10_000))
    found = look("t.csv", f"{head}\n{rows}\n".encode())
    assert (len(found["rows"]), len(found["columns"]), found["column_count"]) == (100, 50, 60)
    assert (found["is_cut"], found["row_count"]) == (True, None)
    wide = look("w.csv", b"a\n" + b"x" * 5000)
    assert len(wide["rows"][0][0]) == 301


def test_json_lines_are_a_table(look):
    rows = [{"a": 1, "b": [1, 2]}, {"a": 2.5, "c": None, "d": "x"}]
    found = look("t.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert found["rows"] == [["1", "[1, 2]", None, None], ["2.5", None, None, "x"]]
    kinds = {column["name"]: column["kind"] for column in found["columns"]}
    assert kinds == {"a": "mixed", "b": "list", "c": "empty", "d": "text"}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv", b'a,b\n"never closed' + b"x" * 300_000),
        ("a.csv", b"x" * (2 << 20)),
        ("a.jsonl", b"[" * 100_000),
        ("a.jsonl", b'{"a": ' * 5000),
        ("a.jsonl", b"[1]\n[2]\n"),
        ("a.ndjson", b"1" * 5000),
    ],
)
def test_what_is_no_table_is_shown_as_its_text(look, path, data):
    found = look(path, data)
    assert found["kind"] == "text"
    assert "table" in found["note"]


def test_a_parquet_file_shows_its_first_rows_and_types(look):
    columns = {f"c{n}": list(range(1000)) for n in range(60)}
    columns["c1"] = [{"deep": [n, None]} for n in range(1000)]
    columns["c2"] = ["x" * 1000] * 1000
    found = look("t.parquet", parquet_of(pa.table(columns)))
    assert (found["kind"], found["note"]) == ("table", "")
    assert (len(found["rows"]), found["row_count"]) == (100, 1000)
    assert (len(found["columns"]), found["column_count"]) == (50, 60)
    assert found["rows"][7][:2] == ["7", '{"deep": [7, null]}']
    assert len(found["rows"][7][2]) == 301
    assert found["columns"][0] == {"name": "c0", "kind": "int64"}
    empty = look("e.parquet", parquet_of(pa.table({"a": pa.array([], pa.int32())})))
    assert (empty["rows"], empty["row_count"]) == ([], 0)


def test_a_broken_parquet_file_is_told_in_words_and_breaks_nothing(look):
    good = parquet_of(pa.table({"a": list(range(5000))}))
    for step in range(11, len(good) - 8, max(1, len(good) // 12)):
        broken = bytearray(good)
        broken[step : step + 4] = b"\xff\xff\xff\x7f"
        found = look("t.parquet", bytes(broken))
        assert found["kind"] in ("table", "none")
        assert found["kind"] == "table" or "can't be shown" in found["note"]


def test_a_parquet_file_that_unpacks_to_too_much_is_refused_in_words():
    huge = pa.table({"a": pa.array(["x" * 150_000_000], pa.large_string())})
    data = parquet_of(huge, compression="zstd", use_dictionary=False, write_statistics=False)
    del huge
    assert len(data) < 1 << 20

    def read(start, length):
        return data[start : start + length]

    assert "fault" in parquet.look(read, len(data), 500 << 20)
    small = parquet_of(pa.table({"a": [1]}))
    shown = parquet.look(lambda start, length: small[start : start + length], len(small), 500 << 20)
    assert shown["rows"] == [["1"]]


def test_a_reader_that_asks_for_too_much_is_stopped():
    asked = []

    def read(start, length):
        asked.append(length)
        return bytes(length)

    found = parquet.look(read, 10 << 30)
    assert "fault" in found
    assert sum(asked) <= 64 << 20


def test_images_are_told_by_their_bytes_and_served_as_such(http, look):
    webp = b"RIFF\0\0\0\0WEBPVP8 "
    files = {"a.png": PNG, "b.txt": b"\xff\xd8\xff\xe0", "c.gif": b"GIF89a..", "d.webp": webp}
    svg = {"x.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'}
    http.push("d", {**files, **svg, "fake.png": b"<html>", "fake.svg": b"<html><svg "})
    types = {"a.png": "image/png", "b.txt": "image/jpeg", "c.gif": "image/gif",
             "d.webp": "image/webp"}  # fmt: skip
    for path, kind in types.items():
        found = http.get(f"{PLACE}/content/preview", params={"path": path}).json()
        assert (found["kind"], found["media_type"]) == ("image", kind)
        shown = http.get(f"{PLACE}/content/image", params={"path": path}, user="vera")
        assert (shown.headers["content-type"], shown.content) == (kind, files[path])
        assert "sandbox" in shown.headers["content-security-policy"]
        assert shown.headers["x-content-type-options"] == "nosniff"
    drawing = http.get(f"{PLACE}/content/image", params={"path": "x.svg"}, user="vera")
    assert (drawing.content, drawing.headers["content-type"]) == (svg["x.svg"], "image/svg+xml")
    found = http.get(f"{PLACE}/content/preview", params={"path": "x.svg"}).json()
    assert (found["kind"], found["media_type"]) == ("image", "image/svg+xml")
    # Opened by its own address it is shut in, and nothing of it runs.
    policy = drawing.headers["content-security-policy"]
    assert "sandbox" in policy.split("; ")
    assert "default-src 'none'" in policy
    for path in ("fake.png", "fake.svg"):
        assert http.get(f"{PLACE}/content/image", params={"path": path}).status_code == 404
        found = http.get(f"{PLACE}/content/preview", params={"path": path}).json()
        assert found["kind"] == "text"


def test_who_may_not_read_may_not_look(http):
    http.push("d", {"a": b"1"})
    for way in ("preview", "image"):
        path = f"{PLACE}/content/{way}?path=a"
        assert http.get(path, user="bo").status_code == 404
        assert http.get(path, user="nobody").status_code == 401
    assert http.get(f"{PLACE}/content/preview?path=b").status_code == 404
    assert http.get(f"{PLACE}/content/preview?path=a&path_bytes=!").status_code == 422


# Folders ---------------------------------------------------------------------------------------


def names(page):
    return [(item["name"], item["file_count"], item["size_bytes"]) for item in page["items"]]


def test_a_version_is_browsed_by_folder_and_searched(http):
    files = {"b/x.txt": b"12", "b/c/y.txt": b"345", "b.txt": b"1", "a/z.TXT": b"", "B": b"1"}
    http.push("d", files)
    tree = f"{PLACE}/tree"
    top = http.get(tree).json()
    assert names(top) == [("a", 1, 0), ("b", 2, 5), ("B", 1, 1), ("b.txt", 1, 1)]
    assert names(http.get(tree, params={"path": "b"}).json()) == [("c", 1, 3), ("x.txt", 1, 2)]
    assert names(http.get(tree, params={"path": "b/c"}).json()) == [("y.txt", 1, 3)]
    assert names(http.get(tree, params={"path": "no"}).json()) == []
    found = http.get(tree, params={"search": "TXT", "path": "b"}).json()
    assert [item["path"] for item in found["items"]] == ["b/c/y.txt", "b/x.txt"]
    first = http.get(tree, params={"limit": 3}).json()
    rest = http.get(tree, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert names(first) + names(rest) == names(top)
    assert rest["next_cursor"] is None


def test_files_are_added_to_a_version(http):
    http.push("d", {"a": b"1", "b": b"2"})
    http.push("e", {"x": b"9", "y": b"8"})

    def entry(path, data):
        return {"path": path, **{k: http.get("/projects/pond/datasets/e/versions/1/tree").json()
                ["items"][data][k] for k in ("digest",)}, "size": 1}  # fmt: skip

    place = "/projects/pond/datasets/d/versions"
    body = {"files": [entry("b", 0), entry("c/d", 1)], "add_to": 1}
    made = http.post(place, json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["number"], made.json()["file_count"]) == (2, 3)
    got = {path: http.get(f"{place}/2/content?path={path}").content for path in ("a", "b", "c/d")}
    assert got == {"a": b"1", "b": b"9", "c/d": b"8"}
    clash = http.post(place, json={"files": [entry("a/under", 0)], "add_to": 1})
    assert clash.status_code == 422
    assert http.post(place, json={**body, "add_to": 7}).status_code == 404


def test_datasets_are_searched_by_name(http):
    for name in ("reviews", "old_reviews", "films"):
        http.push(name, {"a": name.encode()})

    def found(text):
        items = http.get("/projects/pond/datasets", params={"search": text}).json()["items"]
        return [item["name"] for item in items]

    assert found("VIEW") == ["old_reviews", "reviews"]
    assert found("d_r") == ["old_reviews"]
    assert found("%") == []


@pytest.mark.parametrize(
    "head",
    [b"<!-- -->" * 8000, b" " * 60_000, b"<?xml " * 9000, b"<!--" * 16_000, b"<!DOCTYPE" * 7000],
    ids=["comments", "spaces", "declarations", "open comments", "types"],
)
def test_a_drawing_made_to_be_looked_at_for_ever_is_told_at_once(head):
    began = time.process_time()
    assert not rules.is_svg("x.svg", head)
    assert rules.is_svg("x.svg", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --> <!-- b --><svg>")
    assert time.process_time() - began < 1
