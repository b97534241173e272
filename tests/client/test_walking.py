"""Which files are pushed, and what is told of those that are not."""

import hashlib
import os
from pathlib import Path

import pytest

from millpond.client.walking import archive_format, find_files, hash_files, printable
from millpond.ground.errors import NotFoundError


def test_files_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    for name in ("b/2", "a", "b/1", "B"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    found = find_files(tmp_path)
    assert [one.raw_path for one in found.files] == [b"B", b"a", b"b/1", b"b/2"]
    assert found.left_out == []
    assert found.size_bytes == 8


def test_a_single_file_is_named_by_itself(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1")
    assert [one.raw_path for one in find_files(tmp_path / "x.csv").files] == [b"x.csv"]


def test_links_are_left_out_and_named_unless_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("far")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "broken").symlink_to("nowhere")
    (inside / "round").symlink_to(inside)
    found = find_files(inside)
    assert found.files == []
    assert {path.rsplit("/", 1)[1] for path, _ in found.left_out} == {"link", "broken", "round"}
    followed = find_files(inside, follow_links=True)
    assert [one.raw_path for one in followed.files] == [b"link/f"]
    reasons = {path.rsplit("/", 1)[1]: reason for path, reason in followed.left_out}
    assert reasons["round"] == "a folder that was seen already"
    assert "broken" in reasons


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "f").write_text("x")
    found = find_files(tmp_path)
    assert [one.raw_path for one in found.files] == [b"f"]
    assert found.left_out == [(str(tmp_path / "pipe"), "no regular file")]


def test_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    name = b"caf\xe9\n.txt"
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (one,) = hash_files(find_files(tmp_path).files)
    assert one.file.raw_path == name
    assert one.entry.raw_path == name
    assert one.entry.path_bytes is not None
    assert one.digest == hashlib.sha256(b"x").hexdigest()
    assert printable(os.fsdecode(name)) == "caf\\xe9\\n.txt"


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file or folder"):
        find_files(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.zip", "zip"), ("a.TAR.GZ", "tar.gz"), ("a.tgz", "tar.gz"), ("a.tar", "tar"),
     ("a.gz", None), ("zip", None), ("a.tar.xz", "tar.xz")],
)  # fmt: skip
def test_archives_are_known_by_their_ending(name: str, form: str | None) -> None:
    assert archive_format(Path(name)) == form
