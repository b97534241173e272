import bz2
import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.ground.errors import InvalidError, NotFoundError
from millpond.lake import archives
from millpond.lake.values import LakeLimits, object_key

LIMITS = LakeLimits(
    files=40, total_bytes=8 << 20, file_bytes=6 << 20, ratio=100, ratio_from_bytes=2 << 20
)


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = method
            made.writestr(info, data)
    return buffer.getvalue()


def tarred(*members, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as made:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def mode(name, bits):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, bits << 16
    return info


def put(objects, data):
    digest = hashlib.sha256(data).hexdigest()
    objects.put(object_key("p", digest), data)
    return digest


def faults_of(data, limits=LIMITS, kind=None):
    kind = kind or archives.detect_format(data[:512])
    with pytest.raises(InvalidError) as caught:
        archives.survey(io.BytesIO(data), kind, limits)
    return [fault.message for fault in caught.value.faults]


CONTENTS = (("a.txt", b"hello"), ("deep/er/b.bin", b"\0" * 1_500_000), ("empty", b""))
TAR = tarred(*CONTENTS)
FORMS = {
    "zip": zipped(*CONTENTS),
    "zip, stored": zipped(*CONTENTS, method=zipfile.ZIP_STORED),
    "zip, bzip2": zipped(*CONTENTS, method=zipfile.ZIP_BZIP2),
    "tar": TAR,
    "tar, pax": tarred(*CONTENTS, format=tarfile.PAX_FORMAT),
    "tar.gz": gzip.compress(TAR),
    "tar.bz2": bz2.compress(TAR),
    "tar.xz": lzma.compress(TAR),
    "tar.xz, two streams": lzma.compress(TAR[:5000]) + lzma.compress(TAR[5000:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_told_and_unpacked(objects, form):
    digest = put(objects, FORMS[form])
    entries = archives.unpack(objects, "p", digest, None, LIMITS)
    found = {one.path: objects.get(object_key("p", one.digest)) for one in entries}
    assert found == dict(CONTENTS)
    again = archives.unpack(objects, "p", digest, form.split(",")[0], LIMITS)
    assert again == entries


@pytest.mark.parametrize("data", [b"", b"nothing like it", b"\x89PNG" * 200])
def test_what_is_no_archive_is_refused(objects, data):
    digest = put(objects, data)
    with pytest.raises(InvalidError, match="not an archive"):
        archives.unpack(objects, "p", digest, None, LIMITS)
    with pytest.raises(NotFoundError):
        archives.unpack(objects, "other", digest, None, LIMITS)


@pytest.mark.parametrize(
    "data", [zipped(), tarred(), gzip.compress(tarred()), zipped(("folder/", b""))]
)
def test_an_empty_archive_is_refused(data):
    assert faults_of(data) == ["it holds no files"]


HOSTILE = ["../up", "a/../../up", "/etc/passwd", "C:\\x", "c:x", "\\\\host\\x", "a\\..\\..\\up"]
HOSTILE += ["n" * 256, "d/" * 64 + "f", "x" * 200 + ("/" + "x" * 200) * 10]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_elsewhere_are_refused(make, name):
    (message,) = faults_of(make(("good", b"1"), (name, b"2")))
    assert "the path" in message or "a name" in message


def test_a_name_with_nul_is_refused():
    data = zipped(("aXb", b"1")).replace(b"aXb", b"a\0b")
    assert faults_of(data) == ["a\\x00b: the path holds a NUL"]


@pytest.mark.parametrize(
    ("info", "word"),
    [
        (link("l", tarfile.SYMTYPE), "link"),
        (link("l", tarfile.LNKTYPE, "good"), "link"),
        (link("l", tarfile.CHRTYPE), "regular"),
        (link("l", tarfile.BLKTYPE), "regular"),
        (link("l", tarfile.FIFOTYPE), "regular"),
        (link("../up/", tarfile.DIRTYPE), "climbs"),
    ],
)
def test_links_and_devices_of_a_tar_are_refused(info, word):
    (message,) = faults_of(tarred(("good", b"1"), (info, b"")))
    assert word in message


@pytest.mark.parametrize(
    ("bits", "word"),
    [(stat.S_IFLNK | 0o777, "link"), (stat.S_IFIFO, "regular"), (stat.S_IFBLK, "regular")],
)
def test_links_and_devices_of_a_zip_are_refused(bits, word):
    (message,) = faults_of(zipped((mode("l", bits), b"/etc/passwd")))
    assert word in message


def test_an_encrypted_zip_is_refused():
    data = bytearray(zipped(("a", b"1")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert faults_of(bytes(data)) == ["a: is encrypted"]


def test_duplicates_after_normalisation_and_files_that_are_folders_are_refused():
    messages = faults_of(tarred(("./a//b", b"1"), ("a/b", b"2"), ("a/b/c", b"3")))
    assert sorted(messages) == [
        "a/b: the path stands more than once",
        "a/b: this is a file and a folder at once",
    ]


def test_all_faults_are_named_up_to_twenty_and_then_counted():
    messages = faults_of(tarred(*((f"../{n}", b"") for n in range(30)), ("/x", b"")))
    assert len(messages) == 21
    assert messages[-1] == "and 11 more"


def test_limits_on_files_bytes_and_ratio_hold():
    many = tarred(*((f"f{n}", b"") for n in range(41)))
    assert faults_of(many) == ["it holds more than 40 files"]
    noise = bytes(range(256)) * 4096
    assert "at most" in faults_of(tarred(("a", noise * 7)))[0]
    both = tarred(("a", noise * 5), ("b", noise * 5))
    assert faults_of(both) == [f"it unpacks to more than {8 << 20} bytes"]
    for bomb in (zipped(("a", b"\0" * (3 << 20))), gzip.compress(tarred(("a", b"\0" * (3 << 20))))):
        assert "more than 100 times" in faults_of(bomb)[0]
    slices = gzip.compress(tarred(*((f"{n}", b"\0" * (1 << 20)) for n in range(6))))
    assert faults_of(slices) == ["it unpacks to more than 100 times its own size"]
    assert faults_of(b"PK\x05\x06" + b"\xff" * 18)[0].startswith("it is damaged")


def test_a_size_that_lies_is_found_by_counting():
    data = bytearray(zipped(("a", b"x" * 1000)))
    central = data.index(b"PK\x01\x02")
    for size in (10, 2000):
        data[central + 24 : central + 28] = struct.pack("<I", size)
        assert faults_of(bytes(data))


def test_entries_that_overlap_are_refused():
    # Many entries of the list point at one kernel: how a zip bomb of 46 MB becomes 4.5 PB.
    data = zipped(("a", b"x" * 1000), ("b", b"y"))
    central = data.index(b"PK\x01\x02")
    length = data.index(b"PK\x01\x02", central + 1) - central
    forged = bytearray(data)
    forged[central + length + 42 : central + length + 46] = struct.pack("<I", 0)
    assert any("overlaps" in message for message in faults_of(bytes(forged)))


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_or_cut_archive_is_refused(objects, form):
    data = FORMS[form]
    broken = [data[: len(data) // 2], data[:-1] if "tar." in form else data[:-30]]
    if form.startswith("tar,") or form == "tar":
        broken[1] = data[: 512 + 512]  # It ends after the first file, without the mark of the end.
    if not form.startswith("tar"):
        broken.append(data.replace(b"PK\x03\x04", b"PK\x03\x05"))
    before = len(list(objects.list("")))
    for piece in broken:
        kind = form.split(",")[0]
        with pytest.raises(InvalidError, match="nothing of it was kept"):
            archives.unpack(objects, "p", put(objects, piece), kind, LIMITS)
        before += 1
    assert len(list(objects.list(""))) == before


def test_a_tar_whose_header_breaks_in_the_middle_is_not_taken_for_its_beginning():
    data = bytearray(tarred(("a", b"1"), ("b", b"2")))
    data[1024:1030] = b"broken"
    assert "damaged after 1 files" in faults_of(bytes(data), kind="tar")[0]
    two = tarred(("a", b"1")) + tarred(("b", b"2"))
    assert "more data after the end" in faults_of(two)[0]


def test_a_header_that_would_fill_the_memory_is_refused():
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    head = info.tobuf(tarfile.GNU_FORMAT)
    assert "a header is too large" in faults_of(head + b"\0" * 4096, kind="tar")[0]
    chain = tarfile.TarInfo("x")
    chain.type, chain.size = tarfile.GNUTYPE_LONGNAME, 4 << 20
    one = chain.tobuf(tarfile.GNU_FORMAT) + b"n" * (4 << 20)
    assert "a header is too large" in faults_of(one * 3, kind="tar")[0]
    # 192 MB is more than any preset of xz needs; an archive may claim 4 GB.
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(TAR, filters=filters))
    data[16] = 40  # Another dictionary size in the block's header, with its checksum made anew.
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    assert "damaged" in faults_of(bytes(data))[0]


def test_names_keep_their_bytes():
    raw = b"caf\xe9\n\x01.txt"
    buffer = io.BytesIO()
    name = raw.decode("utf-8", "surrogateescape")
    with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape") as made:
        info = tarfile.TarInfo(name)
        made.addfile(info)
    (entry,) = archives.survey(io.BytesIO(buffer.getvalue()), "tar", LIMITS)
    assert (entry.raw_path, entry.os_path) == (raw, name)
    assert entry.path_bytes is not None
    unmarked = zipped(("XXXX", b"1"), ("ascii", b"2")).replace(b"XXXX", "ä".encode() + b"\xe9x")
    first, second = archives.survey(io.BytesIO(unmarked), "zip", LIMITS)
    assert first.raw_path == "ä".encode() + b"\xe9x"
    assert second.path == "ascii"
    windows = zipfile.ZipInfo("in\\x.txt")
    windows.create_system = 0
    (entry,) = archives.survey(io.BytesIO(zipped((windows, b"1"))), "zip", LIMITS)
    assert entry.path == "in/x.txt"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_changed_in_an_archive_give_anything_but_files_or_a_refusal(data):
    kind = data.draw(st.sampled_from(["zip", "tar", "tar.gz", "tar.xz"]))
    small = (("a.txt", b"hello"), ("b/c", b"x" * 700))
    whole = {
        "zip": zipped(*small),
        "tar": tarred(*small),
        "tar.gz": gzip.compress(tarred(*small)),
        "tar.xz": lzma.compress(tarred(*small)),
    }[kind]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    with tempfile.TemporaryFile() as file:
        file.write(changed[:cut])
        try:
            entries = archives.survey(file, kind, LIMITS)
        except InvalidError:
            return
    assert 0 < len(entries) <= 40
    for entry in entries:
        parts = entry.raw_path.split(b"/")
        assert not {b"", b".", b".."} & set(parts)
