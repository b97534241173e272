"""S3 on a service that checks what was signed: OpenStack Swift."""

import http.client
import io
import threading
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import pytest

from millpond.ground.errors import BusyError, ConflictError
from millpond.storage.claims import ATOMIC, race
from millpond.storage.looking import look_at_objects
from millpond.storage.opening import open_objects
from millpond.web.health import look

pytestmark = pytest.mark.slow  # The first of them starts four servers.


def opened(swift, **changes):
    return open_objects(swift.settings(**changes), None, "http://m")


def asked(store):
    """Give all that may be asked of a store, each of which should fail."""
    return {
        "put": lambda: store.put("a", b"x"),
        "put over": lambda: store.put("a", b"x", overwrite=True),
        "put large": lambda: store.put("a", io.BytesIO(bytes(9 << 20)), overwrite=True),
        "put many": lambda: store.put_many([("a", b"x")]),
        "get": lambda: store.get("a"),
        "stream": lambda: list(store.stream("a")),
        "stat": lambda: store.stat("a"),
        "exists": lambda: store.exists("a"),
        "list": lambda: list(store.list("")),
        "delete": lambda: store.delete("a"),
    }


def check_told(store, message, next_step, asked_of=asked):
    for name, ask in asked_of(store).items():
        with pytest.raises(BusyError, match=message) as told:
            ask()
        assert next_step in told.value.next_step, name


# Who may create a key --------------------------------------------------------------------------


def test_the_first_start_finds_out_that_several_writers_win(swift, database, tmp_path):
    store = open_objects(swift.settings(), tmp_path, "http://m", database)
    assert "of 8 writers of one new key won" in store.race
    found = {one.name: one for one in look_at_objects(store)}
    assert found.keys() == {"conditional writes"}
    assert found["conditional writes"].state == "ok"
    assert "the database decides" in found["conditional writes"].meaning
    assert list(store.list("")) == []  # Nothing is left of the race.

    barrier, won = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        with suppress(ConflictError):
            store.put("new", str(number).encode())
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("new") == str(won[0]).encode()


def test_one_writer_after_the_other_is_told_also_without_the_database(swift):
    store = opened(swift)
    store.put("a", b"first")
    with pytest.raises(ConflictError):
        store.put("a", b"second")
    assert race(store) != ATOMIC


# Whose keys, which clock, which bytes ----------------------------------------------------------


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_keys_are_told_as_such(swift, wrong, caplog):
    opened(swift, prefix="kept").put("a", b"mine", overwrite=True)
    store = opened(swift, prefix="kept", **{wrong: "mill:other"})
    check_told(store, "refuses our signature", f"objects.{wrong}")
    assert opened(swift, prefix="kept").get("a") == b"mine"
    reasons = [record.reason for record in caplog.records if record.msg.endswith("store failed")]
    assert reasons
    assert all("SignatureDoesNotMatch" in reason for reason in reasons)
    assert not any("the-secret-of-the-app" in reason for reason in reasons)


def test_health_tells_of_wrong_keys_until_they_are_right(swift, database, tmp_path):
    wrong = swift.settings(secret_access_key="another")
    store = open_objects(wrong, tmp_path, "http://m", database)
    assert "refuses our signature" in look(database, store, "1").objects
    found = {one.name: one for one in look_at_objects(store)}
    assert found["bucket"].state == "fault"
    assert found["conditional writes"].state == "warning"
    assert "could not be tried: The object store refuses" in found["conditional writes"].meaning

    right = open_objects(swift.settings(), tmp_path, "http://m", database)
    assert look(database, right, "1").objects == "ok"
    assert [one.state for one in look_at_objects(right)] == ["ok"]
    assert "writers of one new key won" in right.race


def test_a_bucket_that_is_not_there_is_told_as_such(swift):
    store = opened(swift, bucket="nobodys-bucket")
    for ask in (lambda: store.put("a", b"x"), lambda: list(store.list(""))):
        with pytest.raises(BusyError, match="no bucket of the name") as told:
            ask()
        assert "objects.bucket" in told.value.next_step
    assert [one.state for one in look_at_objects(store)] == ["fault"]


def test_another_region_is_told_as_such(swift):
    check_told(opened(swift, region="eu-north-9"), "another region", "objects.region")


@pytest.mark.parametrize("off", [3600, -3600])
def test_a_clock_that_is_off_is_told_as_such(swift, off):
    store = opened(swift, prefix="clocks")
    store.put("a", b"mine", overwrite=True)
    with swift.proxy(clock_off=off) as url:
        other = opened(swift, endpoint=url, prefix="clocks")
        check_told(other, "clock and this machine's are too far apart", "timedatectl")
        if off > 0:  # Else an address is one of the future, which Swift takes.
            assert httpx.get(other.sign("a", seconds=60)).status_code == 403
    assert store.get("a") == b"mine"


@pytest.fixture
def meddler(swift):
    """Give the address of something on the way that changes what it passes on."""

    class Meddler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            address = urlsplit(swift.url)
            with closing(http.client.HTTPConnection(address.hostname, address.port)) as way:
                way.request("PUT", self.path, body.replace(b"ten", b"two"), dict(self.headers))
                answer = way.getresponse()
                data = answer.read()
            self.send_response(answer.status)
            self.send_header("etag", answer.getheader("etag", ""))
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Meddler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_bytes_that_were_changed_on_the_way_are_not_kept(swift, meddler):
    through = opened(swift, endpoint=meddler, prefix="meddled")
    store = opened(swift, prefix="meddled")
    through.put("sound", b"nine eggs", overwrite=True)
    with pytest.raises(BusyError, match="other bytes than were sent"):
        through.put("changed", b"ten eggs", overwrite=True)
    assert [info.key for info in store.list("")] == ["sound"]


# Signed addresses ------------------------------------------------------------------------------


def changed(url, name, value):
    address = httpx.URL(url)
    assert name in address.params
    return address.copy_set_param(name, value)


def test_a_signed_address_is_good_for_its_key_and_method_only(swift):
    store = opened(swift)
    store.put("a", b"hello")
    store.put("b", b"other")
    reads, writes = store.sign("a", seconds=60), store.sign("a", method="PUT", seconds=60)
    assert httpx.get(reads).content == b"hello"
    assert httpx.get(reads.replace("/a?", "/b?")).status_code == 403
    assert httpx.get(reads.replace("/a?", "/?")).status_code == 403  # The list of all.
    assert httpx.put(reads, content=b"mine").status_code == 403
    assert httpx.delete(reads).status_code == 403
    assert httpx.get(writes).status_code == 403
    assert httpx.put(writes.replace("/a?", "/c?"), content=b"mine").status_code == 403
    assert httpx.delete(writes).status_code == 403
    assert {info.key: store.get(info.key) for info in store.list("")} == {
        "a": b"hello",
        "b": b"other",
    }
    assert httpx.put(writes, content=b"new").status_code == 200
    assert store.get("a") == b"new"


def test_a_signed_address_cannot_be_made_to_last_or_signed_by_another(swift):
    store = opened(swift, prefix="lasting")
    store.put("a", b"hello", overwrite=True)
    url = store.sign("a", seconds=1)
    signature = httpx.URL(url).params["X-Amz-Signature"]
    assert httpx.get(changed(url, "X-Amz-Expires", "3600")).status_code == 403
    other = "0" if signature[0] != "0" else "1"
    assert httpx.get(changed(url, "X-Amz-Signature", other + signature[1:])).status_code == 403
    by_another = opened(swift, prefix="lasting", secret_access_key="another").sign("a", seconds=60)
    assert httpx.get(by_another).status_code == 403
    while (answer := httpx.get(url)).status_code == 200:
        assert answer.content == b"hello"
    assert answer.status_code == 403
