"""What may be lost of a cluster in the middle of a run: the run ends right, and its page tells.

Server and scheduler are processes of this machine, as in the journeys; each node hangs on a cable
of its own and has a data disk of its own, so that cables can be pulled and disks can fill up.
"""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.journeys.test_cluster import Site, check_run, half_done, prepare, start_run, until

from millpond import Client
from millpond.pipelines.values import Task

NAMES = ("mill", "weir", "race")
GONE_SECONDS = 30.0
CUT_SECONDS = 10.0
DISK_MIB = 1280  # A node leaves a GiB of its disk free.
DEVICE = "millpond-losses-"  # With the number of the process that has mounted it.
SETTINGS = {"objects_kind": "nodes", "cluster_suspect_seconds": "3", "cluster_lost_seconds": "8"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def sh(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (words, done.stderr)


def why_not() -> str:
    """Say why there can be no cables here; empty when there can."""
    if os.geteuid() != 0:
        return "Pulling cables and filling disks needs root."
    with suppress(OSError):
        name = f"mpl-{secrets.token_hex(3)}"
        done = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
        if done.returncode == 0:
            sh("ip", "netns", "del", name)
            return ""
    return "Network namespaces cannot be made here."


def sweep() -> None:
    """Unmount the disks of tests that were killed: nobody could clear their folders away."""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, folder, *_ = line.split()
        owner = device.removeprefix(DEVICE)
        if owner != device and not Path("/proc", owner).exists():
            sh("umount", "-l", folder)


class Wired(Site):
    """A host and three nodes on a switch."""

    def __init__(self, folder: Path) -> None:
        self.run = secrets.token_hex(3)
        self.bridge = f"mpl{self.run}"
        block = 1 + int(self.run, 16) % 250
        super().__init__(folder, SETTINGS, f"10.88.{block}.1")
        sh("ip", "link", "add", self.bridge, "type", "bridge")
        sh("ip", "addr", "add", f"{self.address}/24", "dev", self.bridge)
        sh("ip", "link", "set", self.bridge, "up")
        for number, name in enumerate(NAMES):
            self.addresses[name] = f"10.88.{block}.{10 + number}"
            self.ways[name] = ["nsenter", f"--net=/run/netns/{self.space(name)}"]
            self.plug_in(name)

    def space(self, name: str) -> str:
        return f"mpl-{self.run}-{name}"

    def cable(self, name: str) -> str:
        return f"v{self.run}{NAMES.index(name)}"

    def plug_in(self, name: str) -> None:
        space = self.space(name)
        sh("ip", "netns", "add", space)
        sh("ip", "link", "add", self.cable(name), "type", "veth", "peer", "name", "eth0",
           "netns", space)  # fmt: skip
        sh("ip", "link", "set", self.cable(name), "master", self.bridge, "up")
        sh("ip", "-n", space, "link", "set", "lo", "up")
        sh("ip", "-n", space, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        sh("ip", "-n", space, "link", "set", "eth0", "up")

    def cut(self, *names: str) -> None:
        for name in names:
            sh("ip", "link", "set", self.cable(name), "down")

    def mend(self, *names: str) -> None:
        for name in names:
            sh("ip", "link", "set", self.cable(name), "up")

    def disk(self, name: str) -> Path:
        return self.folder / f"{name}-disk"

    def add(self, name: str) -> None:
        self.join(name, has_disk=True)
        options = f"size={DISK_MIB}m"
        sh("mount", "-t", "tmpfs", "-o", options, f"{DEVICE}{os.getpid()}", self.disk(name))
        self.start_node(name)

    def end(self) -> None:
        super().end()
        for name in NAMES:
            for path in (self.disk(name), self.kept(name)):
                while path.is_mount():
                    sh("umount", "-l", path)
            with suppress(AssertionError):
                sh("ip", "netns", "del", self.space(name))
        sh("ip", "link", "del", self.bridge)

    def kept(self, name: str) -> Path:
        return self.folder / f"{name}-kept"

    def unplug_disk(self, name: str) -> None:
        self.kept(name).mkdir(exist_ok=True)
        sh("mount", "--bind", self.disk(name), self.kept(name))
        sh("umount", "-l", self.disk(name))

    def plug_disk(self, name: str) -> None:
        sh("mount", "--bind", self.kept(name), self.disk(name))
        sh("umount", self.kept(name))

    # Looking -----------------------------------------------------------------------------------

    def is_whole(self) -> bool:
        """Tell whether there are two copies of everything on nodes that are there."""
        found = self.api.system.findings()["findings"]
        return any(each["name"] == "copies" and each["state"] == "ok" for each in found)

    def in_hand(self, name: str) -> set[int]:
        """Give the partitions that a node says it has, by its last heartbeat."""
        running = json.loads((self.folder / name / "status.json").read_text())["running"]
        return {int(key.split("/")[2]) for key in running}

    @property
    def api(self) -> Client:
        assert self.client is not None
        return self.client

    def page(self, path: str) -> str:
        """Give a page as words."""
        answer = httpx.get(f"{self.url}{path}", headers=self.headers, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.text

    @property
    def headers(self) -> dict[str, str]:
        environ = {"HOME": str(self.folder)}
        with Client(self.url, environ=environ) as client:
            token = client.account.sign_in("ana", "a long password of ana").text
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    if reason := why_not():
        if os.environ.get("MILLPOND_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    sweep()
    made = Wired(tmp_path_factory.mktemp("losses"))
    try:
        made.start_server()
        made.start_scheduler()
        made.open()
        for name in NAMES:
            made.add(name)
        until(lambda: len(made.nodes_up()) == len(NAMES))
        prepare(made.api, made.folder)
        yield made
    finally:
        made.end()


@pytest.fixture
def site(running: Wired) -> Iterator[Wired]:
    """Give the cluster with everything in order, and see that it comes to that again."""
    until(lambda: len(running.nodes_up()) == len(NAMES), 60)
    until(running.is_whole, 60)
    yield running
    until(lambda: len(running.nodes_up()) == len(NAMES), 60)
    until(running.is_whole, 60)


def suffer(
    site: Wired,
    target: Path,
    happen: Callable[[], None],
    *,
    node: str = "",
    seconds: float = 2.0,
    middle: Callable[[Client, str], None] = half_done,
) -> tuple[str, datetime, list[Task]]:
    """Let something happen in the middle of a run, which ends right; give its lost tries.

    Where it happens to a node, that has something of the run in hand.
    """
    run = start_run(site.api, seconds)
    middle(site.api, run)
    finished = {task.partition for task in site.api.runs.tasks(run) if task.state == "done"}
    if node:
        until(lambda: site.in_hand(node) - finished)
    lost_at = datetime.now(UTC)
    happen()
    check_run(site.api, run, target)
    assert site.api.runs.get(run).isolated, "a lost try says nothing of the sandbox"
    again = [task for task in site.api.runs.tasks(run) if task.state != "done"]
    assert {task.state for task in again} <= {"lost"}
    assert not finished & {task.partition for task in again if task.step == "measure"}
    return run, lost_at, again


def half_done_and_written(client: Client, run: str) -> None:
    """Wait until some tasks are done and others have been under way for more than a second.

    By then it is written where these run; what was not written so waits again, at no cost.
    """
    seen: dict[int, float] = {}

    def is_so() -> bool:
        tasks, now = client.runs.tasks(run), time.monotonic()
        begun = [task.partition for task in tasks if task.state == "running" and task.node]
        ages = [now - seen.setdefault(partition, now) for partition in begun]
        done = sum(task.state == "done" for task in tasks)
        return done >= 2 and any(1.5 < age < 3 for age in ages)

    until(is_so)


def is_told(site: Wired, run: str, lost: list[Task], node: str) -> None:
    """The run's tasks, and its page, tell what was lost with which node."""
    assert 0 < len(lost) <= 4, "only what the node had in hand: two, and their successors"
    for task in lost:
        assert task.node == node
        assert f"The node {node} was lost while the task was there: " in task.reason
    page = site.page(f"/projects/p/runs/{run}")
    assert f"lost on {node}" in page
    assert lost[0].reason in page


def events(site: Wired, node: str) -> list[str]:
    return [each.kind for each in site.api.nodes.get(node).events]


def test_a_worker_that_is_killed(site: Wired, tmp_path: Path) -> None:
    run, lost_at, lost = suffer(site, tmp_path / "run", lambda: site.kill("mill"), node="mill")
    is_told(site, run, lost, "mill")
    assert max((each.ended_at - lost_at).total_seconds() for each in lost if each.ended_at) < 10
    site.start_node("mill")


def test_a_worker_whose_power_is_cut(site: Wired, tmp_path: Path) -> None:
    run, lost_at, lost = suffer(site, tmp_path / "run", lambda: site.cut("weir"), node="weir")
    is_told(site, run, lost, "weir")
    took = [(each.ended_at - lost_at).total_seconds() for each in lost if each.ended_at]
    assert max(took) < GONE_SECONDS, "its tasks go elsewhere in time"
    until(lambda: events(site, "weir")[0] == "lost", 30)
    until(site.is_whole, 60)  # Of what it held there are two copies elsewhere.
    page = site.page("/admin/nodes/weir")
    assert "its tasks go elsewhere, and its data is copied from the other nodes" in page
    site.mend("weir")
    until(lambda: "weir" in site.nodes_up(), 60)
    assert events(site, "weir")[0] == "back"


def test_a_network_that_is_cut_for_ten_seconds_costs_no_try(site: Wired, tmp_path: Path) -> None:
    def happen() -> None:
        site.cut("race")
        time.sleep(CUT_SECONDS)  # The fault itself: so long it is cut.
        site.mend("race")

    _, _, lost = suffer(site, tmp_path / "run", happen, seconds=3.0)
    assert lost == []


def test_a_host_that_is_cut_off_for_ten_seconds_costs_no_try(site: Wired, tmp_path: Path) -> None:
    def happen() -> None:
        site.cut(*NAMES)
        time.sleep(CUT_SECONDS)  # The fault itself: so long it is cut.
        site.mend(*NAMES)

    _, _, lost = suffer(site, tmp_path / "run", happen, seconds=3.0)
    assert lost == []


def test_a_worker_that_stands_still(site: Wired, tmp_path: Path) -> None:
    process = site.processes["mill"]
    run, lost_at, lost = suffer(
        site,
        tmp_path / "run",
        lambda: process.send_signal(signal.SIGSTOP),
        node="mill",
        seconds=3.0,
    )
    process.send_signal(signal.SIGCONT)
    is_told(site, run, lost, "mill")
    took = [(each.ended_at - lost_at).total_seconds() for each in lost if each.ended_at]
    assert max(took) < GONE_SECONDS
    until(lambda: "mill" in site.nodes_up(), 60)
    again = start_run(site.api, 0.3)
    assert "mill" in check_run(site.api, again, tmp_path / "again"), "it works as before"


def test_a_data_disk_that_is_gone(site: Wired, tmp_path: Path) -> None:
    _, _, lost = suffer(site, tmp_path / "run", lambda: site.unplug_disk("weir"))
    assert len(lost) <= 4
    until(lambda: not site.api.nodes.get("weir").node.store.is_ok, 20)
    until(site.is_whole, 60)
    assert "data disk of the node &#39;weir&#39; is not there" in site.page("/admin/nodes/weir")
    site.plug_disk("weir")
    until(lambda: site.api.nodes.get("weir").node.store.is_ok, 60)


def test_a_data_disk_that_is_full(site: Wired, tmp_path: Path) -> None:
    filling = site.disk("race") / "full"

    def happen() -> None:
        with suppress(OSError), filling.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    _, _, lost = suffer(site, tmp_path / "run", happen)
    assert lost == []
    until(lambda: site.api.nodes.get("race").node.store.free_bytes < 1 << 16, 20)
    assert "its data disk has no room for more" in site.page("/admin/nodes/race")
    filling.unlink()


def test_a_host_that_starts_anew_loses_what_was_in_hand_and_nothing_else(
    site: Wired, tmp_path: Path
) -> None:
    def happen() -> None:
        assert site.server is not None
        site.server.process.kill()
        site.server.process.wait()
        site.kill("scheduler")
        site.start_server()
        site.start_scheduler()

    run = tmp_path / "run"
    _, _, lost = suffer(site, run, happen, seconds=5.0, middle=half_done_and_written)
    words = "The server stopped while it ran", "the scheduler was started anew", "was lost while"
    assert lost
    assert all(any(each in task.reason for each in words) for task in lost)
