import asyncio
import re
from urllib.parse import urlsplit

import httpx
import pytest

from millpond.storage.folder import FolderStore
from millpond.storage.routes import routes
from millpond.web.frame import build_frame


@pytest.fixture
def store(tmp_path, clock):
    return FolderStore(tmp_path / "objects", "http://m", b"k" * 32, clock)


@pytest.fixture
def ask(store, database):
    app = build_frame(database, lambda *_: None, streams=re.compile("^/objects/"))
    app.include_router(routes(store))

    def send(method, url, **rest):
        async def go():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport) as http:
                return await http.request(method, url, **rest)

        return asyncio.run(go())

    return send


pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_a_signed_address_fetches_one_object_and_its_ranges(store, ask):
    store.put("a/50%25", b"0123456789")
    url = store.sign("a/50%25", seconds=60)
    answer = ask("GET", url)
    assert answer.content == b"0123456789"
    assert answer.headers["content-disposition"] == "attachment"
    part = ask("GET", url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert ask("GET", url, headers={"Range": "bytes=20-"}).status_code == 416
    head = ask("HEAD", url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")


def test_a_signed_address_leaves_one_new_object(store, ask):
    url = store.sign("new/object", method="PUT", seconds=60)

    async def pieces():
        for _ in range(5):
            yield b"x" * 300_000

    assert ask("PUT", url, content=pieces()).status_code == 200
    assert store.stat("new/object").size == 1_500_000
    again = ask("PUT", url, content=b"other")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert store.stat("new/object").size == 1_500_000


def test_a_signature_is_good_for_nothing_else(store, ask, clock):
    store.put("a", b"mine")
    store.put("b", b"not yours")
    url = store.sign("a", seconds=60)
    split = urlsplit(url)
    query = dict(httpx.QueryParams(split.query))
    later = str(int(query["expires"]) + 1)
    for method, changed in (
        ("GET", url.replace("/a?", "/b?")),
        ("GET", url.replace(query["expires"], later)),
        ("GET", url.replace(query["signature"], "0" * 64)),
        ("GET", url.replace(query["signature"], "ä")),
        ("PUT", url),
    ):
        answer = ask(method, changed)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    unsigned = ask("GET", "http://m/objects/a")
    assert unsigned.status_code == 422
    assert len(unsigned.json()["faults"]) == 2
    clock.move(59)
    assert ask("GET", url).status_code == 200
    clock.move(10)
    assert ask("GET", url).status_code == 403


def test_a_signature_of_another_key_file_is_wrong(store, ask, tmp_path, clock):
    store.put("a", b"mine")
    other = FolderStore(tmp_path / "other", "http://m", b"j" * 32, clock)
    assert ask("GET", other.sign("a")).status_code == 403


def test_no_address_climbs_out(store, ask):
    for key in ("../server.json", "a/../../x", "%2e%2e/x"):
        assert ask("GET", f"http://m/objects/{key}?expires=1&signature=0").status_code in (403, 404)


def test_a_missing_object_is_told(store, ask):
    assert ask("GET", store.sign("gone")).json()["code"] == "not_found"
