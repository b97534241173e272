"""Machines become nodes by the command line, over TLS, and are looked after by it."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import free_port

from millpond.client.process import ServerProcess, start_server


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[ServerProcess]:
    """Start a server that takes nodes, by TLS with a certificate of its own authority."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(place),
        "MILLPOND_ENGINE_KIND": "dask",
        "MILLPOND_CLUSTER_ADDRESS": "127.0.0.1",
        "MILLPOND_CLUSTER_DOOR_PORT": str(free_port()),
        "MILLPOND_CLUSTER_SCHEDULER_PORT": str(free_port()),
    }
    log = place / "server.log"
    started = start_server(place / "data", port=0, log=log, environ=environ, flags=["--tls"])
    try:
        started.wait_ready()
        yield started
    finally:
        assert started.stop() == 0, log.read_text()[-2000:]


class Machine:
    """A machine that could become a node: it knows nothing of the server but what it is told."""

    def __init__(self, make_shell: Any, place: Path, name: str) -> None:
        self.folder = place / name
        self.folder.mkdir()
        variables = {
            "MILLPOND_CONFIG": str(self.folder / "c.toml"),
            "MILLPOND_DATA": str(self.folder / "nothing"),
            "HOME": str(self.folder),
        }
        self.shell = make_shell(self.folder, variables)
        ports = ["--data-port", str(free_port()), "--worker-port", str(free_port())]
        self.words = ["--name", name, "--folder", str(self.folder / "node"), *ports]


@pytest.mark.slow
def test_a_machine_joins_by_the_line_that_the_token_comes_with(
    shell: Any, make_shell: Any, place: Path
) -> None:
    assert "There are no nodes yet" in shell.run("node", "ls").stdout
    made = shell.json("node", "token", "--name", "owl", "--slots", "2", "--label", "room=cellar")
    assert made["command"].startswith("millpond node join https://127.0.0.1:")
    owl = Machine(make_shell, place, "owl")
    said = owl.shell.run(*made["command"].split()[1:], *owl.words)
    assert "owl has joined https://127.0.0.1:" in said.stdout
    assert f"python -m millpond.worker --folder {owl.folder}/node" in said.stdout
    assert stat.S_IMODE((owl.folder / "node" / "node.key").stat().st_mode) == 0o600
    kept = json.loads((owl.folder / "node" / "node.json").read_text())
    assert kept["name"] == "owl"
    assert made["token"].split(".")[1] == kept["installation"][:16]

    [node] = shell.json("node", "list")
    assert (node["name"], node["state"], node["slots"]) == ("owl", "joining", 2)
    assert node["labels"] == {"room": "cellar"}
    shown = shell.run("node", "show", "owl").stdout
    assert "It joined from 127.0.0.1" in shown
    look = shell.run("node", "doctor", "owl").stdout
    assert "was never heard of since" in look
    health = shell.run("system", "health", code=1).stdout  # No scheduler runs.
    assert "millpond-scheduler" in health

    fault = owl.shell.fault(*made["command"].split()[1:], *owl.words, code=5)
    assert "a node of https://127.0.0.1" in fault["message"]


@pytest.mark.slow
def test_a_machine_sends_its_token_to_no_other_server(
    shell: Any, make_shell: Any, place: Path
) -> None:
    made = shell.json("node", "token")
    url = made["command"].split()[3]
    kite = Machine(make_shell, place, "kite")
    other = made["token"].rpartition(".")[0] + "." + "0" * 16
    fault = kite.shell.fault("node", "join", url, other, *kite.words, code=4)
    assert "Nothing was sent to it" in fault["message"]
    fault = kite.shell.fault(
        "node", "join", "http://192.0.2.1:8787", made["token"], *kite.words, code=4
    )
    assert "could be read on the way" in fault["message"]
    assert not (kite.folder / "node").exists()
    # By standard input no other user of the machine sees the token.
    kite.shell.run("node", "join", url, "-", *kite.words, told=made["token"])
    wren = Machine(make_shell, place, "wren")
    fault = wren.shell.fault("node", "join", url, made["token"], *wren.words, code=4)
    assert "was used already, by kite" in fault["message"]
    assert "millpond node token" in fault["next_step"]


@pytest.mark.slow
def test_a_node_is_looked_after(shell: Any) -> None:
    bounds = ("--slots", "1", "--gpus", "2", "--price", "0.4")
    changed = shell.json("node", "set", "owl", *bounds, "--no-labels")
    assert changed["gpus_most"] == 2
    assert (changed["slots_most"], changed["price_per_hour"], changed["labels"]) == (1, 0.4, {})
    assert "takes no more; 0 tasks left" in shell.run("node", "drain", "owl").stdout
    assert "takes tasks again" in shell.run("node", "resume", "owl").stdout
    fault = shell.fault("node", "upgrade", "owl", code=5)
    assert "joined by itself" in fault["message"]
    fault = shell.fault("node", "set", "owl", "--label", "room", code=6)
    assert "KEY=VALUE" in fault["next_step"]
    assert shell.json("node", "sources")[0]["name"] == "ssh"


@pytest.mark.slow
def test_a_stolen_key_is_shut_out_and_the_machine_may_come_back(
    shell: Any, make_shell: Any, place: Path, server: ServerProcess
) -> None:
    serial = shell.json("node", "show", "owl")["node"]["serial"]
    shell.fault("node", "revoke", "owl", serial, "--reason", "stolen", code=6)  # Nobody said yes.
    shell.run("node", "revoke", "owl", serial, "--reason", "stolen", "--yes")
    assert serial in json.loads((server.data / "cluster" / "revoked.json").read_text())
    shell.run("node", "remove", "owl", "--yes")
    assert [one["name"] for one in shell.json("node", "ls")] == ["kite"]
    assert [one["name"] for one in shell.json("node", "ls", "--all")] == ["kite", "owl"]
    again = Machine(make_shell, place, "owl-again")
    again.words[1] = "owl"
    command = shell.json("node", "token")["command"].split()[1:]
    again.shell.run(*command, *again.words)
    assert shell.json("node", "show", "owl")["node"]["serial"] != serial
