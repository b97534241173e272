"""The grown installation: PostgreSQL and S3, two servers that share the work, one of them killed."""

import csv
import os
import secrets
import shutil
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from millpond import Client
from millpond.client.process import ServerProcess, start_server
from millpond.client.verifying import verify_file

FILES = 12
LEASE_SECONDS = 3
PIPELINE = """
import time
import six
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, memory="128 MiB", retries=1)
def measure(files: Files, seconds: float = 0.0) -> Table:
    for file in files:
        print("measuring", file.name, "with six", six.__version__, flush=True)
        time.sleep(seconds)
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


class Site:
    """Servers with a data folder each, on one database, one bucket and the same keys."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLPOND_")}
        self.environ |= {f"MILLPOND_{name.upper()}": value for name, value in settings.items()}
        self.servers: dict[str, ServerProcess] = {}

    def start(self, name: str) -> str:
        data = self.folder / name
        for other in self.servers.values():
            if not (data / "keys").exists():  # As the administrator's guide says.
                data.mkdir()
                shutil.copytree(other.data / "keys", data / "keys")
        server = self.servers[name] = start_server(
            data, host="127.0.0.1", port=0, log=self.folder / f"{name}.log", environ=self.environ
        )
        return server.wait_ready().url

    def kill(self, name: str) -> None:
        server = self.servers.pop(name)
        server.process.kill()
        server.process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end(self) -> None:
        for server in self.servers.values():
            server.process.kill()
            server.process.wait()
        for process in self.left():
            process.kill()


@pytest.fixture
def site(postgresql, ministack, tmp_path):
    with postgresql.database(empty=True) as url:
        made = Site(
            tmp_path,
            {
                "database_url": url,
                "objects_kind": "s3",
                "objects_bucket": "millpond-tests",
                "objects_endpoint": ministack,
                "objects_access_key_id": "test",
                "objects_secret_access_key": "test",
                "objects_allow_http": "true",
                "objects_prefix": secrets.token_hex(8),
                "jobs_lease_seconds": str(LEASE_SECONDS),
                "jobs_workers": "1",  # So that each server takes one of two runs.
            },
        )
        try:
            yield made
        finally:
            made.end()


def until(is_so, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_two_servers_share_the_work_and_one_of_them_is_killed(site, tmp_path):
    first, second = site.start("first"), site.start("second")
    environ = {"HOME": str(tmp_path)}
    with Client(data_folder=tmp_path / "first", environ=environ) as door:
        door.users.make("ana", "a long password of ana")
        token = door.account.sign_in("ana", "a long password of ana").text
    with Client(first, token, project="p", environ=environ) as one:
        one.projects.make("p")
        prepare(one, tmp_path)
    with Client(second, token, project="p", environ=environ) as two:
        runs = [two.runs.start("sizes", {"files": "data"}, {"seconds": 0.4}).id for _ in range(2)]
        until(lambda: all(two.runs.get(run).progress.items_done >= 2 for run in runs))
        assert both_work(site)
        site.kill("first")
        for run in runs:
            check_run(two, run, tmp_path / run)
        assert "Took over 1 job" in site.log("second")
        assert site.log("first").count("Traceback") == site.log("second").count("Traceback") == 0
        check_record(two, tmp_path)
        third = site.start("first")  # It comes back and finds all settled.
        with Client(third, token, project="p", environ=environ) as one:
            assert {one.runs.get(run).state for run in runs} == {"succeeded"}
            again = one.runs.start("sizes", {"files": "data"}).id
            check_run(one, again, tmp_path / again)
    for name, server in site.servers.items():
        assert server.stop() == 0, site.log(name)[-3000:]
    assert site.left() == []


def prepare(client: Client, folder: Path) -> None:
    """Push the data and the pipeline; its environment is locked and built."""
    code, data = folder / "code", folder / "data"
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
    environment = client.environments.wait(version.environment)
    assert environment.state == "ready"
    assert "six==1.17.0" in client.environments.lock(version.environment)


def both_work(site: Site) -> bool:
    """Each server has sandboxes of its own under it."""
    return all(
        any(
            "millpond" in " ".join(child.cmdline()) or child.name() == "bwrap" for child in children
        )
        for children in (
            psutil.Process(server.process.pid).children(recursive=True)
            for server in site.servers.values()
        )
    )


def check_run(client: Client, run_id: str, target: Path) -> None:
    run = client.runs.wait(run_id)
    assert run.state == "succeeded", run.reason
    tasks = client.runs.tasks(run_id)
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {("measure", number): 1 for number in range(FILES)} | {("add", 0): 1}
    client.runs.download(run_id, target)
    with (target / "tables" / "sizes.csv").open(newline="") as file:
        found = Counter((row["path"], row["size"]) for row in csv.DictReader(file))
    assert found == {(f"f{number}", str(number)): 1 for number in range(FILES)}, "each record once"
    total = (target / "tables" / "total.csv").read_text().split()
    assert total == ["total", str(sum(range(FILES)))]
    for name in ("report.html", "provenance.json", "statistics.json", "predictions.csv"):
        assert (target / name).stat().st_size > 0
    log = client.runs.log(run_id)
    assert log.is_complete
    assert all(f"measuring f{number} with six 1.17.0\n" in log.text for number in range(FILES))


def check_record(client: Client, folder: Path) -> None:
    """The record is verified here, from files: neither server nor database has a part in it."""
    export = client.log.export(folder / "log.jsonl")
    keys = folder / "keys.txt"
    keys.write_text("\n".join(each.public_key for each in client.log.key().keys))
    verdict = verify_file(export, keys.read_text())
    assert verdict.is_ok, verdict
    assert verdict.entries == len(client.log.list(most=None))
    verbs = Counter(entry.verb for entry in client.log.list(most=None))
    assert verbs["run.started"] == verbs["run.succeeded"] == 2
    data = export.read_bytes()
    export.write_bytes(data.replace(b"run.started", b"run.stopped", 1))
    assert not verify_file(export, keys.read_text()).is_ok
