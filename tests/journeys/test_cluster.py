"""A cluster of real processes on loopback: server, scheduler and workers; each of them fails once."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from millpond import Client
from millpond.client.process import ServerProcess, start_server
from millpond.machines.running import TaskNow

FILES = 12
PIPELINE = """
import time
import six
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, memory="128 MiB", retries=0)
def measure(files: Files, seconds: float = 0.0) -> Table:
    for file in files:
        print("measuring", file.name, "with six", six.__version__, flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            print("still", file.name, flush=True)
            time.sleep(0.1)
        yield {"path": file.name, "size": file.size}

@step(memory="128 MiB")
def add(sizes: Table) -> Table:
    yield {"total": sum(row["size"] for row in sizes)}

@pipeline
def sizes(files: Files, seconds: float = 0.0) -> {"sizes": Table, "total": Table}:
    "Sizes of files, told slowly."
    measured = measure(files, seconds=seconds)
    return {"sizes": measured, "total": add(measured)}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(is_so: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)
    return found


class Site:
    """A host and nodes, each with a folder of its own below one."""

    def __init__(self, folder: Path, settings: dict[str, str], address: str = "127.0.0.1") -> None:
        self.folder, self.data, self.address = folder, folder / "data", address
        self.addresses: dict[str, str] = {}  # Of nodes that have one of their own.
        self.ways: dict[str, list[str]] = {}  # The words that start a process elsewhere.
        self.scheduler_port, self.door_port = free_port(), free_port()
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        self.environ |= {
            f"MILLPOND_{name.upper()}": value
            for name, value in {
                "engine_kind": "dask",
                "cluster_address": address,
                "cluster_door_host": address,
                "cluster_scheduler_port": str(self.scheduler_port),
                "cluster_door_port": str(self.door_port),
                "cluster_heartbeat_seconds": "0.5",
                "cluster_suspect_seconds": "5",
                "cluster_load_most": "1000",
                "cluster_free_disk_least": "0",
                "cluster_free_memory_least": "0",
                "jobs_lease_seconds": "4",
                **settings,
            }.items()
        }
        self.server: ServerProcess | None = None
        self.url = ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client: Client | None = None

    def start_server(self, **settings: str) -> None:
        port = self.url.rpartition(":")[2] or 0
        environ = self.environ | {f"MILLPOND_{k.upper()}": v for k, v in settings.items()}
        self.server = start_server(
            self.data,
            host="127.0.0.1",
            port=int(port),
            log=self.folder / "server.log",
            environ=environ,
        )
        self.url = self.server.wait_ready().url

    def open(self) -> Client:
        """Make an administrator, and give their client."""
        environ = {"HOME": str(self.folder)}
        with Client(data_folder=self.data, environ=environ) as local:
            local.users.make("ana", "a long password of ana", is_admin=True)
            token = local.account.sign_in("ana", "a long password of ana").text
        self.client = Client(self.url, token, project="p", environ=environ)
        self.client.projects.make("p")
        return self.client

    def start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self.ways.get(name, ()), sys.executable, "-m", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environ,
                cwd=self.folder,
            )

    def start_scheduler(self) -> None:
        self.start(
            "scheduler",
            "millpond.engine.cluster.scheduler",
            "--folder", str(self.data / "cluster"),
            "--authority", str(self.data / "keys" / "authority.crt"),
            "--host", self.address,
            "--port", str(self.scheduler_port),
        )  # fmt: skip

    def join(self, name: str, *, has_disk: bool) -> None:
        folder = self.folder / name
        (self.folder / f"{name}-disk").mkdir()
        assert self.client is not None
        token = self.client.nodes.make_token(name=name).token
        words = ["--name", name, "--folder", str(folder), "--slots", "2"]
        words += [
            "--address",
            self.addresses.get(name, "127.0.0.1"),
            "--data-port",
            str(free_port()),
        ]
        words += ["--worker-port", str(free_port())]
        if has_disk:
            words += ["--data-disk", str(self.folder / f"{name}-disk")]
        done = subprocess.run(
            [sys.executable, "-m", "millpond", "node", "join", self.url, token, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self.environ,
        )
        assert done.returncode == 0, done.stderr

    def start_node(self, name: str) -> None:
        self.start(name, "millpond.worker", "--folder", str(self.folder / name))

    def nodes_up(self) -> list[str]:
        assert self.client is not None
        return [one.name for one in self.client.nodes.list() if one.state == "up"]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def traces(self, name: str) -> list[str]:
        """Give the lines of a log that show a defect of ours; Dask says its own when peers go."""
        lines = self.log(name).splitlines()
        return [each for each in lines if '"logger": "millpond' in each and '"trace"' in each]

    def left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self) -> None:
        if self.client is not None:
            self.client.close()
        for process in [*self.processes.values()]:
            process.kill()
            process.wait()
        if self.server is not None and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()
        for process in self.left():
            process.kill()


@pytest.fixture(scope="module", params=["folder", "nodes", "s3"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Start a host and two nodes, with objects in a folder, on the nodes' disks, or on S3."""
    tmp_path = tmp_path_factory.mktemp("cluster")
    settings = {"objects_kind": request.param}
    if request.param == "s3":
        # The one that checks signatures: host and nodes sign for themselves.
        settings |= request.getfixturevalue("swift").variables()
    made = Site(tmp_path, settings)
    try:
        made.start_server()
        made.start_scheduler()
        made.open()
        for name in ("mill", "weir"):
            made.join(name, has_disk=request.param == "nodes")
            made.start_node(name)
        until(lambda: len(made.nodes_up()) == 2)
        prepare(made.client, tmp_path)
        yield made
    finally:
        made.end()


def prepare(client: Client, folder: Path) -> None:
    """Push the data and the pipeline; its environment is locked and built."""
    code, data = folder / "code", folder / "files"
    code.mkdir()
    data.mkdir()
    (code / "pipeline.py").write_text(PIPELINE)
    (code / "requirements.txt").write_text("six==1.17.0\n")
    for number in range(FILES):
        (data / f"f{number}").write_text("x" * number)
    assert client.datasets.push(data, "data").version.file_count == FILES
    client.pipelines.push(code, "sizes")
    version = client.pipelines.wait("sizes")
    assert version.state == "ready", (version.reason, version.faults)


def check_run(client: Client, run_id: str, target: Path) -> Counter[str]:
    """The run is right and whole; give how many of its tasks each node did."""
    run = client.runs.wait(run_id)
    assert run.state == "succeeded", run.reason
    tasks = client.runs.tasks(run_id)
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {("measure", number): 1 for number in range(FILES)} | {("add", 0): 1}
    client.runs.download(run_id, target)
    with (target / "tables" / "sizes.csv").open(newline="") as file:
        found = Counter((row["path"], row["size"]) for row in csv.DictReader(file))
    assert found == {(f"f{number}", str(number)): 1 for number in range(FILES)}, "each record once"
    log = client.runs.log(run_id)
    assert log.is_complete
    assert all(f"measuring f{number} with six 1.17.0\n" in log.text for number in range(FILES))
    return Counter(task.node for task in tasks if task.state == "done")


def start_run(client: Client, seconds: float) -> str:
    return client.runs.start("sizes", {"files": "data"}, {"seconds": seconds}).id


def half_done(client: Client, run_id: str) -> None:
    """Wait until some tasks are done and others are under way."""
    until(lambda: client.runs.get(run_id).progress.items_done >= 2)


@pytest.mark.slow
def test_a_run_spreads_over_the_nodes(site: Site, tmp_path: Path) -> None:
    run = start_run(site.client, 0.3)
    assert set(check_run(site.client, run, tmp_path / "run")) == {"mill", "weir"}


@pytest.mark.slow
@pytest.mark.parametrize("site", ["folder"], indirect=True)
def test_what_tasks_on_nodes_take_is_told_while_they_run(site: Site) -> None:
    run = start_run(site.client, 600.0)

    def measured() -> dict[str, TaskNow]:
        found = [task.now for task in site.client.runs.tasks(run, state="running")]
        return {now.node: now for now in found if now and now.cpu_cores is not None}

    told = until(lambda: found if len(found := measured()) == 2 else None)
    assert set(told) == {"mill", "weir"}
    for name, now in told.items():
        assert 1 << 20 < now.memory_bytes < now.memory_limit_bytes == 128 << 20
        tasks = {each.key: each for each in site.client.nodes.get(name).tasks}
        assert tasks[now.key].now
        owner = tasks[now.key].owner
        assert owner
        assert (owner.run, owner.what, owner.step) == (run, "sizes@1", "measure")
    site.client.runs.cancel(run)
    site.client.runs.wait(run)
    until(lambda: not any(site.client.nodes.get(name).tasks for name in told))


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_only_what_it_had_in_hand(site: Site, tmp_path: Path) -> None:
    run = start_run(site.client, 1.0)
    half_done(site.client, run)
    site.kill("mill")
    left = [p for p in site.left() if str(site.folder / "mill") in " ".join(p.cmdline())]
    _, alive = psutil.wait_procs(left, timeout=3)
    assert not alive, "its sandboxes end with it"
    site.start_node("mill")
    check_run(site.client, run, tmp_path / "run")
    lost = [task for task in site.client.runs.tasks(run) if task.state != "done"]
    assert 0 < len(lost) <= 4, "two tasks, and their successors that wait there"
    assert all("mill" in task.reason for task in lost)
    until(lambda: len(site.nodes_up()) == 2)


@pytest.mark.slow
def test_a_server_that_is_killed_finds_its_tasks_again(site: Site, tmp_path: Path) -> None:
    run = start_run(site.client, 1.0)
    half_done(site.client, run)
    site.server.process.kill()
    site.server.process.wait()
    site.start_server()
    check_run(site.client, run, tmp_path / "run")
    again = [task for task in site.client.runs.tasks(run) if task.state != "done"]
    assert not [task for task in again if task.node], "what nodes had in hand went on"


@pytest.mark.slow
def test_a_server_that_stands_still_costs_no_task_and_no_line_of_a_log(
    site: Site, tmp_path: Path
) -> None:
    run = start_run(site.client, 3.0)
    half_done(site.client, run)
    site.server.process.send_signal(signal.SIGSTOP)
    time.sleep(10)  # The fault itself: so long it stands still.
    site.server.process.send_signal(signal.SIGCONT)
    check_run(site.client, run, tmp_path / "run")
    assert {task.state for task in site.client.runs.tasks(run)} == {"done"}
    text = site.client.runs.log(run).text
    for number in range(FILES):
        assert text.count(f"still f{number}\n") >= 20


@pytest.mark.slow
def test_a_scheduler_that_is_started_anew_costs_only_what_was_in_hand(
    site: Site, tmp_path: Path
) -> None:
    run = start_run(site.client, 1.0)
    half_done(site.client, run)
    site.kill("scheduler")
    site.start_scheduler()
    check_run(site.client, run, tmp_path / "run")


@pytest.mark.slow
def test_nothing_of_it_can_be_reached_from_elsewhere(site: Site) -> None:
    own = {process.pid for process in site.left()}
    heard = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in heard if each.pid in own} == {"127.0.0.1"}


@pytest.mark.slow
def test_all_ends_when_it_is_told_and_leaves_nothing(site: Site) -> None:
    for name in ("mill", "weir", "scheduler"):
        process = site.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, site.log(name)[-3000:]
    for name in ("mill", "weir"):
        assert site.traces(name) == []
        status = json.loads((site.folder / name / "status.json").read_text())
        assert status["state"] == "stopped"
    assert site.server.stop() == 0
    assert site.traces("server") == []
    assert site.left() == []
