"""What every object store promises, asked of each one."""

import io
import os
import threading
import time

import httpx
import pytest

from millpond.ground.errors import ConflictError, InvalidError, NotFoundError
from millpond.storage.port import ObjectInfo, ObjectStore, check_key, key_part

LARGE = 17 << 20


class ObjectStoreContract:
    page = 1000
    """How many keys the store gives at a time."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError

    def test_gives_back_what_was_put(self, store):
        assert store.put("a/b", b"hello") == 5
        assert store.get("a/b") == b"hello"
        assert store.stat("a/b") == ObjectInfo("a/b", 5)
        assert store.exists("a/b")

    def test_keeps_an_empty_object(self, store):
        assert store.put("empty", b"") == 0
        assert store.get("empty") == b""
        assert b"".join(store.stream("empty")) == b""
        assert store.stat("empty").size == 0

    def test_refuses_a_second_put_of_a_key(self, store):
        store.put("a", b"first")
        with pytest.raises(ConflictError, match="written once"):
            store.put("a", b"second")
        assert store.get("a") == b"first"

    def test_overwrites_when_told(self, store):
        store.put("a", b"first")
        store.put("a", b"second", overwrite=True)
        assert store.get("a") == b"second"

    def test_lets_exactly_one_of_many_writers_create(self, store):
        barrier, outcomes = threading.Barrier(8), []

        def write(number):
            barrier.wait()
            try:
                store.put("race", str(number).encode())
                outcomes.append(number)
            except ConflictError:
                outcomes.append(None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [number for number in outcomes if number is not None]
        assert len(outcomes) == 8
        assert len(won) == 1
        assert store.get("race") == str(won[0]).encode()

    def test_streams_a_large_file_in_and_out(self, store):
        data = os.urandom(LARGE)
        assert store.put("large", io.BytesIO(data)) == LARGE
        pieces = list(store.stream("large"))
        assert len(pieces) > 1
        assert b"".join(pieces) == data
        with pytest.raises(ConflictError):
            store.put("large", io.BytesIO(data))
        assert [info.key for info in store.list("")] == ["large"]

    def test_overwrites_with_a_large_file(self, store):
        store.put("large", b"small")
        store.put("large", io.BytesIO(bytes(LARGE)), overwrite=True)
        assert store.stat("large").size == LARGE

    def test_takes_a_file_that_gives_little_at_a_time(self, store):
        class Slow(io.RawIOBase):
            left = 5

            def readable(self):
                return True

            def read(self, size=-1):
                if not self.left:
                    return b""
                self.left -= 1
                return b"xy"

        assert store.put("slow", Slow()) == 10
        assert store.get("slow") == b"xyxyxyxyxy"

    def test_reads_ranges(self, store):
        store.put("a", b"0123456789")
        assert store.get("a", 3) == b"3456789"
        assert store.get("a", 3, 4) == b"3456"
        assert store.get("a", 8, 100) == b"89"
        assert store.get("a", 10) == b""
        assert store.get("a", 200, 5) == b""
        assert store.get("a", 2, 0) == b""
        assert b"".join(store.stream("a", 5, 3)) == b"567"
        assert b"".join(store.stream("a", 20)) == b""

    def test_says_what_is_not_there(self, store):
        assert not store.exists("nothing/here")
        store.delete("nothing/here")
        for ask in (store.get, store.stat, store.stream):
            with pytest.raises(NotFoundError, match="nothing/here"):
                ask("nothing/here")

    def test_deletes(self, store):
        store.put("a/b/c", b"1")
        store.delete("a/b/c")
        assert not store.exists("a/b/c")
        store.put("a/b/c", b"2")
        assert store.get("a/b/c") == b"2"

    def test_puts_many_and_leaves_what_is_there(self, store):
        store.put("m/3", b"old")
        store.put_many((f"m/{number}", str(number).encode()) for number in range(40))
        store.put_many([])
        assert [store.get(f"m/{number}") for number in (0, 3, 39)] == [b"0", b"old", b"39"]
        assert len(list(store.list("m/"))) == 40

    def test_puts_the_same_key_twice_in_one_batch(self, store):
        store.put_many([("same", b"x"), ("same", b"x")])
        assert store.get("same") == b"x"

    def test_lists_in_the_order_of_keys(self, store):
        keys = ["a.b", "a/b", "a/c/d", "a0", "ab/x", "b", "a/c.d", "A/x", "a-b/c", "x.log/00000001"]
        store.put_many((key, b"1") for key in keys)
        everything = [info.key for info in store.list("")]
        assert everything == sorted(keys)
        for prefix in ("a", "a/", "a/c", "ab/", "x.log/", "zz", "a/b", "b"):
            found = [info.key for info in store.list(prefix)]
            assert found == [key for key in sorted(keys) if key.startswith(prefix)]
        for after in ("a", "a/b", "a/c", "a0", "b", "zz"):
            assert [info.key for info in store.list("", after)] == [
                key for key in sorted(keys) if key > after
            ]
        assert [info.key for info in store.list("a/", "a/b")] == ["a/c.d", "a/c/d"]
        assert [info.size for info in store.list("a/c.d")] == [1]

    def test_lists_more_than_one_page(self, store):
        keys = [f"page/{number:05}" for number in range(self.page * 11 // 10)]
        store.put_many((key, b"") for key in keys)
        assert [info.key for info in store.list("page/")] == keys
        assert [info.key for info in store.list("page/", keys[-50])] == keys[-49:]

    @pytest.mark.parametrize(
        "name", ["50%.txt", "a b", "naïve", "line\nbreak", "bad\udcff", "..", ".", "%2e", "a=b,c@d"]
    )
    def test_keeps_any_file_name_as_a_key_part(self, store, name):
        key = f"names/{key_part(name)}"
        store.put(key, name.encode("utf-8", "surrogateescape"))
        assert store.get(key) == name.encode("utf-8", "surrogateescape")
        assert [info.key for info in store.list("names/")] == [key]

    @pytest.mark.parametrize(
        "key",
        ["", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a\0b", "a\nb", "ä", "a\\b", "x" * 300],
    )
    def test_refuses_unsound_keys(self, store, key):
        for ask in (
            store.get,
            store.stat,
            store.exists,
            store.delete,
            store.sign,
            store.local_path,
        ):
            with pytest.raises(InvalidError):
                ask(key)
        with pytest.raises(InvalidError):
            store.put(key, b"x")
        with pytest.raises(InvalidError):
            store.put_many([(key, b"x")])

    def test_local_path_is_the_bytes_or_nothing(self, store):
        store.put("a/b", b"hello")
        path = store.local_path("a/b")
        assert path is None or path.read_bytes() == b"hello"


class SignedByTheStore(ObjectStoreContract):
    """Stores that answer their signed addresses themselves; our own route is in tests/storage."""

    def test_signed_addresses_read_and_write(self, store):
        store.put("a/b %41".replace(" ", "_"), b"hello")
        url = store.sign("a/b_%41", seconds=60)
        assert httpx.get(url).content == b"hello"
        assert httpx.get(url, headers={"Range": "bytes=1-2"}).content == b"el"
        put = store.sign("new", method="PUT", seconds=60)
        assert httpx.put(put, content=b"sent").status_code == 200
        assert store.get("new") == b"sent"


class TestFolder(ObjectStoreContract):
    @pytest.fixture
    def store(self, folder_store):
        return folder_store


class TestMinistack(SignedByTheStore):
    @pytest.fixture
    def store(self, ministack_store):
        return ministack_store

    def test_refuses_a_changed_or_expired_address(self, store):
        store.put("a", b"hello")
        store.put("b", b"other")
        url = store.sign("a", seconds=1)
        assert httpx.get(url.replace("/a?", "/b?")).status_code == 403
        deadline = time.monotonic() + 10
        while httpx.get(url).status_code == 200:
            assert time.monotonic() < deadline
        assert httpx.get(url).status_code == 403


class TestMoto(SignedByTheStore):
    @pytest.fixture
    def store(self, moto_store):
        return moto_store


class TestSwift(SignedByTheStore):
    page = 100

    @pytest.fixture
    def store(self, swift_store):
        return swift_store


class TestNodes(ObjectStoreContract):
    @pytest.fixture
    def store(self, nodes_store):
        return nodes_store


def test_a_key_may_be_long_but_not_too_long():
    assert check_key("/".join(["x" * 100] * 8))
    with pytest.raises(InvalidError):
        check_key("/".join(["x" * 100] * 9))
