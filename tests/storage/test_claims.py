"""S3 services that let several writers create one key: noticed at the first start, and mended."""

import http.client
import io
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from millpond.ground.errors import BusyError, ConflictError
from millpond.ground.settings import ObjectsSettings
from millpond.storage.claims import ATOMIC, Claims, known_race, race
from millpond.storage.looking import look_at_objects
from millpond.storage.nodes.tables import object_claim
from millpond.storage.opening import open_objects
from millpond.storage.s3 import S3Store

CONDITIONS = ("if-none-match", "x-amz-copy-source-if-none-match")


class Careless(BaseHTTPRequestHandler):
    """Passes requests on to a real S3 server, but for the conditions that they carry."""

    protocol_version = "HTTP/1.1"
    behind = ""
    refuses = False

    def do(self):
        size = int(self.headers.get("content-length", 0))
        body = self.rfile.read(size)
        if self.refuses and any(name in self.headers for name in CONDITIONS):
            self.send_response(501)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        kept = {k: v for k, v in self.headers.items() if k.lower() not in CONDITIONS}
        address = urlsplit(self.behind)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
        self.send_header("content-length", length or "0")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

    def log_message(self, *words):
        pass


@pytest.fixture
def careless(ministack):
    made = []

    def start(*, refuses=False):
        handler = type("Handler", (Careless,), {"behind": ministack, "refuses": refuses})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        made.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in made:
        server.shutdown()
        thread.join()
        server.server_close()


def settings(endpoint):
    return ObjectsSettings(
        kind="s3",
        bucket="millpond-tests",
        endpoint=endpoint,
        access_key_id="x",
        secret_access_key="x",
        allow_http=True,
        prefix=os.urandom(4).hex(),
    )


def test_a_sound_service_passes_the_race(ministack_store, folder_store):
    assert race(ministack_store) == ATOMIC
    assert race(folder_store) == ATOMIC
    assert list(ministack_store.list("")) == []


def test_a_careless_service_is_noticed_once_and_the_database_decides(careless, database, tmp_path):
    chosen = settings(careless())
    store = open_objects(chosen, tmp_path, "http://m", database)
    assert isinstance(store, S3Store)
    assert "writers of one new key won" in store.race
    assert store.claims is not None
    found = list(look_at_objects(store))
    assert [(one.name, one.state) for one in found] == [("conditional writes", "ok")]
    assert "the database decides" in found[0].meaning
    again = open_objects(chosen, tmp_path, "http://m", database)
    assert again.race == store.race  # Remembered, not raced anew.

    barrier, won = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        try:
            store.put("race", str(number).encode())
        except ConflictError:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("race") == str(won[0]).encode()
    with pytest.raises(ConflictError):
        again.put("race", b"late")
    store.put("race", b"told", overwrite=True)
    store.delete("race")
    assert store.put("race", b"new") == 3
    large = os.urandom(10 << 20)
    assert store.put("large", io.BytesIO(large)) == len(large)
    with pytest.raises(ConflictError):
        store.put("large", io.BytesIO(large))
    assert store.get("large") == large
    store.put_many([("many/1", b"1"), ("race", b"never")])
    assert store.get("race") == b"new"
    assert store.get("many/1") == b"1"


def test_a_service_that_refuses_conditions_is_used_all_the_same(careless, database, tmp_path):
    store = open_objects(settings(careless(refuses=True)), tmp_path, "http://m", database)
    assert store.race == "it refuses conditional writes"
    store.put("a", b"1")
    with pytest.raises(ConflictError):
        store.put("a", b"2")


def test_a_service_that_is_away_is_not_judged(database, tmp_path):
    store = open_objects(settings("http://127.0.0.1:9"), tmp_path, "http://m")

    class Away:
        def put(self, *_, **__):
            raise BusyError("It is away.", next_step="Wait.")

        exists = delete = put

    assert store.race == ""
    assert "could not be tried" in known_race(database, "away", Away())
    assert known_race(database, "away", S3StandIn()) == ATOMIC  # Tried again, and remembered.
    assert known_race(database, "away", Away()) == ATOMIC


class S3StandIn(dict):
    """A store in memory that keeps its word."""

    lock = threading.Lock()

    def put(self, key, data, *, overwrite=False):
        with self.lock:
            if key in self and not overwrite:
                raise ConflictError("It is there.", next_step="")
            self[key] = data
        return len(data)

    def exists(self, key):
        return key in self

    def delete(self, key):
        self.pop(key, None)


def test_a_claim_whose_writer_failed_is_free_again_and_one_under_way_is_waited_for(database):
    objects, claims = S3StandIn(), Claims(database, wait_seconds=0.2)
    assert claims.take("k", objects)
    with pytest.raises(BusyError, match="being written"):
        claims.take("k", objects)
    claims.release("k")
    assert claims.take("k", objects)
    objects.put("k", b"1")
    assert not claims.take("k", objects)
    assert claims.end("k")
    assert not claims.take("older", S3StandIn(older=b"1"))


def row_of(database):
    return database.read(lambda tx: tx.scalar(sa.select(object_claim.c.at)))


def test_a_claim_of_a_server_that_was_killed_is_taken_over(database):
    program = """
import sys
from millpond.storage.claims import Claims
from millpond.storage.database import Database

class Nothing:
    def exists(self, key):
        return False

print(Claims(Database(sys.argv[1])).take("k", Nothing()), flush=True)
sys.stdin.read()
"""
    url = database.engine.url.render_as_string(hide_password=False)
    server = subprocess.Popen(
        [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout.readline() == b"True\n"
    finally:
        server.kill()
        server.communicate()
    objects, claims = S3StandIn(), Claims(database, silent_seconds=1)
    assert claims.take("k", objects)
    objects.put("k", b"1")
    assert claims.end("k")


def test_whoever_is_writing_renews_its_claim(database):
    objects, claims = S3StandIn(), Claims(database, silent_seconds=1)
    assert claims.take("k", objects)
    first = row_of(database)
    end = time.monotonic() + 30
    while row_of(database) == first:
        assert time.monotonic() < end
    assert claims.end("k")


def test_a_server_that_stood_still_loses_its_claim_and_takes_it_from_nobody(database):
    objects, slow, other = S3StandIn(), Claims(database), Claims(database)
    assert slow.take("k", objects)
    silent = timedelta(minutes=5)
    database.change(lambda tx: tx.execute(object_claim.update().values(at=tx.now - silent)))
    assert other.take("k", objects)
    slow.release("k")
    with pytest.raises(BusyError, match="being written"):
        Claims(database, wait_seconds=0).take("k", objects)
    assert not slow.end("k")
    assert other.end("k")


def test_a_store_that_fails_after_the_claim_leaves_it_free(database):
    class Away(S3StandIn):
        def exists(self, key):
            raise BusyError("It is away.", next_step="Wait.")

    claims = Claims(database, wait_seconds=0)
    with pytest.raises(BusyError, match="away"):
        claims.take("k", Away())
    assert claims.take("k", S3StandIn())
    assert claims.end("k")
