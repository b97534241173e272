import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.pipelines.outputs.archive import safe_name, stream_zip
from millpond.pipelines.outputs.values import OutputFile


@pytest.fixture
def pack(objects):
    def make(*files, **how):
        listed = []
        for number, (path, data) in enumerate(files):
            objects.put(f"o/{number}", data)
            listed.append(OutputFile(path, f"o/{number}", len(data), ""))
        pieces = list(stream_zip(objects, listed, **how))
        return pieces, zipfile.ZipFile(io.BytesIO(b"".join(pieces)))

    return make


def test_holds_every_file_as_it_is(pack):
    large = bytes(range(256)) * 20_000
    pieces, archive = pack(("a.csv", b"x" * 1000), ("d/b.parquet", large), ("e", b""), folder="run")
    assert archive.testzip() is None
    assert archive.read("run/a.csv") == b"x" * 1000
    assert archive.read("run/d/b.parquet") == large
    assert archive.read("run/e") == b""
    assert archive.getinfo("run/a.csv").compress_size < 100
    assert archive.getinfo("run/d/b.parquet").compress_type == zipfile.ZIP_STORED
    assert len(pieces) > 1


def test_unpacks_below_its_folder_only(pack, tmp_path):
    odd = ["../up", "/root", "a/../../b", "C:\\x", "\\\\host\\y", "nul\x00", "a\nb", "ü", ". ", ""]
    _, archive = pack(*((name, b"1") for name in odd))
    names = archive.namelist()
    assert len(set(names)) == len(odd)
    archive.extractall(tmp_path / "in")
    assert len([path for path in (tmp_path / "in").rglob("*") if path.is_file()]) == len(odd)
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "objects"}


def test_names_that_come_out_alike_get_a_number(pack):
    _, archive = pack(("a?.txt", b"1"), ("a*.txt", b"2"), ("A_.TXT", b"3"))
    assert (
        archive.namelist() == ["a_.txt", "a_ (2).txt", "A_ (2).TXT"]
        or len(set(map(str.casefold, archive.namelist()))) == 3
    )


def test_an_archive_of_nothing_opens(pack):
    _, archive = pack()
    assert archive.namelist() == []


@given(st.text())
def test_every_name_is_safe(path):
    name = safe_name(path)
    parts = name.split("/")
    assert all(part not in ("", ".", "..") and not part.endswith((" ", ".")) for part in parts)
    assert not set('<>:"|?*\\\n\x00') & set(name)
    name.encode()
