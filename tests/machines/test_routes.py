"""Nodes by REST and SDK, over a served house: machines join, are added, upgraded and removed."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import free_port
from tests.machines.conftest import METERS, NodeSite

from millpond.client.joining import Wanted, join_here
from millpond.client.trust import UntrustedError
from millpond.ground.errors import (
    ConflictError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    TooManyError,
)
from millpond.machines.authority import fingerprint_of
from millpond.machines.files import NodeFiles
from millpond.machines.values import WorkLine


def quick(_: float) -> None:
    """Ask again at once: each question is a request to the server."""


def wanted(node_site: NodeSite, folder: Path, **more: Any) -> Wanted:
    with node_site.client() as client:
        token = client.nodes.make_token().token
    ports = {"data_port": free_port(), "worker_port": free_port()}
    given = {"url": node_site.site.url, "token": token, "folder": folder, "name": "owl", **ports}
    return Wanted(**(given | more))


def test_a_machine_joins_and_keeps_its_files_to_itself(node_site: NodeSite, tmp_path: Path) -> None:
    said: list[str] = []
    config = join_here(wanted(node_site, tmp_path / "node"), said.append)
    files = NodeFiles(tmp_path / "node")
    assert files.read() == config
    assert config.installation == node_site.site.house.tls.authority.fingerprint
    assert fingerprint_of(files.authority.read_bytes()) == config.installation
    for path in (files.key, files.certificate, files.authority, files.config):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files.identity().client_context()
    with node_site.client() as client:
        node = client.nodes.get("owl").node
    assert (node.state, node.address) == ("joining", "127.0.0.1")
    assert node.slots == len(os.sched_getaffinity(0))


def test_a_machine_of_another_installation_is_left_alone(
    node_site: NodeSite, tmp_path: Path
) -> None:
    join_here(wanted(node_site, tmp_path / "node"), print)
    again = wanted(node_site, tmp_path / "node", name="kite")
    with pytest.raises(ConflictError, match=r"a node of .* already, as 'owl'"):
        join_here(again, print)
    path = NodeFiles(tmp_path / "node").config
    path.write_text(json.dumps({**json.loads(path.read_text()), "installation": "AB" * 32}))
    with pytest.raises(ConflictError, match="belongs to a node of another installation") as caught:
        join_here(again, print)
    assert "--folder" in caught.value.next_step


def test_a_taken_port_is_told_before_anything_is_sent(node_site: NodeSite, tmp_path: Path) -> None:
    port = int(node_site.site.url.rpartition(":")[2])
    asked = wanted(node_site, tmp_path / "node", data_port=port)
    with pytest.raises(ConflictError, match=f"Port {port} .* is taken") as caught:
        join_here(asked, print)
    assert "--data-port" in caught.value.next_step
    join_here(wanted(node_site, tmp_path / "node", token=asked.token), print)


def test_a_token_of_another_server_is_not_shown_to_this_one(
    node_site: NodeSite, tmp_path: Path
) -> None:
    asked = wanted(node_site, tmp_path / "node")
    forged = asked.token.rpartition(".")[0] + "." + "0" * 16
    with pytest.raises(UntrustedError, match="Nothing was sent"):
        join_here(wanted(node_site, tmp_path / "node", token=forged), print)
    with pytest.raises(InvalidError, match="no join token"):
        join_here(wanted(node_site, tmp_path / "node", token="x"), print)
    with pytest.raises(UntrustedError, match="could be read on the way"):
        join_here(wanted(node_site, tmp_path / "node", url="http://192.0.2.1:8787"), print)
    assert not (tmp_path / "node").exists()


def _guess(asked: Wanted, most: int) -> None:
    for _ in range(most):
        with pytest.raises(NotAllowedError):
            join_here(asked, print)


def test_guessing_tokens_is_slowed_down(node_site: NodeSite, tmp_path: Path) -> None:
    asked = wanted(node_site, tmp_path / "node")
    secret, _, end = asked.token.rpartition(".")
    wrong = wanted(node_site, tmp_path / "node", token=f"{secret[:-4]}AAAA.{end}")
    with pytest.raises(TooManyError):
        _guess(wrong, 30)
    with node_site.client() as client:
        assert client.nodes.list() == []


def _guess_from(node_site: NodeSite, address: str, tries: int) -> int:
    """Try tokens for the name owl from another address; give how many tries were looked at."""
    body = {
        "token": "mpj_wrong." + "0" * 16,
        "name": "owl",
        "csr": "",
        "version": "1",
        "sent_at": datetime.now(UTC).isoformat(),
        "facts": {"slots": 1, "cores": 1, "memory_bytes": 1, "python": "3.11", "address": address},
    }
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, base_url=node_site.site.url) as http:
        codes = [http.post("/api/v1/nodes/join", json=body).status_code for _ in range(tries)]
    return codes.count(403)


def test_a_newer_machine_that_tells_more_hears_of_its_version(
    node_site: NodeSite, tmp_path: Path
) -> None:
    facts = {"slots": 1, "cores": 1, "memory_bytes": 1, "python": "3.11", "address": "192.0.2.9"}
    body = {
        "token": wanted(node_site, tmp_path / "node").token,
        "name": "owl",
        "csr": "",
        "version": "99.0",
        "sent_at": datetime.now(UTC).isoformat(),
        "facts": {**facts, "quantum": 1},
        "colour": "green",
    }
    told = httpx.post(f"{node_site.site.url}/api/v1/nodes/join", json=body)
    assert told.status_code == 409
    assert "owl runs Millpond 99.0, and the server runs" in told.json()["detail"]


def test_guessing_from_elsewhere_keeps_no_machine_out(node_site: NodeSite, tmp_path: Path) -> None:
    """A stranger who knows a node's name stops nobody but themselves."""
    looked_at = [_guess_from(node_site, f"127.0.0.{last}", 9) for last in range(2, 16)]
    assert set(looked_at) == {8}
    join_here(wanted(node_site, tmp_path / "node"), print)
    with node_site.client() as client:
        assert [one.name for one in client.nodes.list()] == ["owl"]


def test_a_machine_is_added_by_a_job_whose_lines_are_followed(node_site: NodeSite) -> None:
    lines: list[WorkLine] = []
    with node_site.client() as client:
        [source] = client.nodes.sources()
        assert (source.name, source.introduction[:11]) == ("ssh", "ssh-ed25519")
        started = client.nodes.add("127.0.0.1", name="owl", labels={"room": "cellar"}, slots=1)
        ended = client.nodes.wait(started, lines.append, quick)
        assert (ended.state, ended.reason) == ("done", "")
        node = client.nodes.get("owl").node
        assert (node.state, node.slots, node.source) == ("up", 1, "ssh")
        assert (node.host_key, node.labels) == ("SHA256:abc", {"room": "cellar"})
        assert node_site.source.asked == ["create", "wait", "join"]
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        assert lines[-1].text == "owl is up and takes tasks."
        with pytest.raises(ConflictError, match="There is a node 'owl' already"):
            client.nodes.add("127.0.0.1", name="owl")

        upgraded = client.nodes.wait(client.nodes.upgrade("owl"), lines.append, quick)
        assert upgraded.state == "done"
        assert node_site.source.asked[-1].startswith("upgrade ")
        assert not client.nodes.get("owl").node.is_draining

        assert client.nodes.remove("owl").state == "removed"
        [stopping] = client.jobs.list(kind="machines.add", most=1)
        assert (
            client.nodes.wait(client.nodes.work(stopping.id), lines.append, quick).state == "done"
        )
        assert node_site.source.asked[-1] == "remove"


def test_what_cannot_become_a_node_says_why_to_whoever_follows(node_site: NodeSite) -> None:
    node_site.source.fault = NotAllowedError(
        "192.0.2.9 refuses the key.", next_step="Let its user take the key."
    )
    lines: list[WorkLine] = []
    with node_site.client() as client:
        started = client.nodes.add("127.0.0.1", name="owl")
        ended = client.nodes.wait(started, lines.append, quick)
        assert ended.state == "dead"
        assert "refuses the key" in ended.reason
        assert [line.state for line in lines][:2] == ["begun", "failed"]
        with pytest.raises(NotFoundError):
            client.nodes.get("owl")


def test_every_fault_of_an_order_is_told_at_once(node_site: NodeSite) -> None:
    with node_site.client() as client:
        with pytest.raises(InvalidError) as caught:
            client.nodes.add(
                "-oProxyCommand=x",
                name="Owl!",
                source="moon",
                data_disk="here",
                labels={"A": "x"},
            )
        fields = {fault.field for fault in caught.value.faults}
        assert fields == {"name", "source", "address", "data_disk", "labels.A"}
        with pytest.raises(ConflictError, match="other machines cannot reach"):
            client.nodes.add("192.0.2.9")
        with pytest.raises(NotFoundError, match="no work on a machine"):
            client.nodes.work("job_00000000000000000000")


def test_a_node_is_looked_after_by_the_sdk(node_site: NodeSite) -> None:
    node_site.add("owl")
    with node_site.client() as client:
        assert [(one.name, one.state) for one in client.nodes.list()] == [("owl", "up")]
        assert client.nodes.set("owl", price_per_hour=0.25).price_per_hour == 0.25
        assert client.nodes.set("owl", gpus_most=0).gpus_most == 0
        assert client.nodes.drain("owl").state == "draining"
        assert client.nodes.resume("owl").state == "up"
        node_site.source.beat("owl", meters={**METERS, "load1": 400.0})
        report = client.nodes.findings("owl")
        assert report.status == "warning"
        assert any("load 100.0 per core is above 2.0" in one.meaning for one in report.findings)
        health = client.system.findings()
        found = [one["state"] for one in health["findings"] if one["name"] == "node owl"]
        assert found == ["warning"]
        serial = client.nodes.get("owl").node.serial
        assert client.nodes.revoke("owl", "Stolen.", serial=serial)[0].reason == "Stolen."
        assert client.nodes.remove("owl").state == "removed"
        assert client.nodes.list() == []
        assert [one.state for one in client.nodes.list(removed=True)] == ["removed"]
    revoked = node_site.site.house.data / "cluster" / "revoked.json"
    assert json.loads(revoked.read_text()) == [serial]


def test_without_nodes_machines_are_told_how_to_open(portal_site: Any) -> None:
    site = NodeSite(portal_site, None)  # type: ignore[arg-type]
    with site.client() as client, pytest.raises(ConflictError) as caught:
        client.nodes.make_token()
    assert 'kind = "dask"' in caught.value.next_step


def millpond(node_site: NodeSite, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
    own = {"MILLPOND_URL": node_site.site.url, "MILLPOND_TOKEN": node_site.site.token("root")}
    command = [sys.executable, "-m", "millpond", "node", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**kept, **own}
    )


def test_several_machines_are_added_by_one_command(node_site: NodeSite) -> None:
    done = millpond(node_site, "add", "root@127.0.0.1", "localhost", "--label", "room=loft")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "127-0-0-1: done.\nlocalhost: done.\n"
    assert "127-0-0-1 is up and takes tasks." in done.stderr
    assert "localhost is up and takes tasks." in done.stderr
    listed = millpond(node_site, "list")
    assert listed.stdout.count(" up ") == 2
    refused = millpond(node_site, "add", "127.0.0.1", "localhost", "--name", "owl")
    assert refused.returncode == 6
    assert "One name cannot be that of several machines" in refused.stderr


def test_a_machine_that_fails_is_told_and_ends_the_command_so(node_site: NodeSite) -> None:
    node_site.source.fault = NotAllowedError("It refuses the key.", next_step="Copy the key.")
    done = millpond(node_site, "add", "127.0.0.1", "--name", "owl")
    assert done.returncode == 8
    assert "owl: It refuses the key. Copy the key." in done.stderr
    assert "millpond job requeue job_" in done.stderr


def test_a_node_with_tasks_is_removed_by_force(node_site: NodeSite) -> None:
    with node_site.client() as client:
        client.nodes.wait(client.nodes.add("127.0.0.1", name="owl", slots=1), print, quick)
        node_site.source.beat("owl", running=("r/s/0/1",))
        with pytest.raises(ConflictError, match="owl runs 1 task now"):
            client.nodes.remove("owl")
        assert client.nodes.remove("owl", force=True).state == "removed"
