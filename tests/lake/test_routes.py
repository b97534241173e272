import hashlib
import io
import tarfile
import zipfile

import pytest


def digest(data):
    return hashlib.sha256(data).hexdigest()


def pack(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in contents:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_pushed_files_come_back_whole_in_ranges_and_as_a_zip(http, objects):
    files = {"a.txt": b"hello world", "deep/b.bin": b"\0" * 3_000_000, "empty": b""}
    made = http.push("reviews", files)
    assert made.status_code == 201, made.text
    version = made.json()
    assert (version["number"], version["file_count"]) == (1, 3)
    assert version["size_bytes"] == 3_000_011
    place = "/projects/pond/datasets/reviews/versions/1"
    listed = http.get(f"{place}/files", params={"limit": 2}).json()
    assert [one["path"] for one in listed["items"]] == ["a.txt", "deep/b.bin"]
    rest = http.get(f"{place}/files", params={"limit": 2, "cursor": listed["next_cursor"]}).json()
    assert [one["path"] for one in rest["items"]] == ["empty"]
    assert rest["next_cursor"] is None
    for path, data in files.items():
        got = http.get(f"{place}/content", params={"path": path}, user="vera")
        assert got.content == data
        assert got.headers["content-disposition"].startswith("attachment;")
        assert got.headers["x-content-type-options"] == "nosniff"
    part = http.get(f"{place}/content", params={"path": "a.txt"}, headers={"Range": "bytes=6-"})
    assert (part.status_code, part.content) == (206, b"world")
    assert part.headers["content-range"] == "bytes 6-10/11"
    beyond = http.get(f"{place}/content", params={"path": "a.txt"}, headers={"Range": "bytes=11-"})
    assert beyond.status_code == 416
    zipped = zipfile.ZipFile(io.BytesIO(http.get(f"{place}/archive").content))
    assert zipped.testzip() is None
    assert {name: zipped.read(name) for name in zipped.namelist()} == files


def test_the_same_content_again_makes_no_version_and_another_does(http):
    assert http.push("d", {"a": b"1"}).json()["unchanged"] is False
    again = http.push("d", {"a": b"1"}).json()
    assert (again["number"], again["unchanged"]) == (1, True)
    assert http.push("d", {"a": b"2"}).json()["number"] == 2
    assert http.push("d", {"a": b"1"}).json()["number"] == 3
    assert http.get("/projects/pond/datasets/d").json()["newest"] == 3


def test_missing_contents_are_asked_for_and_all_named(http):
    here, away = b"here", b"away"
    http.push("d", {"a": here})
    asked = [{"digest": digest(data), "size": len(data)} for data in (here, away)]
    found = http.post("/projects/pond/objects/missing", json={"objects": asked})
    assert found.json() == {"missing": [digest(away)]}
    wrong_size = [{"digest": digest(here), "size": 5}]
    found = http.post("/projects/pond/objects/missing", json={"objects": wrong_size})
    assert found.json() == {"missing": [digest(here)]}
    listed = [{"path": f"f{n}", "digest": digest(b"%d" % n), "size": 1} for n in range(25)]
    refused = http.post("/projects/pond/datasets/e/versions", json={"files": listed})
    assert refused.status_code == 422
    faults = refused.json()["faults"]
    assert len(faults) == 21
    assert faults[-1]["message"] == "and 5 more"
    assert http.get("/projects/pond/datasets/e").status_code == 404


def test_a_content_of_another_digest_leaves_nothing(http, objects):
    for data in (b"x", b"x" * 9_000_000):
        wrong = digest(b"something else")
        sent = http.send("PUT", f"/projects/pond/objects/{wrong}", content=data)
        assert sent.status_code == 422, sent.text
        assert digest(data) in sent.json()["faults"][0]["message"]
    assert list(objects.list("")) == []
    good = http.send("PUT", f"/projects/pond/objects/{digest(data)}", content=data)
    assert (good.status_code, good.json()["size"]) == (201, 9_000_000)
    again = http.send("PUT", f"/projects/pond/objects/{digest(data)}", content=data)
    assert again.status_code == 201
    assert [objects.get(info.key) for info in objects.list("")] == [data]


def test_a_content_may_not_be_longer_than_a_file(http, objects):
    sent = http.send("PUT", f"/projects/pond/objects/{digest(b'')}", content=b"x" * (31 << 20))
    assert sent.status_code == 413
    assert list(objects.list("")) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (pack([(digest(b"a"), b"a"), (digest(b"b"), b"c"), ("../x", b"d")]), 422),
        (pack([(digest(b"a"), b"a")])[:700], 422),
        (b"no tar at all", 422),
        (pack([(digest(b"x" * (5 << 20)), b"x" * (5 << 20))]), 413),
    ],
)
def test_a_bad_pack_stores_nothing(http, objects, body, status):
    sent = http.post("/projects/pond/objects", content=body)
    assert sent.status_code == status
    assert list(objects.list("")) == []


def test_names_that_are_not_utf8_keep_their_bytes(http):
    data = b"x"
    http.push("d", {"other": data})
    entry = {
        "path": "caf\\xe9\n.txt",
        "path_bytes": "Y2Fm6QoudHh0",
        "digest": digest(data),
        "size": 1,
    }
    made = http.post("/projects/pond/datasets/d/versions", json={"files": [entry]})
    assert made.status_code == 201, made.text
    place = "/projects/pond/datasets/d/versions/2"
    assert http.get(f"{place}/files").json()["items"] == [entry]
    asked = {"path": entry["path"], "path_bytes": entry["path_bytes"]}
    got = http.get(f"{place}/content", params=asked)
    assert got.content == data
    assert got.headers["content-disposition"].endswith("filename*=UTF-8''caf%E9%0A.txt")
    assert http.get(f"{place}/content", params={"path": entry["path"]}).status_code == 404
    zipped = zipfile.ZipFile(io.BytesIO(http.get(f"{place}/archive").content))
    assert zipped.infolist()[0].orig_filename.encode("cp437") == b"caf\xe9\n.txt"


def test_wrong_files_are_named_all_at_once(http):
    ok = {"digest": digest(b""), "size": 0}
    listed = [
        {"path": "../up", **ok},
        {"path": "/abs", **ok},
        {"path": "C:\\x", **ok},
        {"path": "a//b", **ok},
        {"path": "a/./b", **ok},
        {"path": "", **ok},
        {"path": "same", **ok},
        {"path": "same", **ok},
        {"path": "same/under", **ok},
        {"path": "d", "digest": "ABC", "size": -1},
        {"path": "b", "path_bytes": "%%%", **ok},
        {"path": "l", "path_bytes": "eA==", **ok},
    ]
    refused = http.post("/projects/pond/datasets/d/versions", json={"files": listed})
    assert refused.status_code == 422
    fields = {fault["field"] for fault in refused.json()["faults"]}
    expected = {f"files.{n}.path" for n in range(6)} | {"files", "files.9.digest", "files.9.size"}
    assert fields == expected | {"files.10.path_bytes", "files.11.path_bytes"}
    for body in ({}, {"files": []}, {"files": [], "archive": "0" * 64}):
        assert http.post("/projects/pond/datasets/d/versions", json=body).status_code == 422
    for name in ("Bad Name", "new"):
        refused = http.push(name, {"a": b"1"})
        assert (refused.status_code, refused.json()["faults"][0]["field"]) == (422, "name")


def test_an_archive_is_unpacked_on_the_server(http):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("in/a.txt", "a" * 2_000_000)
        made.writestr("b.txt", "b")
    data = buffer.getvalue()
    http.send("PUT", f"/projects/pond/objects/{digest(data)}", content=data)
    sent = http.post("/projects/pond/datasets/z/versions", json={"archive": digest(data)})
    assert sent.status_code == 201, sent.text
    assert sent.json()["size_bytes"] == 2_000_001
    got = http.get("/projects/pond/datasets/z/versions/1/content", params={"path": "b.txt"})
    assert got.content == b"b"
    absent = http.post("/projects/pond/datasets/z/versions", json={"archive": "0" * 64})
    assert absent.status_code == 404


def test_a_table_is_made_of_tables_alone(http):
    http.push("d", {"a.csv": b"x\n1\n", "b.txt": b"x"})
    csv = {"path": "a.csv", "digest": digest(b"x\n1\n"), "size": 4}
    text = {"path": "b.txt", "digest": digest(b"x"), "size": 1}
    place = "/projects/pond/datasets/t/versions"
    refused = http.post(place, json={"files": [csv, text], "kind": "table"})
    assert refused.status_code == 422
    assert "b.txt" in refused.json()["faults"][0]["message"]
    assert http.post(place, json={"files": [csv], "kind": "table"}).json()["kind"] == "table"


def test_a_version_is_made_once_for_one_key(http):
    http.push("d", {"a": b"1"})
    http.push("d", {"a": b"2"})
    body = {"files": [{"path": "a", "digest": digest(b"1"), "size": 1}]}
    place, headers = "/projects/pond/datasets/d/versions", {"Idempotency-Key": "one"}
    first = http.post(place, json=body, headers=headers)
    http.push("d", {"a": b"2"})
    again = http.post(place, json=body, headers=headers)
    assert first.json() == again.json()
    assert http.get("/projects/pond/datasets/d").json()["newest"] == 4


def test_viewers_read_strangers_see_nothing_nobody_is_asked_in(http):
    http.push("d", {"a": b"1"})
    known = {"objects": [{"digest": digest(b"1"), "size": 1}]}
    calls = [
        ("GET", "/projects/pond/datasets", {}),
        ("GET", "/projects/pond/datasets/d", {}),
        ("GET", "/projects/pond/datasets/d/versions", {}),
        ("GET", "/projects/pond/datasets/d/versions/1", {}),
        ("GET", "/projects/pond/datasets/d/versions/1/files", {}),
        ("GET", "/projects/pond/datasets/d/versions/1/content?path=a", {}),
        ("GET", "/projects/pond/datasets/d/versions/1/archive", {}),
        ("POST", "/projects/pond/objects/missing", {"json": known}),
        ("POST", "/projects/pond/objects", {"content": pack([])}),
        ("PUT", f"/projects/pond/objects/{digest(b'2')}", {"content": b"2"}),
        ("POST", "/projects/pond/datasets/d/versions", {"json": {"files": []}}),
        ("DELETE", "/projects/pond/datasets/d", {}),
    ]
    for method, path, rest in calls:
        expected = 200 if method == "GET" else 403
        assert http.send(method, path, user="vera", **rest).status_code == expected, path
        assert http.send(method, path, user="bo", **rest).status_code == 404, path
        assert http.send(method, path, user="nobody", **rest).status_code == 401, path
    # The digest of another project's content is worth nothing in one's own.
    missing = http.post("/projects/other/objects/missing", user="bo", json=known)
    assert missing.json()["missing"] == [digest(b"1")]


def test_deleting_hides_and_numbers_are_never_used_again(http):
    http.push("d", {"a": b"1"})
    assert http.send("DELETE", "/projects/pond/datasets/d").status_code == 204
    assert http.send("DELETE", "/projects/pond/datasets/d").status_code == 404
    assert http.get("/projects/pond/datasets").json()["items"] == []
    assert http.get("/projects/pond/datasets/d/versions/1").status_code == 404
    assert http.push("d", {"a": b"1"}).json()["number"] == 2
    versions = http.get("/projects/pond/datasets/d/versions").json()["items"]
    assert [one["number"] for one in versions] == [2]


def test_lists_come_in_pages(http):
    for name in ("c", "a", "b"):
        http.push(name, {"x": name.encode()})
    first = http.get("/projects/pond/datasets", params={"limit": 2}).json()
    assert [one["name"] for one in first["items"]] == ["a", "b"]
    second = http.get(
        "/projects/pond/datasets", params={"limit": 2, "cursor": first["next_cursor"]}
    ).json()
    assert [one["name"] for one in second["items"]] == ["c"]
