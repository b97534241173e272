"""What comes here is whole, checked, and below the folder it was asked into."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.client.downloading import Wanted, fetch_files, fetch_one, safe_place
from millpond.client.transport import Transport
from millpond.ground.errors import ConflictError, InvalidError

DATA = bytes(range(256)) * 4000


@pytest.fixture
def transport(script: Any) -> Iterator[Transport]:
    opened = Transport(script.url, patience_seconds=0)
    yield opened
    opened.close()


def wanted(raw_path: bytes, data: bytes = DATA, digest: str | None = None) -> Wanted:
    known = digest or hashlib.sha256(data).hexdigest()
    return Wanted(raw_path, "/content", {"path": "x"}, known, len(data))


def test_a_broken_download_goes_on_where_it_stopped(
    script: Any, transport: Transport, tmp_path: Path
) -> None:
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[: len(DATA) // 2])
        handler.wfile.flush()
        handler.close_connection = True

    def rest(handler: Any) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        handler.send_response(206)
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(DATA[start:])

    script.do("/api/v1/content", half)
    script.do("/api/v1/content", rest)
    pauses: list[float] = []
    fetch_one(transport, wanted(b"f"), tmp_path / "f", pause=pauses.append)
    assert (tmp_path / "f").read_bytes() == DATA
    assert len(pauses) == 1
    assert int(script.asked[1][2]["Range"].removeprefix("bytes=").rstrip("-")) > 0


def test_a_server_without_ranges_is_read_again_from_the_start(
    script: Any, transport: Transport, tmp_path: Path
) -> None:
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:300_000])
        handler.wfile.flush()
        handler.close_connection = True

    script.do("/api/v1/content", half)
    script.say("/api/v1/content", DATA)
    fetch_one(transport, wanted(b"f"), tmp_path / "f", pause=lambda _: None)
    assert (tmp_path / "f").read_bytes() == DATA


def test_wrong_bytes_are_not_kept(script: Any, transport: Transport, tmp_path: Path) -> None:
    script.say("/api/v1/content", b"evil")
    with pytest.raises(ConflictError, match="not what the server promised"):
        fetch_files(transport, [wanted(b"f", b"good")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_named_and_kept(
    script: Any, transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("mine")
    script.say("/api/v1/content", DATA)
    both = [wanted(b"f"), wanted(b"g")]
    with pytest.raises(ConflictError, match="1 files are there already"):
        fetch_files(transport, both, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["f"]
    assert script.asked == []
    fetch_files(transport, both, tmp_path, overwrite=True)
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes() == DATA


@pytest.mark.parametrize(
    "raw_path", [b"../f", b"/etc/f", b"a/../../f", b"", b"a//f", b"a/", b"./f", b"a\0b", b"out/f"]
)
def test_no_name_leads_out_of_the_folder(
    script: Any, transport: Transport, tmp_path: Path, raw_path: bytes
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "out").symlink_to(tmp_path)
    script.say("/api/v1/content", DATA)
    with pytest.raises(InvalidError) as caught:
        fetch_files(transport, [wanted(b"fine"), wanted(raw_path)], target)
    assert len(caught.value.faults) == 1
    assert script.asked == []
    assert [one.name for one in target.iterdir()] == ["out"]


def test_two_files_of_one_name_are_refused(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="can't be written") as caught:
        fetch_files(transport, [wanted(b"f"), wanted(b"f")], tmp_path)
    assert caught.value.faults[0].message == "comes twice"


@given(st.binary(max_size=30) | st.lists(st.sampled_from([b"..", b"a", b"", b"."])).map(b"/".join))
def test_a_safe_place_is_always_below(raw_path: bytes) -> None:
    root = Path("/nowhere/at/all")
    found = safe_place(root, raw_path)
    assert found is None or (found.is_relative_to(root) and ".." not in found.parts)
