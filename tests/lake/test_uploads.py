"""Uploads by tus: whatever breaks, what had come is kept, and the content comes out whole."""

import base64
import hashlib
import re
import threading
from datetime import timedelta

import pytest

from millpond.ground.errors import ConflictError
from millpond.lake.uploads import parts
from millpond.lake.uploads.parts import Intake
from millpond.lake.uploads.tables import upload, upload_part
from millpond.lake.uploads.values import PARTS, Upload
from millpond.lake.values import object_key

PLACE = "/projects/pond/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


def metadata(**pairs):
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


def begin(http, size, path="a.bin", *, content=None, **rest):
    headers = {**(TUS if content is None else PIECE), "Upload-Length": str(size)}
    headers["Upload-Metadata"] = metadata(filename=path, **rest)
    return http.post(PLACE, headers=headers, content=content)


def place_of(made):
    assert made.status_code == 201, made.text
    return made.headers["location"].removeprefix("/api/v1")


def patch(http, place, offset, data, **headers):
    sent = {**PIECE, "Upload-Offset": str(offset), **headers}
    return http.send("PATCH", place, headers=sent, content=data)


def stands_at(http, place):
    found = http.send("HEAD", place, headers=TUS)
    assert found.status_code == 200
    assert found.headers["cache-control"] == "no-store"
    return int(found.headers["upload-offset"])


def digest_in(answer):
    text = re.fullmatch(r"sha-256=:(.+):", answer.headers["repr-digest"])[1]
    return base64.b64decode(text).hex()


def part_keys(objects):
    return [info.key for info in objects.list(PARTS)]


def test_a_file_in_pieces_becomes_a_content_that_a_version_names(http, objects):
    data = bytes(range(256)) * 20_000  # 5 MB: more than comes without a part.
    made = begin(http, len(data), "deep/er/a.bin", relativePath="deep/er/a.bin", batch="b1")
    place = place_of(made)
    assert made.headers["tus-resumable"] == "1.0.0"
    assert made.headers["upload-offset"] == "0"
    assert "upload-expires" in made.headers
    offset = 0
    for end in (1, 700_000, 4_999_999, len(data)):
        answer = patch(http, place, offset, data[offset:end])
        assert answer.status_code == 204, answer.text
        assert answer.headers["upload-offset"] == str(end)
        assert stands_at(http, place) == end
        offset = end
    found = hashlib.sha256(data).hexdigest()
    assert digest_in(answer) == found
    shown = http.get(place).json()
    assert (shown["digest"], shown["path"], shown["batch"]) == (found, "deep/er/a.bin", "b1")
    assert part_keys(objects) == []
    assert objects.get(object_key("prj_pond", found)) == data
    listed = [{"path": shown["path"], "digest": found, "size": len(data)}]
    version = http.post("/projects/pond/datasets/d/versions", json={"files": listed})
    assert version.status_code == 201, version.text


@pytest.mark.parametrize("data", [b"", b"x", b"y" * (3 << 20)])
def test_a_small_file_comes_with_its_beginning_in_one_request(http, objects, data):
    made = begin(http, len(data), "name\nwith a line.txt", content=data)
    assert digest_in(made) == hashlib.sha256(data).hexdigest()
    assert objects.get(object_key("prj_pond", digest_in(made))) == data
    assert part_keys(objects) == []
    assert stands_at(http, place_of(made)) == len(data)


def test_an_empty_file_needs_no_piece(http, objects):
    made = begin(http, 0)
    assert digest_in(made) == hashlib.sha256(b"").hexdigest()
    assert objects.get(object_key("prj_pond", digest_in(made))) == b""


class Breaking:
    """A body whose line breaks, or a whole one."""

    def __init__(self, data, *, breaks=True):
        self.data, self.breaks = data, breaks

    def read(self, size=-1):
        if not self.data and self.breaks:
            raise ConnectionResetError("gone")
        size = min(size, 1000)
        piece, self.data = self.data[:size], self.data[size:]
        return piece


class Caller:
    def __init__(self, database):
        self.read, self.change = database.read, database.change


def find(http, place):
    facts = http.get(place).json()
    return Upload(**{**facts, "expires_at": None, "created_at": None, "changed_at": None})


def test_what_came_before_the_line_broke_is_kept_by_any_server(http, people, objects, limits):
    data = bytes(range(251)) * 2000
    place = place_of(begin(http, len(data)))
    caller = Caller(people)
    one, other = (Intake(objects, limits, part_bytes=100_000) for _ in range(2))
    with pytest.raises(ConnectionResetError):
        one.receive(caller, "prj_pond", find(http, place), Breaking(data[:250_500]))
    assert stands_at(http, place) == 250_500
    with pytest.raises(ConnectionResetError):  # Another server, which knows no sum.
        other.receive(caller, "prj_pond", find(http, place), Breaking(data[250_500:300_000]))
    assert stands_at(http, place) == 300_000
    rest = Breaking(data[300_000:], breaks=False)
    done = one.receive(caller, "prj_pond", find(http, place), rest)
    assert done.digest == hashlib.sha256(data).hexdigest()
    assert objects.get(object_key("prj_pond", done.digest)) == data
    assert part_keys(objects) == []


def test_a_line_that_breaks_after_the_last_byte_loses_nothing(http, people, objects, limits):
    data = b"z" * (5 << 20)
    place = place_of(begin(http, len(data)))
    with pytest.raises(ConnectionResetError):
        Intake(objects, limits).receive(
            Caller(people), "prj_pond", find(http, place), Breaking(data)
        )
    assert digest_in(http.send("HEAD", place, headers=TUS)) == hashlib.sha256(data).hexdigest()


def test_of_two_senders_of_one_place_the_first_wins_and_nothing_is_left(
    http, people, objects, limits
):
    data = b"q" * (6 << 20)
    place = place_of(begin(http, len(data)))
    stale = find(http, place)
    assert patch(http, place, 0, data[:5_000_000]).status_code == 204
    with pytest.raises(ConflictError):
        Intake(objects, limits).receive(
            Caller(people), "prj_pond", stale, Breaking(b"w" * 5_500_000, breaks=False)
        )
    assert len(part_keys(objects)) == 1
    done = patch(http, place, 5_000_000, data[5_000_000:])
    assert digest_in(done) == hashlib.sha256(data).hexdigest()


def test_many_senders_at_once_end_with_one_content(http, people, objects, limits):
    data = bytes(range(256)) * 4096
    place = place_of(begin(http, len(data)))
    intake, caller = Intake(objects, limits, part_bytes=70_000), Caller(people)

    def send():
        while True:
            now = find(http, place)
            if now.is_whole:
                return
            body = Breaking(data[now.received_bytes :], breaks=False)
            try:
                intake.receive(caller, "prj_pond", now, body)
            except ConflictError:
                continue

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = http.get(place).json()
    assert found["digest"] == hashlib.sha256(data).hexdigest()
    assert objects.get(object_key("prj_pond", found["digest"])) == data


def checksum(algorithm, data):
    value = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    return {"Upload-Checksum": f"{algorithm} {value}"}


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_piece_with_another_checksum_counts_for_nothing(http, objects, algorithm):
    data = b"c" * (9 << 20)
    place = place_of(begin(http, len(data)))
    wrong = patch(http, place, 0, data[: 5 << 20], **checksum(algorithm, b"other"))
    assert wrong.status_code == 460, wrong.text
    assert (stands_at(http, place), part_keys(objects)) == (0, [])
    half = patch(http, place, 0, data[: 5 << 20], **checksum(algorithm, data[: 5 << 20]))
    assert half.status_code == 204, half.text
    rest = data[5 << 20 :]
    done = patch(http, place, 5 << 20, rest, **checksum(algorithm, rest))
    assert digest_in(done) == hashlib.sha256(data).hexdigest()
    small = begin(http, 3, "s", content=b"abd")
    assert digest_in(small) == hashlib.sha256(b"abd").hexdigest()
    headers = {**PIECE, "Upload-Length": "3", "Upload-Metadata": metadata(filename="t")}
    wrong = http.post(PLACE, headers={**headers, **checksum(algorithm, b"abc")}, content=b"abd")
    assert wrong.status_code == 460


def test_more_than_was_declared_is_refused_and_not_kept(http, objects):
    place = place_of(begin(http, 10))
    assert patch(http, place, 0, b"x" * 11).status_code == 413

    async def unknown_length():
        yield b"x" * 8
        yield b"x" * 8

    assert patch(http, place, 0, unknown_length()).status_code == 413
    assert (stands_at(http, place), part_keys(objects)) == (0, [])
    assert patch(http, place, 3, b"x").status_code == 409
    assert patch(http, place, 0, b"0123456789").status_code == 204
    assert patch(http, place, 10, b"x").status_code == 413


def test_an_upload_is_its_senders_alone_and_can_be_given_up(http, objects):
    place = place_of(begin(http, 6 << 20))
    patch(http, place, 0, b"x" * (5 << 20))
    assert len(part_keys(objects)) == 1
    for user, status in (("vera", 403), ("bo", 404), ("nobody", 401)):
        for method in ("HEAD", "GET", "PATCH", "DELETE"):
            answer = http.send(method, place, user=user, headers={**PIECE, "Upload-Offset": "0"})
            assert answer.status_code == status, (user, method)
    other = place.replace("/pond/", "/other/")
    assert http.send("HEAD", other, headers=TUS).status_code == 404
    assert [one["id"] for one in http.get(PLACE).json()["items"]] == [place.split("/")[-1]]
    assert http.get(f"{PLACE}?finished=true").json()["items"] == []
    assert http.send("DELETE", place, headers=TUS).status_code == 204
    assert http.send("HEAD", place, headers=TUS).status_code == 404
    assert part_keys(objects) == []


def test_too_much_under_way_is_refused(http, limits):
    for number in range(limits.open_uploads):
        assert begin(http, 1, f"f{number}").status_code == 201
    refused = begin(http, 1)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    first = http.get(PLACE).json()["items"][0]["id"]
    patch(http, f"{PLACE}/{first}", 0, b"x")
    assert begin(http, limits.unfinished_bytes).status_code == 413
    assert begin(http, limits.file_bytes + 1).status_code == 413
    assert begin(http, 1).status_code == 201


@pytest.mark.parametrize("path", ["../up", "/abs", "a//b", "", "C:\\x", "n" * 300, "a\0b"])
def test_a_path_that_no_version_may_hold_is_refused_before_a_byte_is_sent(http, path):
    refused = begin(http, 5, path)
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["field"] == "Upload-Metadata.relativePath"


def test_an_upload_that_waits_too_long_is_cleared_with_its_parts(http, people, objects, limits):
    old = place_of(begin(http, 6 << 20))
    patch(http, old, 0, b"x" * (5 << 20))
    young = place_of(begin(http, 6 << 20))
    patch(http, young, 0, b"x" * (5 << 20))
    objects.put(f"{PARTS}prj_pond/upl_gone/1000-abc", b"left by a server that died")
    past = timedelta(seconds=limits.upload_seconds + 1)
    with people.transaction() as tx:
        mine = upload.c.id == old.rpartition("/")[2]
        tx.execute(upload.update().where(mine).values(expires_at=tx.now - past))
    assert http.send("HEAD", old, headers=TUS).status_code == 404
    people.change(lambda tx: parts.clear(tx, objects))
    assert len(part_keys(objects)) == 1
    assert people.read(lambda tx: len(tx.rows(upload_part.select()))) == 1
    assert stands_at(http, young) == 5 << 20


def test_the_protocol_is_told_and_asked_for(http):
    told = http.send("OPTIONS", PLACE)
    assert told.status_code == 204
    assert told.headers["tus-version"] == "1.0.0"
    assert "termination" in told.headers["tus-extension"]
    old = http.post(PLACE, headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    assert (old.status_code, old.headers["tus-version"]) == (412, "1.0.0")
    place = place_of(begin(http, 3))
    wrong = patch(http, place, 0, b"abc", **{"Content-Type": "text/plain"})
    assert wrong.status_code == 415
    assert wrong.headers["tus-resumable"] == "1.0.0"


ODD = ["", " ", "-1", "+1", "1.5", "1e3", "0x10", "9" * 19, "9" * 5000, "\u0661".encode(), "1,1"]
ODD_METADATA = [
    "filename", "filename !!!", "filename YQ=", ",,,", "a YQ==,a YQ==", "filename /w==", "=",
    "filename " + "QUFB" * 5000, "filename AA==", b"filename \xff\xfe", "relativePath Lg==",
]  # fmt: skip


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("objects", ["folder"], indirect=True)
def test_odd_headers_are_the_callers_fault(http):
    place = place_of(begin(http, 10))
    name = metadata(filename="x")
    for odd in ODD:
        sent = {**TUS, "Upload-Length": odd, "Upload-Metadata": name}
        assert 400 <= http.post(PLACE, headers=sent).status_code < 500, odd
        assert 400 <= patch(http, place, 0, b"", **{"Upload-Offset": odd}).status_code < 500, odd
    for odd in ODD_METADATA:
        sent = {**TUS, "Upload-Length": "1", "Upload-Metadata": odd}
        assert 400 <= http.post(PLACE, headers=sent).status_code < 500, odd
    for odd in ("", "sha1", "sha1 !!", "md5 YQ==", "sha256 YQ==", "sha1 " + "YQ" * 9999):
        sent = {"Upload-Checksum": odd}
        assert 400 <= patch(http, place, 0, b"x", **sent).status_code < 500, odd
    assert stands_at(http, place) == 0


def test_what_comes_slowly_is_kept_all_along(http, people, objects, limits):
    data = bytes(range(100)) * 60
    place = place_of(begin(http, len(data)))
    intake, caller = Intake(objects, limits, part_seconds=0.0), Caller(people)
    with pytest.raises(ConnectionResetError):
        intake.receive(caller, "prj_pond", find(http, place), Breaking(data[:4500]))
    assert len(part_keys(objects)) == 5
    rest = Breaking(data[4500:], breaks=False)
    done = intake.receive(caller, "prj_pond", find(http, place), rest)
    assert objects.get(object_key("prj_pond", done.digest)) == data
