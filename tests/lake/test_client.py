"""Datasets and uploads from Python and the command line, against a server."""

import json

import pytest
from click.testing import CliRunner

from millpond.client.cli import cli
from millpond.client.client import Client
from millpond.ground.errors import InvalidError

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def client(portal_site):
    token = portal_site.token("editor")
    with Client(portal_site.url, token, project="birds", environ={}) as opened:
        yield opened


@pytest.fixture
def run(portal_site, tmp_path):
    environment = {
        "MILLPOND_URL": portal_site.url,
        "MILLPOND_TOKEN": portal_site.token("editor"),
        "MILLPOND_PROJECT": "birds",
        "HOME": str(tmp_path),
    }

    def invoke(*arguments):
        result = CliRunner().invoke(cli, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tables"
    (made / "in").mkdir(parents=True)
    (made / "in" / "t.csv").write_text("name,n\na,1\n,2\n")
    (made / "note.txt").write_text("first line\nsecond \x1b[31mline\n")
    return made


def test_versions_are_browsed_looked_into_and_added_to(client, folder):
    client.datasets.push(folder, "d")
    (folder / "note.txt").unlink()
    (folder / "in" / "t.csv").write_text("name,n\nb,3\n")
    added = client.datasets.push(folder, "d", add=True)
    assert (added.version.number, added.version.file_count) == (2, 2)
    items = list(client.datasets.tree("d@2"))
    assert [(item.path, item.is_folder) for item in items] == [("in", True), ("note.txt", False)]
    assert [item.path for item in client.datasets.tree("d", search="CSV")] == ["in/t.csv"]
    shown = client.datasets.preview("d@1", "in/t.csv")
    assert shown.rows == (("a", "1"), ("", "2"))
    assert [column.kind for column in shown.columns] == ["text", "whole number"]
    assert [one.name for one in client.datasets.list(search="D")] == ["d"]
    assert client.datasets.list(search="zz") == []
    with pytest.raises(InvalidError, match="'new' is kept for Millpond itself"):
        client.datasets.push(folder, "new")


def test_commands_show_files_and_harmless_text(run, folder):
    run("dataset", "push", str(folder), "--name", "d")
    table = run("dataset", "show", "d@1", "in/t.csv")
    assert "name (text)" in table
    text = run("dataset", "show", "d", "note.txt")
    assert "first line" in text
    assert "\x1b" not in text
    assert "in/" in run("dataset", "files", "d", "--in", ".")
    assert "in/t.csv" in run("dataset", "files", "d", "--search", "csv")
    assert "d" in run("dataset", "list", "--search", "d")
    again = run("dataset", "push", str(folder), "--name", "d", "--add")
    assert "holds exactly this already" in again


def test_uploads_under_way_are_listed_and_removed(client, run, portal_site):
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": "filename YQ=="}
    with portal_site.browser("editor") as http:
        made = http.post("/api/v1/projects/birds/uploads", headers=headers)
    key = made.headers["location"].rpartition("/")[2]
    (found,) = client.uploads.list(finished=False)
    assert (found.id, found.received_bytes, found.digest) == (key, 0, None)
    assert client.uploads.list(finished=True) == []
    assert key in run("upload", "list")
    assert json.loads(run("upload", "show", key, "--json"))["path"] == "a"
    run("upload", "remove", key)
    assert client.uploads.list() == []
