"""An installation outgrows its folder: its objects move to S3 and back by the command line."""

import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.journeys.test_cluster import Site, until

from millpond.client.process import start_server

FILES = 150  # After the large one they come in one batch, so that an end between is possible.
SETTINGS = """\
[server]  # Of our lab.
stop_seconds = 20

[objects]
kind = "folder"  # The bucket waits.
bucket = "millpond-tests"
endpoint = "{endpoint}"
access_key_id = "test"
secret_access_key = "test"
allow_http = true
prefix = "{prefix}"

[jobs]
workers = 1
"""


@contextmanager
def running(shell, folder):
    server = start_server(
        folder / "data", host="127.0.0.1", port=0, log=folder / "log", environ=shell.environ
    )
    try:
        server.wait_ready()
        yield server
    finally:
        assert server.stop() == 0, (folder / "log").read_text()[-2000:]


@pytest.fixture
def site(tmp_path, make_shell, ministack):
    """Give the shell of an administrator with data, whose server is stopped."""
    shell = make_shell(
        tmp_path,
        {
            "MILLPOND_CONFIG": str(tmp_path / "config.toml"),
            "MILLPOND_DATA": str(tmp_path / "data"),
            "HOME": str(tmp_path),
        },
    )
    (tmp_path / "data").mkdir(mode=0o700)
    text = SETTINGS.format(endpoint=ministack, prefix=secrets.token_hex(8))
    (tmp_path / "data" / "settings.toml").write_text(text)
    (tmp_path / "birds").mkdir()
    for number in range(FILES):
        (tmp_path / "birds" / f"bird{number}").write_text(f"bird {number}")
    (tmp_path / "birds" / "large").write_bytes(os.urandom(12 << 20))
    with running(shell, tmp_path):
        shell.run("project", "make", "lab")
        shell.run("project", "use", "lab")
        shell.run("dataset", "push", "birds")
    return shell


def kill_in_the_middle(shell) -> int:
    """Begin a move and end all of it as a power cut would; give how many objects were noted."""
    command = [sys.executable, "-m", "millpond", "store", "move", "--to", "s3", "--yes"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environ, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as moving:  # fmt: skip
        while not (noted := count_noted(shell.folder)):
            assert moving.poll() is None
        os.killpg(moving.pid, signal.SIGKILL)
    return noted


def count_noted(folder: Path) -> int:
    path = folder / "data" / "moves" / "journal.db"
    if not path.with_name("journal.db-wal").exists():
        return 0  # Nobody writes to it, or it is being made.
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM copied").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # Its tables are not made yet.


def check_data(shell, name):
    shell.run("dataset", "download", "birds", name)
    for path in (shell.folder / "birds").iterdir():
        assert (shell.folder / name / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_objects_move_to_s3_and_back(site):
    folder, shell = site.folder, site
    settings = folder / "data" / "settings.toml"
    before = settings.read_text()
    refused = shell.fault("store", "move", "--to", "s3", code=6)
    assert "Nobody is here to answer" in refused["message"]
    assert 0 < kill_in_the_middle(shell) < FILES
    with running(shell, folder):  # Nothing was switched: it goes on as before.
        check_data(shell, "between")

    done = shell.run("store", "move", "--to", "s3", "--yes")
    assert "Left to copy" in done.stderr
    assert "are moved and verified" in done.stdout
    assert settings.read_text() == before.replace('"folder"', '"s3"')
    assert (folder / "data" / "settings.toml.before").read_text() == before
    with running(shell, folder):
        check_data(shell, "on-s3")
        (folder / "later").write_text("made on S3")
        shell.run("dataset", "push", "later")
        entries = shell.json("log", "show", "--site")
        assert "objects.moved" in [entry["verb"] for entry in entries]
        found = {one["name"]: one for one in shell.json("system", "health")["findings"]}
        assert "millpond store remove-old" in found["old copy"]["next_step"]

    settings.write_text(before)  # By hand, which is not how it is done.
    server = start_server(
        folder / "data", host="127.0.0.1", port=0, log=folder / "refused", environ=shell.environ
    )
    assert server.process.wait(60) == 5
    told = (folder / "refused").read_text()
    assert "The settings name the folder" in told
    assert "millpond store move --to folder" in told
    settings.write_text(before.replace('"folder"', '"s3"'))

    removed = shell.json("store", "remove-old", "--yes")
    assert removed["kept"] == 0
    assert removed["objects"] > FILES
    left = [path for path in (folder / "data" / "objects").rglob("*") if path.is_file()]
    assert left == []

    with running(shell, folder):
        ahead = shell.json("store", "move", "--to", "folder", "--yes")
        assert not ahead["is_switched"]
        (folder / "last").write_text("made while all was copied ahead")
        shell.run("dataset", "push", "last")
    back = shell.json("store", "move", "--to", "folder", "--yes")
    assert back["is_switched"]
    assert 0 < back["copied_objects"] < 10
    assert settings.read_text() == before
    with running(shell, folder):
        check_data(shell, "back")
        shell.run("log", "verify", "--all")


@pytest.mark.slow
def test_objects_move_to_the_disks_of_nodes_and_back_to_a_host_alone(tmp_path, make_shell):
    site = Site(tmp_path, {})
    shell = make_shell(tmp_path, site.environ | {"HOME": str(tmp_path)})
    words = ("--data", str(site.data), "--yes")
    data = {f"f{number}": os.urandom(number * 30_000) for number in range(12)}
    (tmp_path / "files").mkdir()
    for name, content in data.items():
        (tmp_path / "files" / name).write_bytes(content)

    def check(folder: str) -> None:
        client.datasets.download("files", tmp_path / folder)
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == data

    try:
        site.start_server()
        site.start_scheduler()
        client = site.open()
        client.datasets.push(tmp_path / "files", "files")
        told = shell.fault("store", "move", "--to", "nodes", *words, code=7)
        assert "2 nodes with a data disk must be up. Nodes: none is known." in told["message"]
        for name in ("mill", "weir"):
            site.join(name, has_disk=True)
            site.start_node(name)
        until(lambda: len(site.nodes_up()) == 2)

        ahead = shell.json("store", "move", "--to", "nodes", *words)
        assert (ahead["is_switched"], ahead["damaged"]) == (False, [])
        assert ahead["copied_objects"] >= len(data)
        assert site.server.stop() == 0
        moved = shell.json("store", "move", "--to", "nodes", *words)
        assert moved["is_switched"]
        assert (site.data / "settings.toml").read_text() == '[objects]\nkind = "nodes"\n'
        site.start_server()
        removed = shell.json("store", "remove-old", *words)
        assert removed["kept"] == 0
        assert removed["objects"] >= len(data)
        check("on-nodes")

        assert site.server.stop() == 0
        assert shell.json("store", "move", "--to", "folder", *words)["is_switched"]
        for name in ("mill", "weir", "scheduler"):
            site.kill(name)
        site.start_server(engine_kind="local")
        check("alone")
        assert client.log.verify().is_ok
        assert site.traces("server") == []
    finally:
        site.end()


def test_only_the_servers_own_user_works_on_its_objects(tmp_path, make_shell):
    shell = make_shell(tmp_path, {"HOME": str(tmp_path)})
    words = ("store", "move", "--to", "folder", "--yes", "--data", str(tmp_path / "data"))
    assert "is not the data folder of a server" in shell.fault(*words, code=3)["message"]
    (tmp_path / "data").mkdir()
    if os.geteuid() == 0:
        (tmp_path / "data" / "keys").mkdir()
        shutil.chown(tmp_path / "data" / "keys", "nobody")
    else:
        (tmp_path / "data" / "keys").symlink_to("/etc")
    told = shell.fault(*words, code=4)
    assert "belongs to the user" in told["message"]
    assert "sudo -u" in told["next_step"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["keys"]
