import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.ground.actor import Actor
from millpond.ground.address import Address, is_name, parse_address
from millpond.ground.errors import InvalidError
from millpond.lake import actions, rules
from millpond.lake.manifests import (
    ManifestCache,
    decode_manifest,
    encode_manifest,
    read_manifest,
    sort_files,
    write_manifest,
)
from millpond.lake.values import FileEntry, LakeLimits, Manifest, decode_path, encode_path

ANA = Actor("user_ana", "ana")
DIGEST = "ab" * 32


@given(st.binary())
def test_every_path_comes_back_as_its_bytes(raw):
    path, path_bytes = encode_path(raw)
    assert decode_path(path, path_bytes) == raw
    path.encode("utf-8")
    entry = FileEntry(path, DIGEST, 1, path_bytes)
    assert entry.os_path.encode("utf-8", "surrogateescape") == raw
    assert rules.show_path(raw).isprintable()


@given(st.lists(st.binary(min_size=1), unique=True))
def test_a_manifest_is_the_same_for_the_same_files_in_any_order(paths):
    files = [FileEntry(*encode_path(raw)[:1], DIGEST, 1, encode_path(raw)[1]) for raw in paths]
    data = encode_manifest(sort_files(files))
    assert encode_manifest(sort_files(reversed(files))) == data
    assert decode_manifest(data).files == sort_files(files)


@given(st.binary())
def test_a_path_that_passes_stays_in_its_folder(raw):
    normal = rules.normal_path(raw)
    if rules.find_path_fault(normal, LakeLimits()):
        return
    assert not normal.startswith(b"/")
    assert b"\0" not in normal
    assert not {b"", b".", b".."} & set(normal.split(b"/"))
    assert rules.normal_path(normal) == normal


@given(st.integers(0, 50), st.text("0123456789-bytes=, ", max_size=14))
def test_a_range_lies_within_the_bytes(size, header):
    for text in (header, f"bytes={header}"):
        try:
            part = rules.parse_range(text, size)
        except ValueError:
            continue
        if part is not None:
            start, length = part
            assert 0 <= start < size
            assert 0 < length <= size - start


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=3-", (3, 7)),
        ("bytes=-4", (6, 4)),
        ("bytes=-40", (0, 10)),
        ("bytes=2-400", (2, 8)),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("rows=0-1", None),
        ("bytes=-", None),
        (None, None),
    ],
)
def test_ranges_are_read_as_the_rfc_says(header, part):
    assert rules.parse_range(header, 10) == part


def test_addresses_are_a_name_and_perhaps_a_number():
    assert parse_address("reviews") == Address("reviews")
    assert parse_address("reviews@12") == Address("reviews", 12)
    for text in ("", "@1", "a@", "a@0", "a@01", "a@b", "A", "a b", "../a", "a@1@2", "x" * 81):
        with pytest.raises(InvalidError):
            parse_address(text)
    assert is_name("a.b-c_9")


def test_a_path_twice_is_no_manifest(objects):
    twice = [FileEntry("a", DIGEST, 1), FileEntry("a", DIGEST, 1)]
    with pytest.raises(InvalidError, match="more than once"):
        write_manifest(objects, "p", twice)
    key, digest = write_manifest(objects, "p", twice[:1])
    assert write_manifest(objects, "p", twice[:1]) == (key, digest)
    assert key.endswith(f"/{digest}")
    assert read_manifest(objects, key) == Manifest((twice[0],))


def test_the_cache_drops_the_oldest(folder_store):
    keys = [
        write_manifest(folder_store, "p", [FileEntry(f"{n}{m}", DIGEST, 1) for m in range(3)])[0]
        for n in range(3)
    ]
    cache = ManifestCache(folder_store, files_most=6)
    for key in (*keys, keys[0]):
        cache.read(key)
    assert list(cache._kept) == [keys[2], keys[0]]
    assert cache.find(keys[1], b"12").path == "12"


def test_versions_added_at_once_get_numbers_of_their_own(people, objects):
    numbers = []

    def add(n):
        files = (FileEntry(f"f{n}", DIGEST, 1),)
        key, _ = write_manifest(objects, "prj_pond", files)
        version = people.change(
            lambda tx: actions.add_version(tx, ANA, "prj_pond", "d", Manifest(files), key, "upload")
        )
        numbers.append(version.number)

    threads = [threading.Thread(target=add, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))
