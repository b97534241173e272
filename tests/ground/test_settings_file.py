import stat
import tomllib

import pytest

from millpond.ground.errors import InvalidError
from millpond.ground.settings_file import change_table, write_table

TEXT = """\
# Ours.
[server]
port = 9000

[objects]  # Where bytes lie.
kind = "folder"  # For now.
endpoint = "https://s3#1.my.lab"

# Below is the queue.
[jobs]
workers = 2
"""


def test_one_value_changes_and_every_other_line_stays(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    change_table(path, "objects", {"kind": "s3"})
    assert path.read_text() == TEXT.replace('"folder"', '"s3"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "settings.toml.before").read_text() == TEXT
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "settings.toml",
        "settings.toml.before",
    ]


def test_values_are_added_and_changed_whatever_they_hold(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(TEXT)
    values = {"endpoint": 'a "quoted" # text', "allow_http": True, "prefix": "ä\x7f\n", "size": 3}
    change_table(path, "objects", values)
    found = tomllib.loads(path.read_text())
    assert found["objects"] == {"kind": "folder", **values}
    assert found["jobs"] == {"workers": 2}
    assert found["server"] == {"port": 9000}


@pytest.mark.parametrize("text", ["", "[server]\nport = 1\n", "[server]\nport = 1"])
def test_a_table_that_is_not_there_is_added(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    change_table(path, "objects", {"kind": "nodes"})
    found = tomllib.loads(path.read_text())
    assert found == {**tomllib.loads(text), "objects": {"kind": "nodes"}}
    assert path.read_text().startswith(text)


def test_a_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path):
    for name, act in (("a.toml", change_table), ("b.toml", write_table)):
        act(tmp_path / name, "objects", {"kind": "s3", "bucket": "b"})
        assert tomllib.loads((tmp_path / name).read_text()) == {
            "objects": {"kind": "s3", "bucket": "b"}
        }
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        'objects = {kind = "folder"}\n',
        'objects.kind = "folder"\n',
        '[objects]\n"kind" = "folder"\n',
        '[server]\nnote = """\n[objects]\nkind = "x"\n"""\n',
    ],
)
def test_a_file_that_is_written_otherwise_is_left_alone(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(InvalidError, match="cannot be changed by a program") as told:
        change_table(path, "objects", {"kind": "s3"})
    assert 'kind = "s3"' in told.value.next_step
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
